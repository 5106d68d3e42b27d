"""Folders for results are checked before the work: nothing of others is written over, and nothing is left behind."""

import errno
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from blob_folder import SHAPE, make_source, save
from command_line import run
from run_folder import stage, write_run

import transfer_risk as tr
from transfer_risk import reports, scoretables, summaries
from transfer_risk.adapters import save_source
from transfer_risk.examinations import write_predictions
from transfer_risk.files import check_writable
from transfer_risk.mapping import JOINT
from transfer_risk.pretraining import save_measured
from transfer_risk.summaries import PER_CASE, run_text

TABLES = {"score": scoretables.TABLES, "compare": summaries.TABLES, "audit": reports.TABLES}
SMALL = ("--iterations", 1, "--width", 2, "--depth", 2)


def refused(result, *words):
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    assert not result.stdout
    for part in words:
        assert part in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def runs(folder):
    """Two finished runs of the task in `folder`."""
    path = folder / "tasks" / "blobs.toml"
    task = tr.load_task(path)
    stages = {name: stage(task, wrong=0.5, seed=k) for k, name in enumerate(("before", "after"))}
    for name in ("one", "two words"):
        write_run(folder / name, path, stages)
    return folder / "one", folder / "two words"


def test_a_folder_is_tried_and_left_as_it_was(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to(tmp_path / "lost")
    before = names(tmp_path)
    for fine in ("", "full", "new", "new/er/est", "new/../other", "new/../../other/x"):
        check_writable(tmp_path / "full" / fine)
    for bad in ("full/file/x", "full/file/x/y", "nowhere", "nowhere/x", f"{'x' * 300}/y"):
        with pytest.raises(OSError, match=r"could not be written \(.+\); choose another --out"):
            check_writable(tmp_path / bad)
    assert names(tmp_path) == before and (tmp_path / "full" / "file").read_text() == "mine"


@pytest.mark.parametrize("place", ["below", "proc"])
@pytest.mark.parametrize(
    ("words", "work"),
    [
        (("pretrain", "TASK", "--iterations", 10**6), "pretraining.pretrain"),
        (("score", "TASK", "s0"), "ranking.rank_sources"),
        (("map", "TASK", "s0"), "mapping.write_stages"),
        (("finetune", "TASK", "s0"), "finetuning.begin"),
        (("predict", "s0", "image.nii.gz"), "examinations.predict"),
        (("compare", "one"), "comparison.compare"),
        (("audit", "one", "results.csv"), "auditing.audit"),
        (("demo",), "demo.load_template"),
        (("plot", "TASK", "s0"), "galleries.plot_maps"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_folder_that_cannot_be_written_is_said_before_the_work(
    folder, monkeypatch, words, work, place
):
    save(folder / "image.nii.gz", np.zeros(SHAPE, np.float32))
    for name in ("one", "results.csv"):
        (folder / name).mkdir() if name == "one" else (folder / name).write_text("")
    (folder / "file").write_text("")
    if place == "proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc")
    out = folder / "file" / "x" if place == "below" else Path("/proc/transfer-risk/x")
    monkeypatch.setattr(f"transfer_risk.{work}", lambda *_a, **_k: pytest.fail("worked"))
    monkeypatch.chdir(folder)
    before = names(folder)
    task = folder / "tasks" / "blobs.toml"
    words = [task if w == "TASK" else w for w in words]
    figure = words[0] == "plot"
    result = run(*words, "--out", out / "figure.png" if figure else out)
    refused(result, f"{out}: could not be written (", "choose another --out")
    assert names(folder) == before


def test_nothing_is_left_where_the_command_fails_for_another_reason(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    for case in task.cases:
        Path(case.label).write_bytes(b"")
    before = names(folder)
    path = folder / "tasks" / "blobs.toml"
    for words in (("pretrain", path), ("score", path, folder / "s0"), ("map", path, folder / "s0")):
        assert run(*words, "--out", folder / "new" / "out").exit_code == 1
        assert names(folder) == before


def test_pretraining_is_refused_in_a_folder_that_holds_anything(folder, runs):
    path = folder / "tasks" / "blobs.toml"
    for place in (runs[0], folder / "data" / "Dataset001_Blobs" / "labelsTr"):
        before = names(folder)
        made = run("pretrain", path, "--out", place, *SMALL)
        refused(made, f"{place}: is not empty; choose another --out")
        assert names(folder) == before
    rest = folder / "rest"
    rest.mkdir()
    (rest / ".abcd1234.safetensors").write_bytes(b"")  # of a kill
    task, source = tr.load_task(path), tr.load_source(folder / "s0")
    assert save_measured(lambda: source, task, rest).cases
    assert tr.load_source(rest).classes == source.classes


@pytest.mark.parametrize("kind", ["risk", "transferability", "hardness"])
def test_maps_are_written_again_and_files_of_others_are_not_replaced(folder, monkeypatch, kind):
    path, out = folder / "tasks" / "blobs.toml", folder / "maps"
    words = ("map", path, folder / "s0", "--out", out, "--hardness")
    first, second = (c.id for c in tr.load_task(path).split("test"))
    assert run(*words).exit_code == 0 and run(*words).exit_code == 0
    foreign = out / f"{first}_{kind}.nii.gz"
    save(foreign, np.ones(SHAPE, np.uint8))
    content = foreign.read_bytes()
    monkeypatch.setattr("transfer_risk.passes.predict_case", lambda *_: pytest.fail("predicted"))
    refused(run(*words), f"{foreign}: is there, and no map; choose another folder (--out)")
    assert foreign.read_bytes() == content
    monkeypatch.undo()
    assert run(*words, "--case", second).exit_code == 0
    assert run(*words[:-1]).exit_code == (0 if kind == "hardness" else 1)
    assert foreign.read_bytes() == content


@pytest.mark.parametrize("name", ["n" * 200, "ä" * 100])
def test_maps_of_a_source_with_a_long_name_are_known_again(folder, name):
    task, out = tr.load_task(folder / "tasks" / "blobs.toml"), folder / "maps"
    for _ in range(2):
        made, _ = tr.write_maps(make_source(name=name), task, out)
    notes = {bytes(nib.load(p).header["descrip"]).rstrip(b"\0").decode() for p in made}
    assert len(notes) == 1 and notes.pop().endswith(f"{name[0]}: {JOINT} of the other cases")


@pytest.mark.parametrize("part", ["imagesTr", "labelsTr", "imagesTr/../labelsTr"])
def test_maps_are_not_written_among_the_data(folder, part):
    path = folder / "tasks" / "blobs.toml"
    out = folder / "data" / "Dataset001_Blobs" / part
    before = names(folder)
    words = f"{out}: holds data of task blobs (case_0", "choose another folder (--out)"
    refused(run("map", path, folder / "s0", "--out", out), *words)
    assert names(folder) == before
    tr.load_task(path)


def test_a_run_folder_holds_nothing_but_its_run(folder, runs):
    path = folder / "tasks" / "blobs.toml"
    before = names(folder)
    for words in (
        ("compare", runs[0]),
        ("score", path, folder / "s0"),
        ("map", path, folder / "s0"),
    ):
        out = runs[0]
        refused(run(*words, "--out", out), f"{out}: is a run folder", "choose another --out")
        out = runs[0] / "maps" / "after"
        said = f"{out}: lies in {runs[0]}, a run folder, which holds nothing but its run"
        refused(run(*words, "--out", out), said)
    assert names(folder) == before


def test_tables_of_commands_replace_their_own_and_those_of_nobody_else(folder, runs):
    results = folder / "results.csv"
    results.write_text("task,source,dice\nblobs,s0,0.5\nblobs,s1,0.4\n")
    save_source(make_source(name="s1"), folder / "s1")
    ranking = folder / "ranking"
    made = {
        "score": (folder / "tasks" / "blobs.toml", folder / "s0", folder / "s1"),
        "compare": runs,
        "audit": (ranking, results),
    }
    assert run("score", *made["score"], "--out", ranking).exit_code == 0
    tables = {}
    for command, words in made.items():
        out = folder / f"of-{command}"
        assert all(run(command, *words, "--out", out).exit_code == 0 for _ in range(2))
        tables[command] = {path.name: path.read_bytes() for path in out.iterdir()}
        assert sorted(tables[command]) == sorted(TABLES[command])
    for command, words in made.items():
        others = [own for name, own in tables.items() if name != command]
        for name in tables[command]:
            foreign = [own[name] for own in others if name in own]
            foreign += [b"id,age\n1,70\n", b'["rank", "source"]\n', b'{"rank": \xff}\n', b"{}"]
            for k, content in enumerate(foreign):
                out = folder / f"{command}-{name}-{k}"
                out.mkdir()
                (out / name).write_bytes(content)
                begins = content.decode(errors="replace").splitlines()[0][:60]
                said = f"{out / name}: is there, and another table than {command} writes (it begins with {begins!r}"
                refused(run(command, *words, "--out", out), said, "choose another --out")
                assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [(name, content)]


def test_a_folder_in_the_place_of_a_table_is_named(folder, runs):
    (folder / "out" / "changes.csv").mkdir(parents=True)
    said = f"{folder / 'out' / 'changes.csv'}: is there, and another table than compare writes"
    refused(run("compare", *runs, "--out", folder / "out"), said)


def test_the_columns_of_a_comparison_by_case_are_those_that_are_known(runs):
    assert tuple(tr.compare([tr.load_run(runs[0])]).rows()[0]) == PER_CASE


def test_commands_that_are_named_can_be_pasted(runs):
    for path in runs:
        shutil.copytree(path.parent / "s0", path / "model", dirs_exist_ok=True)
        line = run_text(path).splitlines()[-1]
        one, two = line.removeprefix("next: ").split("; ")
        assert shlex.split(one) == ["transfer-risk", "compare", str(path)]
        assert shlex.split(two) == ["transfer-risk", "plot", str(path), "--out", "figure.png"]


def test_a_folder_without_a_ranking_is_named(folder):
    (folder / "results.csv").write_text("task,source,dice\nt,a,0.5\n")
    said = f"{folder / 's0'}: holds no ranking; score --out writes ranking.csv and .json"
    refused(run("audit", folder / "s0", folder / "results.csv"), said)


def test_a_folder_of_images_is_no_image(folder):
    images = folder / "my data"
    save(images / "x.nii.gz", np.zeros(SHAPE, np.float32))
    made = run("predict", folder / "s0", images, "--out", folder / "labels")
    said = f"{images}: is a folder; give the image files in it, such as {shlex.quote(str(images))}"
    assert made.exit_code == 1 and f"{said}/*.nii.gz" in made.stderr
    assert not re.search("cannot be read", made.stderr) and not (folder / "labels").exists()


def test_predictions_ask_before_the_first_image(folder, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    path = folder / "x.nii.gz"
    save(path, np.zeros(SHAPE, np.float32))
    with pytest.raises(OSError, match=r"out: could not be written \(No space left on device"):
        write_predictions(tr.load_source(folder / "s0"), [path], folder / "out")


def test_a_manifest_of_somebody_else_is_not_written_over(folder):
    out = folder / "run"
    out.mkdir()
    (out / "manifest.json").write_text('{"files": []}')
    words = ("finetune", folder / "tasks" / "blobs.toml", folder / "s0", "--out", out)
    refused(run(*words, "--iterations", 1), f"{out / 'manifest.json'}: is no manifest")
    assert (out / "manifest.json").read_text() == '{"files": []}'


def test_predictions_are_not_written_among_the_images(folder):
    path = folder / "images" / "a_0000.nii.gz"
    save(path, np.zeros(SHAPE, np.float32))
    words = f"{folder / 'images'}: holds data of the examinations (a_0000.nii.gz)"
    refused(run("predict", folder / "s0", path, "--out", folder / "images"), words)
    assert names(folder / "images") == ["a_0000.nii.gz"]
