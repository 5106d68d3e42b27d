"""Comparisons of run folders against plain arithmetic on what was written, their tables, and what bad input says."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import run
from run_folder import make_task, stage, write_run

import transfer_risk as tr
from transfer_risk import runs as runs_module
from transfer_risk.cli.shared import load_runs
from transfer_risk.comparison import Change
from transfer_risk.mapstats import distance_to_boundary, map_statistics
from transfer_risk.summaries import comparison_text
from transfer_risk.volumes import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs of one task: one that helps, one that harms, one from scratch."""
    root = tmp_path_factory.mktemp("runs")
    path = make_task(root)
    task = tr.load_task(path)
    before = stage(task, wrong=0.5, seed=0)
    helped, harmed = stage(task, wrong=0.2, seed=1), stage(task, wrong=0.7, seed=2, low=-5.0)
    scratch = {"before": stage(task, wrong=1, seed=3, low=-99.0)}
    scratch["after"] = stage(task, wrong=0.4, seed=4)
    write_run(root / "helped", path, {"before": before, "after": helped}, method="risk-map")
    write_run(root / "harmed", path, {"before": before, "after": harmed})
    write_run(root / "scratch", path, scratch, scratch=True)
    return root


@pytest.fixture(scope="module")
def runs(folder):
    return [tr.load_run(folder / name) for name in ("helped", "harmed", "scratch")]


@pytest.fixture(scope="module")
def comparison(runs):
    return tr.compare(runs)


def test_one_span_over_all_runs_and_stages_but_what_was_before_scratch(comparison, runs):
    maps = [r.transferability("after", c) for r in runs for c in r.cases]
    maps += [r.transferability("before", c) for r in runs[:2] for c in r.cases]
    assert float(comparison.span.low) == min(m.min() for m in maps)
    assert float(comparison.span.high) == max(m.max() for m in maps)
    assert float(comparison.span.low) > -5


def test_each_map_is_read_once_for_the_span_and_once_for_the_values(folder, monkeypatch):
    read_files, load = [], runs_module.load
    monkeypatch.setattr(runs_module, "load", lambda path: read_files.append(path) or load(path))
    found, _ = load_runs([str(folder / "helped"), str(folder / "scratch")])
    tr.compare(found)
    assert {read_files.count(path) for path in read_files} == {2}


def test_values_are_those_of_each_map_on_that_span(comparison, runs):
    run, case = runs[1], runs[1].cases[1]
    labels = read(case, run.task).labels
    spacing = (1.0, 1.0, 2.0)
    expected = map_statistics(
        run.transferability("after", case),
        labels,
        span=comparison.span,
        spacing=spacing,
        classes=run.task.classes,
        distances={
            "source": distance_to_boundary(run.prediction("before", case), spacing),
            "target": distance_to_boundary(labels, spacing),
        },
    )
    made = {q: v[1] for (r, s, q), v in comparison.values.items() if (r, s) == ("harmed", "after")}
    assert {k: made[k] for k in expected} == pytest.approx(expected)
    dice = [m.dice for m in run.measures["after"] if m.case == case.id]
    assert made["dice"] == pytest.approx(sum(dice) / len(dice))
    assert made["dice[a]"] == dice[0] and math.isnan(made["hd95"])


def test_differences_are_paired_over_cases(comparison):
    change = next(c for c in comparison.changes if (c.run, c.quantity) == ("helped", "area_50"))
    before, after = (comparison.values["helped", s, "area_50"] for s in ("before", "after"))
    n = len(before)
    assert n == 4 == change.difference.cases
    assert change.difference.value == pytest.approx((after - before).mean())
    error = (after - before).std(ddof=1) / math.sqrt(n)
    assert change.difference.standard_error == pytest.approx(error)


def test_before_and_after_are_over_the_cases_that_have_both(comparison):
    values = dict(comparison.values)
    before = values["helped", "before", "dice"].copy()
    before[1] = math.nan  # no foreground, nothing predicted; after: false positives
    values["helped", "before", "dice"] = before
    made = dataclasses.replace(comparison, values=values)
    change = next(c for c in made.changes if (c.run, c.quantity) == ("helped", "dice"))
    after = np.delete(values["helped", "after", "dice"], 1)
    assert change.before.value == pytest.approx(np.delete(before, 1).mean())
    assert change.after.value == pytest.approx(after.mean()) and change.difference.cases == 3
    assert change.difference.value == pytest.approx(change.after.value - change.before.value)
    sentence = f"helped: has false positives, and the source has none, in {made.cases[1]}"
    assert any(v.startswith(sentence) for v in made.verdicts)


def test_means_end_where_their_quantity_does():
    values = np.array([0.95, 0.99, 0.6, 0.98])
    for quantity in ("dice", "dice[a]", "area_75", "risk_mass[background]"):
        assert Change.of("r", quantity, values, values).after.interval()[1] == 1
    nats = np.array([-0.01, -0.01, -0.5, -0.01])
    assert Change.of("r", "transferability", nats, nats).after.interval()[1] == 0
    assert Change.of("r", "hd95", values, values).after.interval()[1] > 1
    low, high = np.array([0.1, 0.2]), np.array([0.95, 0.99])
    assert Change.of("r", "dice", low, high).difference.interval()[1] == 1


def test_before_and_after_of_other_cases_are_no_change():
    made = Change.of("r", "hd95", np.array([1, math.nan]), np.array([math.nan, 9]))
    assert math.isnan(made.before.value) and made.after.value == 9
    assert math.isnan(made.difference.value) and made.difference.cases == 0


def test_methods_are_set_against_each_other(comparison):
    pairs = [(c.first, c.second) for c in comparison.contrasts]
    assert pairs == [("helped", "harmed"), ("helped", "scratch"), ("harmed", "scratch")]
    first = comparison.contrasts[0]
    dice = {r: comparison.values[r, "after", "dice"] for r in ("helped", "harmed")}
    assert first.difference.value == pytest.approx((dice["harmed"] - dice["helped"]).mean())
    assert first.p_signed_rank == 0.125 and first.p_holm == 0.375


def test_verdicts(comparison):
    text = "\n".join(comparison.verdicts)
    assert "helped: 0 of 4 cases got worse than before" in text
    assert "harmed: 4 of 4 cases got worse than before" in text
    assert "helped: no negative transfer in any of 4 cases" in text
    assert "harmed: negative transfer in 4 of 4 cases: worse than training from scratch" in text
    assert "With 4 cases and 3 comparisons the signed-rank test cannot reach .05" in text
    assert "scratch: " not in text


def test_without_a_run_from_scratch_negative_transfer_is_not_spoken_of(runs):
    assert not any("negative" in v for v in tr.compare(runs[:2]).verdicts)
    alone = tr.compare(runs[1:2])
    assert len(alone.verdicts) == 1 and not alone.contrasts


def test_a_run_from_scratch_has_nothing_before(comparison):
    assert ("scratch", "before", "dice") not in comparison.values
    assert np.isnan(comparison.values["scratch", "after", "distance_source"]).all()


def test_table_csv_and_json_say_the_same(comparison):
    table = comparison_text(comparison, "table")
    assert "task data; 4 test cases; all maps on the span" in table
    assert "vanilla (scratch)" in table and "risk_mass[a]" in table and "hd95[a]" not in table
    assert all(v in table for v in comparison.verdicts)
    document = json.loads(comparison_text(comparison, "json"))
    assert document["verdicts"] == list(comparison.verdicts)
    assert document["runs"][2] == {"run": "scratch", "method": "vanilla", "from_scratch": True}
    scratch = [c for c in document["changes"] if c["run"] == "scratch" and c["quantity"] == "dice"]
    assert scratch[0]["before"] is None and scratch[0]["after"] > 0
    first = comparison_text(comparison, "csv").splitlines()[1].split(",")
    assert first[:2] == ["helped", "dice"]
    assert float(first[3]) == document["changes"][0]["before"]


def test_the_command_prints_and_writes(folder, tmp_path):
    result = run("compare", folder / "helped", folder / "scratch", "--out", tmp_path / "out")
    assert result.exit_code == 0 and "got worse than before" in result.stdout
    written = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert written == ["changes.csv", "comparison.json", "contrasts.csv", "per_case.csv"]
    rows = pd.read_csv(tmp_path / "out" / "per_case.csv")
    assert list(rows) == ["run", "method", "stage", "case", "quantity", "value"]
    area = rows[(rows.run == "helped") & (rows.stage == "after") & (rows.quantity == "area_50")]
    changes = pd.read_csv(tmp_path / "out" / "changes.csv").set_index(["run", "quantity"])
    assert changes.loc[("helped", "area_50"), "after"] == pytest.approx(area.value.mean())


def test_the_base_changes_the_risk_mass_alone(runs):
    one, other = tr.compare(runs[:1]), tr.compare(runs[:1], base=2.0)
    for cell, values in one.values.items():
        same = np.array_equal(values, other.values[cell], equal_nan=True)
        assert same != cell[2].startswith("risk_mass")


def test_a_bad_run_is_named_and_the_others_are_done(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run("compare", folder / "helped", tmp_path / "empty")
    assert result.exit_code == 1 and "helped: 0 of 4" in result.stdout
    assert "empty: is no run folder (no config.toml and manifest.json)" in result.stderr
    result = run("compare", tmp_path / "empty")
    assert result.exit_code == 1 and "is no run folder" in result.stderr
    assert run("compare", tmp_path / "nowhere").exit_code == 2
    for content, words in (("{}", "is no manifest of a run"), ("{", "is no manifest of a run")):
        shutil.copytree(folder / "helped", tmp_path / "bad", dirs_exist_ok=True)
        (tmp_path / "bad" / "manifest.json").write_text(content)
        result = run("compare", folder / "helped", tmp_path / "bad")
        assert result.exit_code == 1 and f"manifest.json: {words}" in result.stderr
        assert "helped: 0 of 4" in result.stdout
    shutil.copy(folder / "helped" / "manifest.json", tmp_path / "bad")
    good = (tmp_path / "bad" / "metrics.csv").read_text()
    for content in (good.replace(",", ";"), good.replace("0.", "0,,x", 1)):
        (tmp_path / "bad" / "metrics.csv").write_text(content)
        result = run("compare", folder / "helped", tmp_path / "bad")
        assert result.exit_code == 1 and "metrics.csv: must be the table that" in result.stderr
    options = (tmp_path / "bad" / "config.toml").read_text()
    (tmp_path / "bad" / "config.toml").write_text(options.replace("init", "start"))
    (tmp_path / "bad" / "metrics.csv").write_text(good)
    result = run("compare", folder / "helped", tmp_path / "bad")
    assert result.exit_code == 1 and "config.toml: must have init, as finetune" in result.stderr
    (tmp_path / "bad" / "config.toml").write_text(options)
    (tmp_path / "bad" / "metrics.csv").unlink()
    result = run("compare", folder / "helped", tmp_path / "bad")
    assert "metrics.csv: no such file; start the same finetune command again" in result.stderr
    assert "helped: 0 of 4" in result.stdout


@pytest.mark.parametrize("what", ["after/{}_transferability", "before/{}_prediction"])
@pytest.mark.parametrize("damaged", [True, False])
def test_a_run_without_whole_maps_is_named_and_the_others_are_done(
    folder, runs, tmp_path, what, damaged
):
    bad = tmp_path / "bad"
    shutil.copytree(folder / "harmed", bad)
    path = bad / "maps" / f"{what.format(runs[0].cases[-1].id)}.nii.gz"
    content = path.read_bytes()
    path.unlink()
    if damaged:
        path.write_bytes(content[: len(content) // 2])
    (bad / "config.toml").write_text(
        (bad / "config.toml").read_text().replace("../tasks", str(folder / "tasks"))
    )
    result = run("compare", folder / "helped", bad)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "helped: 0 of 4" in result.stdout and "bad" not in result.stdout
    words = "cannot be read as an image" if damaged else "no such file"
    assert result.stderr.count("error: ") == 1 and f"error: {path}: {words}" in result.stderr
    assert "start the same finetune command again" in result.stderr
    alone = run("compare", bad)
    assert alone.exit_code == 1 and f"{path}: {words}" in alone.stderr


def test_a_comparison_without_contrasts_leaves_no_older_ones(folder, tmp_path):
    out = tmp_path / "out"
    assert run("compare", folder / "helped", folder / "harmed", "--out", out).exit_code == 0
    assert (out / "contrasts.csv").is_file()
    assert run("compare", folder / "helped", "--out", out).exit_code == 0
    written = sorted(p.name for p in out.iterdir())
    assert written == ["changes.csv", "comparison.json", "per_case.csv"]


def test_runs_that_do_not_fit_are_refused(folder, runs, tmp_path):
    with pytest.raises(ValueError, match="runs must be at least one finished run; got none"):
        tr.compare([])
    with pytest.raises(ValueError, match="different names; helped occurs more than once"):
        tr.compare([runs[0], runs[0]])
    path = make_task(tmp_path, classes=("a",), name="other")
    other = stage(tr.load_task(path), wrong=0.2, seed=1)
    write_run(tmp_path / "stranger", path, {"before": other, "after": other})
    with pytest.raises(ValueError, match=r"runs must be of one task; .*helped is of data"):
        tr.compare([runs[0], tr.load_run(tmp_path / "stranger")])
    task = runs[0].task
    fewer = dict(list(stage(task, wrong=0.2, seed=1).items())[1:])
    write_run(tmp_path / "fewer", folder / "tasks" / "data.toml", {"before": fewer, "after": fewer})
    with pytest.raises(ValueError, match=r"same test cases; only one of .* has case_"):
        tr.compare([runs[0], tr.load_run(tmp_path / "fewer")])


def test_maps_that_are_missing_or_do_not_fit_are_named(folder, tmp_path):
    path = folder / "tasks" / "data.toml"
    maps = stage(tr.load_task(path), wrong=0.2, seed=1)
    write_run(tmp_path / "short", path, {"before": maps, "after": maps})
    case = next(iter(maps))
    (tmp_path / "short/maps/after" / f"{case}_transferability.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"_transferability.nii.gz: no such file; start the"):
        tr.compare([tr.load_run(tmp_path / "short")])
    cut = {k: (v[:-1], p) for k, (v, p) in maps.items()}
    write_run(tmp_path / "cut", path, {"before": cut, "after": cut})
    with pytest.raises(
        ValueError, match=r"is \(13, 12, 6\), its label \(14, 12, 6\); the data has"
    ):
        tr.compare([tr.load_run(tmp_path / "cut")])


def test_unknown_dice_before_is_said(folder, tmp_path):
    path = folder / "tasks" / "data.toml"
    maps = stage(tr.load_task(path), wrong=0.2, seed=1)
    write_run(tmp_path / "r", path, {"before": maps, "after": maps})
    file = tmp_path / "r" / "metrics.csv"
    rows = [line for line in file.read_text().splitlines() if ",before," not in line]
    file.write_text("\n".join(rows) + "\n")
    (verdict,) = tr.compare([tr.load_run(tmp_path / "r")]).verdicts
    assert verdict == (
        "r: no case has a Dice before and after, so better or worse than before is unknown"
    )


def test_torch_spans_do_not_depend_on_the_order_of_runs(runs, comparison):
    other = tr.compare(runs[::-1])
    assert torch.equal(other.span.low, comparison.span.low)
    cell = ("helped", "after", "risk_mass[a]")
    np.testing.assert_array_equal(other.values[cell], comparison.values[cell])


def test_a_mean_over_other_classes_than_after_is_unknown(tmp_path):
    path = make_task(tmp_path, cases=8)
    task = tr.load_task(path)
    stages = {"before": stage(task, wrong=0.5, seed=0), "after": stage(task, wrong=0.2, seed=1)}
    write_run(tmp_path / "run", path, stages)
    metrics = tmp_path / "run" / "metrics.csv"
    lines = metrics.read_text().splitlines()
    lines = [
        ",".join([*line.split(",")[:3], "", "", "", ""]) if ",b,before," in line else line
        for line in lines
    ]
    metrics.write_text("\n".join(lines) + "\n")
    run = tr.load_run(tmp_path / "run")
    assert run.lacking == ["b"]
    values = tr.compare([run]).values
    assert np.isnan(values["run", "before", "dice"]).all()
    assert not np.isnan(values["run", "before", "dice[a]"]).any()
    assert not np.isnan(values["run", "after", "dice"]).any()


def test_precision_is_over_the_classes_that_are_predicted_before_and_after(tmp_path):
    """Before, b is predicted nowhere; after, a is worse: the mean must fall, whatever the precision of b is."""
    path = make_task(tmp_path, classes=("a", "b"))
    task = tr.load_task(path)
    before, after = stage(task, wrong=0, seed=0), stage(task, wrong=0, seed=1)
    for case in task.split("test"):
        labels = read(case, task).labels
        before[case.id] = (before[case.id][0], np.where(labels == 2, 0, labels))
        worse = np.where(np.arange(labels.size).reshape(labels.shape) % 2, 1, 0)
        after[case.id] = (after[case.id][0], np.where(labels == 2, 2, np.maximum(labels, worse)))
    write_run(tmp_path / "run", path, {"before": before, "after": after})
    changes = {c.quantity: c for c in tr.compare([tr.load_run(tmp_path / "run")]).changes}
    assert changes["precision"].before.value == 1
    assert changes["precision"].difference.value == changes["precision[a]"].difference.value < 0
    assert math.isnan(changes["precision[b]"].before.value)
    assert changes["recall"].before.value == 0.5 and changes["recall"].after.value == 1
