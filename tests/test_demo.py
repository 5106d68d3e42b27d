"""The first look, in miniature: from nothing to its report."""

from command_line import run

import transfer_risk as tr
from transfer_risk import demo
from transfer_risk.scoretables import read_ranking
from transfer_risk.study import METHODS


def test_the_demo_runs_to_its_report_and_says_where_things_are(tmp_path, monkeypatch):
    small = {"width": 2, "depth": 2, "iterations": 2}
    template, pretrain, recipe = demo.load_template, demo.pretrain, demo.Recipe
    monkeypatch.setattr(demo, "load_template", lambda spacing: template(spacing=3 * spacing))
    monkeypatch.setattr(demo, "pretrain", lambda task, **given: pretrain(task, **given | small))
    monkeypatch.setattr(demo, "Recipe", lambda **given: recipe(**given | {"iterations": 2}))
    place = tmp_path / "first look"
    made = run("demo", "--quick", "--out", place)
    assert made.exit_code == 0, made.output
    ranking = read_ranking(place / "ranking")
    best = ranking[0]["source"]
    assert len(ranking) == 6 and f"Start from {best}. Look at {place}/figure.png" in made.stdout
    for name in ("figure.png", "before_after.png"):
        assert (place / name).read_bytes().startswith(b"\x89PNG")
    runs = [tr.load_run(place / "runs" / method) for method in METHODS]
    assert all(r.manifest["finished"] and r.config["method"] == r.name for r in runs)
    task = tr.load_task(place / "tasks" / f"{demo.TARGET}.toml")
    maps = {f"{c.id}_risk.nii.gz" for c in task.split("test")}
    assert maps and maps <= {p.name for p in (place / "maps").iterdir()}
    assert (place / "comparison" / "comparison.json").is_file()
    again = run("demo", "--quick", "--out", place)
    assert again.exit_code == 1 and "is not empty; remove it or choose another" in again.stderr
