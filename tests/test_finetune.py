"""Fine-tuning from the command line and the library: run folders, resuming after kills, and what bad input says."""

import csv
import errno
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from blobs import RESIDUAL, SHAPE, make_source, write_blobs, write_monai
from command_line import run

import transfer_risk as tr
from transfer_risk import fitting
from transfer_risk.lineage import seen_cases
from transfer_risk.runfolder import RunFolder
from transfer_risk.subsets import few_shot
from transfer_risk.summaries import run_text

SMALL = ("--iterations", 4, "--batch", 2, "--checkpoint", 2, "--lr", 0.01)
VOLUME = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 4],
    "strides": [2],
    "norm": "batch",
    "dropout": 0.1,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A task and a source, not to be changed."""
    root = tmp_path_factory.mktemp("made")
    write_blobs(root, cases=5)
    tr.save_source(make_source(), root / "source")
    return root


@pytest.fixture
def folder(made, tmp_path):
    """A copy of them, to be spoilt."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def tune(folder, *words, out="run", source="source"):
    task = folder / "tasks" / "blobs.toml"
    return run("finetune", task, folder / source, "--out", folder / out, *SMALL, *words)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def refused(result, words, code=1):
    """One sentence on stderr with these words."""
    assert result.exit_code == code, result.output
    said = " ".join(result.stderr.replace("│", " ").split())  # usage errors stand in a box
    assert words in said, result.stderr
    if code == 1:
        assert result.stderr.count("error: ") == 1 and "Traceback" not in result.stderr
        assert result.stderr.strip().count("\n") == result.stderr.split("error: ")[0].count("\n")


def test_a_run_is_complete_and_measured(folder):
    result = tune(folder)
    assert result.exit_code == 0, result.output
    assert "trainable" in result.stderr and "Dice after" in result.stdout
    assert "decision argmax" in result.stdout and "next: transfer-risk compare" in result.stdout
    out = folder / "run"
    assert {p.name for p in out.iterdir()} == {
        "config.toml",
        "manifest.json",
        "log.csv",
        "metrics.csv",
        "model",
        "maps",
    }
    task, source = tr.load_task(folder / "tasks" / "blobs.toml"), tr.load_source(out)
    log = rows(out / "log.csv")
    assert [int(r["iteration"]) for r in log] == [1, 2, 3, 4]
    assert all(float(r["lr"]) == 0.01 and 0 < float(r["fg_share"]) < 1 for r in log)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["finished"] and manifest["head"] == "kept"
    assert manifest["cases"]["test"] == list(task.test) and manifest["cases"]["validation"] == []
    before = tr.load_source(folder / "source")
    for stage, model in (("before", before), ("after", source)):
        found = [r for r in rows(out / "metrics.csv") if r["stage"] == stage]
        for row, own in zip(found, tr.evaluate(model, task), strict=True):
            assert (row["case"], row["class"]) == (own.case, own.name)
            for name in ("dice", "hd95", "recall", "precision"):
                value = getattr(own, name)
                assert (
                    row[name] == ""
                    if math.isnan(value)
                    else float(row[name]) == pytest.approx(value, rel=1e-5)
                )
        for case in task.split("test"):
            image = nib.load(out / "maps" / stage / f"{case.id}_prediction.nii.gz")
            assert image.shape == SHAPE and np.allclose(image.affine, np.diag([1, 1, 2, 1]))
    assert not (out / "checkpoint").exists()
    assert run("compare", out).exit_code == 0


def test_options_override_the_config_and_are_recorded(folder):
    config = folder / "options.toml"
    config.write_text('method = "eep-risk"\nlr = 0.5\naugment = true\nseed = 3\n')
    assert tune(folder, "--config", config, "--no-augment").exit_code == 0
    table = tomllib.loads((folder / "run" / "config.toml").read_text())
    assert (table["method"], table["lr"], table["augment"], table["seed"]) == (
        "eep-risk",
        0.01,
        False,
        3,
    )
    assert table["task"] == "../tasks/blobs.toml" and table["source"] == "../source"
    again = tune(folder, "--config", folder / "run" / "config.toml", "--method", "vanilla", out="b")
    assert again.exit_code == 0
    assert tr.load_run(folder / "b").config["seed"] == 3
    config.write_text("learning_rate = 1\n")
    refused(
        tune(folder, "--config", config, out="c"),
        "a recipe does not know learning_rate",
        2,
    )
    config.write_text('lr = "much"\n')
    refused(tune(folder, "--config", config, "--lr", 1, out="c"), "", 0)
    result = run(
        *("finetune", folder / "tasks" / "blobs.toml", folder / "source"),
        *("--out", folder / "d", "--config", config),
    )
    refused(result, "lr must be a number; got 'much'", 2)


@pytest.mark.filterwarnings("default")
def test_an_option_of_the_config_that_does_nothing_is_warned_of(folder):
    config = folder / "options.toml"
    config.write_text("exponential = true\n")  # and so stops no --extent, which does something
    result = tune(folder, "--config", config, "--extent", "set")
    assert result.exit_code == 0, result.output
    words = "warning: exponential has no effect with method risk-map; it is for trs-map\n"
    assert result.stderr.count(words) == 1


@pytest.fixture
def told(monkeypatch):
    """What a line on a terminal says, in order."""
    texts = []
    monkeypatch.setattr("rich.status.Status.update", lambda _, text: texts.append(text))
    return texts


def test_a_run_says_what_is_under_way(folder, monkeypatch, told):
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal
    result = tune(folder, "--head", "probe", "--decision", "tuned")
    assert result.exit_code == 0, result.output
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    first = [f"preparing {c.id}" for c in task.split("train")]
    assert told[: len(first) + 1] == [*first, "fitting the probe head"]
    for name in ("source", f"{task.name}-risk-map"):  # the source, and what it became
        assert {f"{name}: {c.id}" for c in task.split("test")} <= {t[: len(name) + 4] for t in told}
    assert "\x1b[" in result.stderr and re.search(r"loss \d\.\d{3}", result.stderr)
    assert "reading" in result.stderr and "trainable" in result.stderr


def test_where_stderr_is_no_terminal_a_run_shows_no_progress(folder):
    result = tune(folder, "--iterations", 20)
    assert result.exit_code == 0, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("about ")]
    assert [line.split()[0] for line in lines] == [
        *("loaded", "replaced", "left", "trainable", "frozen")
    ]
    assert re.search(r"(?m)^about \d+\.\d min for 8 more iterations$", result.stderr)


def test_resuming_what_is_finished_or_unknown(folder):
    refused(tune(folder, "--resume"), "has no config.toml; there is nothing to resume")
    assert not (folder / "run").exists()
    assert tune(folder).exit_code == 0
    weights = (folder / "run" / "model" / "model.safetensors").read_bytes()
    result = tune(folder, "--resume")
    assert result.exit_code == 0 and "Dice after" in result.stdout
    assert (folder / "run" / "model" / "model.safetensors").read_bytes() == weights
    refused(tune(folder, "--lr", 0.5), "is a run with lr = 0.01, not 0.5; choose another --out")
    refused(tune(folder, source="run"), "source = '../source', not '.'")


def test_the_model_of_a_finished_run_has_the_same_path_as_when_it_was_made(folder):
    source, task = tr.load_source(folder / "source"), tr.load_task(folder / "tasks" / "blobs.toml")
    recipe, out = tr.Recipe(iterations=1, batch=1), folder / "twice"
    assert [tr.finetune(source, task, recipe, out=out).path for _ in "ab"] == [str(out)] * 2


@pytest.mark.parametrize("options", [(), ("--init", "random")])
def test_measures_and_maps_that_a_finished_run_has_lost_are_made_again(folder, options):
    assert tune(folder, *options).exit_code == 0
    out = folder / "run"
    kept = ("metrics.csv", "manifest.json", "model/model.safetensors")
    known = {name: (out / name).read_bytes() for name in kept}
    maps = {p: np.asarray(nib.load(p).dataobj) for p in (out / "maps").rglob("*.nii.gz")}
    case = tr.load_run(out).cases[0].id
    names = [f"maps/after/{case}_{what}.nii.gz" for what in ("risk", "prediction")]
    needed = [f"maps/after/{case}_transferability.nii.gz", "metrics.csv"]
    for lost in (out / name for name in (*names, *needed)):
        lost.unlink()
        if lost in {out / name for name in needed}:
            words = f"{lost}: no such file; start the same finetune command again"
            refused(run("compare", out), words)
        result = tune(folder, *options, "--resume")
        assert result.exit_code == 0 and "Dice after" in result.stdout, result.output
        assert run("compare", out).exit_code == 0
        assert {name: (out / name).read_bytes() for name in kept} == known
        for path, data in maps.items():
            np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), data)
    assert set((out / "maps").rglob("*.nii.gz")) == set(maps)


@pytest.mark.parametrize("lost", ["model", "model/model.safetensors", "log.csv"])
def test_a_finished_run_without_its_model_or_log_says_what_to_do(folder, lost):
    assert tune(folder, "--iterations", 1).exit_code == 0
    path = folder / "run" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    words = f"no such file, and only training makes it; delete the folder {folder / 'run'} and"
    for again in ((), ("--resume",)):
        refused(tune(folder, "--iterations", 1, *again), words)


@pytest.mark.parametrize("decision", ["argmax", "tuned", "adjusted"])
@pytest.mark.parametrize("method", ["risk-map", "class-weight"])
def test_every_decision_is_stored_and_applied(folder, decision, method):
    kept = ("--validation", 0.3) if decision == "tuned" else ()
    result = tune(folder, "--decision", decision, "--method", method, *kept)
    assert result.exit_code == 0, result.output
    assert f"decision {decision}" in result.stdout
    source = tr.load_source(folder / "run")
    assert source.decision.kind == decision
    assert len(source.decision.offsets) == (0 if decision == "argmax" else 2)
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    found = [r["dice"] for r in rows(folder / "run" / "metrics.csv") if r["stage"] == "after"]
    made = [m.dice for m in tr.evaluate(source, task, distances=False)]
    assert [float(f) if f else math.nan for f in found] == pytest.approx(made, 1e-5, nan_ok=True)
    predicted = run("predict", folder / "run", task.cases[0].images[0], "--out", folder / "p")
    assert predicted.exit_code == 0 and f"decision: {decision}" in predicted.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--init", "random"),
        ("--head", "new"),
        ("--precision", "bf16"),
        ("--optimiser", "sgd", "--schedule", "cosine", "--freeze", "none"),
        ("--exponential", "--method", "trs-map"),
        ("--method", "trs-map", "--extent", "set", "--clip", 5),
        ("--n-slices", 5, "--n-cases", 2, "--augment", "--dice-weight", 1),
    ],
    ids=lambda words: words[0],
)
def test_other_recipes_end_in_a_run(folder, words):
    result = tune(folder, *words)
    assert result.exit_code == 0, result.output
    stages = {r["stage"] for r in rows(folder / "run" / "metrics.csv")}
    assert stages == ({"after"} if "random" in words else {"before", "after"})
    assert tr.load_source(folder / "run").network(torch.zeros(1, 1, 8, 8)).shape[1] == 2


def test_more_classes_than_the_source_has(tmp_path):
    write_blobs(tmp_path, classes=("a", "b", "c"))
    tr.save_source(make_source(), tmp_path / "source")
    result = tune(tmp_path)
    assert result.exit_code == 0, result.output
    assert "replaced   head.weight (4, 4, 1, 1)" in result.stderr
    assert "Dice after" in result.stdout
    before = [r for r in rows(tmp_path / "run" / "metrics.csv") if r["stage"] == "before"]
    assert before and all((r["dice"] == "") == (r["class"] != "a") for r in before)
    assert tr.load_run(tmp_path / "run").manifest["head"] == "new"
    refused(tune(tmp_path, "--head", "keep", out="b"), "head keep needs as many classes")


def test_before_training_classes_count_by_name_where_some_are_shared(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("gm", "wm")))
    source = make_source(("background", "wm", "csf"), seed=1)
    with torch.no_grad():
        source.network.head.weight.mul_(30)  # or it decides for one class everywhere
    tr.save_source(source, tmp_path / "source")
    source = tr.load_source(tmp_path / "source")
    tr.finetune(source, task, tr.Recipe(method="vanilla", iterations=1), out=tmp_path / "run")
    made = tr.load_run(tmp_path / "run")
    assert made.manifest["head"] == "new"
    assert "Dice before unknown: the source has no gm" in run_text(tmp_path / "run")
    dice = {m.case: m.dice for m in tr.evaluate(source, task) if m.name == "wm"}
    for case in task.split("test"):
        gm, wm = (m for m in made.measures["before"] if m.case == case.id)
        assert math.isnan(gm.dice) and wm.dice == pytest.approx(dice[case.id], abs=1e-5)
        assert set(np.unique(made.prediction("before", case))) == {0, 2, 3}  # csf comes after wm
    assert all(not math.isnan(m.dice) for m in made.measures["after"])


def test_a_network_of_3d_patches(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, cases=5, shape=(12, 11, 9)))
    write_monai(tmp_path / "source", "UNet", VOLUME, spatial_dims=3, size=(8, 8, 8))
    recipe = tr.Recipe(iterations=3, batch=2, lr=1e-2, decision="adjusted", divisor="image")
    source = tr.load_source(tmp_path / "source")
    student = tr.finetune(source, task, recipe, out=tmp_path / "run")
    again = tr.load_source(tmp_path / "run")
    for name, tensor in student.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
    assert again.spatial_dims == 3 and len(tr.load_run(tmp_path / "run").measures["after"]) == 2
    image = nib.load(tmp_path / "run" / "maps" / "after" / f"{task.test[0]}_risk.nii.gz")
    assert image.shape == (12, 11, 9)


def test_a_rebuilt_network_of_monai_is_saved_with_its_new_outputs(tmp_path):
    write_blobs(tmp_path, classes=("a", "b"))
    write_monai(tmp_path / "source", "UNet", RESIDUAL, spatial_dims=2, size=(16, 16))
    result = tune(tmp_path)
    assert result.exit_code == 0, result.output
    assert tr.load_source(tmp_path / "run").architecture["arguments"]["out_channels"] == 3


def test_without_a_folder_nothing_is_written(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    known = set(folder.rglob("*"))
    student = tr.finetune(make_source(architecture={}), task, tr.Recipe(iterations=1, batch=1))
    assert student.trained["method"] == "risk-map" and set(folder.rglob("*")) == known


LONG = ("--iterations", 30, "--batch", 2, "--checkpoint", 1, "--method", "adaptive-risk")


def child(folder):
    """The command in a process of its own, a checkpoint after each step."""
    code = "from transfer_risk.cli import main; main()"
    command = [sys.executable, "-c", code, "finetune", folder / "tasks" / "blobs.toml"]
    command += [folder / "source", "--out", folder / "run", *SMALL, *LONG]
    return subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def uninterrupted(made, tmp_path_factory):
    folder = shutil.copytree(made, tmp_path_factory.mktemp("whole"), dirs_exist_ok=True)
    assert tune(folder, *LONG).exit_code == 0
    return folder / "run"


@pytest.mark.parametrize(("kind", "later"), [(signal.SIGKILL, 0.02), (signal.SIGTERM, 0.07)])
def test_a_killed_run_goes_on_to_the_same_bits(uninterrupted, folder, kind, later):
    process = child(folder)
    state = folder / "run" / "checkpoint" / "state.pt"
    try:
        end = time.monotonic() + 60
        while not state.exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.005)
        time.sleep(later)
        process.send_signal(kind)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.stderr.close()
    assert not json.loads((folder / "run" / "manifest.json").read_text())["finished"]
    refused(run("compare", folder / "run"), "is not finished; start the same command again")
    assert tune(folder, *LONG).exit_code == 0
    for name in ("model/model.safetensors", "model/source.toml", "metrics.csv", "config.toml"):
        assert (uninterrupted / name).read_bytes() == (folder / "run" / name).read_bytes(), name
    assert not list((folder / "run").rglob(".*"))
    whole = tr.load_run(folder / "run")
    steps = sum(row["seconds"] for row in whole.log())
    assert whole.manifest["seconds"]["training"] >= steps - 0.01  # of both parts


def stop(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "place",
    [
        "transfer_risk.runfolder.write_text",
        "transfer_risk.finetuning.save_source",
        "transfer_risk.measuring.write",
        "transfer_risk.measuring.write_stages",
        "transfer_risk.finetuning.RunFolder.write_metrics",
        "transfer_risk.finetuning._record",
    ],
)
def test_a_run_that_was_stopped_anywhere_goes_on(folder, place, monkeypatch):
    """Between manifest and configuration, while it is evaluated, and before the last manifest."""
    assert tune(folder, out="whole").exit_code == 0
    with monkeypatch.context() as patch:
        name, calls = place, []
        _home, _, last = name.rpartition(".")
        if last == "write_text":
            from transfer_risk import runfolder

            original = runfolder.write_text
            patch.setattr(
                name, lambda p, t: stop() if Path(p).name == "config.toml" else original(p, t)
            )
        elif last == "save_source":  # the first call tries whether it could be saved
            from transfer_risk import finetuning

            original = finetuning.save_source
            patch.setattr(name, lambda *a: stop() if calls else (calls.append(1), original(*a))[1])
        else:
            patch.setattr(name, stop)
        result = tune(folder)
    assert result.exit_code == 1
    (folder / "run" / ".abcd_123.csv").write_text("half")  # as a kill would leave it
    assert tune(folder).exit_code == 0
    for name in ("model/model.safetensors", "metrics.csv", "config.toml"):
        assert (folder / "whole" / name).read_bytes() == (folder / "run" / name).read_bytes()
    assert not list((folder / "run").rglob(".*"))


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("place", "left"),
    [
        ("pathlib.Path.write_text", set()),
        ("pathlib.Path.write_bytes", {"manifest.json", "config.toml"}),
        ("transfer_risk.adapters.native.save_model", set()),
        ("nibabel.save", {"manifest.json", "config.toml", "log.csv", "state.pt", "model"}),
    ],
)
def test_a_full_disk_loses_nothing(folder, monkeypatch, place, left):
    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        result = tune(folder)
    assert result.exit_code == 1
    assert "could not be written" in result.stderr and "No space left" in result.stderr
    there = {p.name for p in (folder / "run").rglob("*") if p.is_file()}
    assert there == {"model.safetensors", "source.toml"} & there | left - {"model"}
    assert not any(name.startswith(".") for name in there)
    assert tune(folder).exit_code == 0


def test_real_writers_report_a_full_disk_as_such(folder):
    """torch and safetensors answer a full disk with errors of their own, which are no OSError."""
    code = """
import resource, sys
import transfer_risk as tr
from transfer_risk.runfolder import RunFolder
source, task = tr.load_source(sys.argv[1]), tr.load_task(sys.argv[2])
run = RunFolder.of(sys.argv[3], source, task, tr.Recipe())
state = {"network": source.network.state_dict()}
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
for write in (lambda: run.write_state(state), lambda: tr.save_source(source, sys.argv[3])):
    try:
        write()
    except OSError as error:
        print(error.strerror)
"""
    paths = (folder / "source", folder / "tasks" / "blobs.toml", folder / "run")
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, timeout=60
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all("could not be written" in line for line in lines), result.stderr
    assert not [p for p in (folder / "run").rglob("*") if p.is_file()]


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(folder, monkeypatch):
    original, calls = fitting.Objective.loss, []

    def third(self, logits, batch):
        calls.append(1)
        return original(self, logits, batch) * (math.nan if len(calls) == 3 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(fitting.Objective, "loss", third)
        refused(tune(folder), "the loss is nan at iteration 3; try a lower lr than 0.01")
    assert (folder / "run" / "checkpoint" / "state.pt").is_file()
    assert len(rows(folder / "run" / "log.csv")) == 2
    assert tune(folder).exit_code == 0
    words = "try a lower lr than 1e+30 or min_foreground above 0 or another method than risk-map"
    refused(tune(folder, "--lr", 1e30, out="wild"), words)


def change_image(folder):
    path = next((folder / "data" / "Dataset001_Blobs" / "imagesTr").glob("c0_*"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)
    return "c0/image 0 has changed"


def change_task(folder):
    path = folder / "tasks" / "blobs.toml"
    path.write_text(path.read_text() + "\n# a note\n")
    return "task has changed"


def change_weights(folder):
    tr.save_source(make_source(seed=9), folder / "source")
    return "source/weights has changed"


def change_preprocessing(folder):
    path = folder / "source" / "source.toml"
    path.write_text(path.read_text().replace("zscore-nonzero", "minmax"))
    return "source/description has changed"


@pytest.mark.parametrize(
    "change", [change_image, change_task, change_weights, change_preprocessing]
)
def test_a_changed_input_is_named(folder, change):
    assert tune(folder).exit_code == 0
    refused(tune(folder), "", 0)
    words = change(folder)
    refused(tune(folder), f"{words} since the run began; choose another --out")


def test_a_broken_case_that_is_kept_for_the_decision_leaves_nothing(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    recipe = tr.Recipe(validation=0.4, decision="tuned")
    _, validation = few_shot(task, recipe)
    path = validation[0].images[0]
    image = nib.load(path)
    data = image.get_fdata()
    data[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), path)
    refused(tune(folder, "--validation", 0.4, "--decision", "tuned"), Path(path).name)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--n-cases", 99), "n_cases must be at most the 3 training cases"),
        (("--n-slices", 999), "n_slices must be at most the 15 training slices"),
        (
            ("--validation", 0.1, "--decision", "tuned"),
            "leaves 3 for training and 0 for validation",
        ),
        (("--freeze", "nothing"), "matches no parameter"),
        (("--freeze", "."), "matches every parameter"),
        (("--device", "nowhere"), "device must be one that torch computes on here"),
        (("--device", "meta"), "device must be one that torch computes on here; got 'meta'"),
    ],
)
def test_what_does_not_fit_leaves_nothing(folder, words, said):
    refused(tune(folder, *words), said)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--iterations", 0), "iterations must be positive; got 0"),
        (("--lr", -1), "lr must be positive; got -1.0"),
        (("--lr", "nan"), "lr must be finite; got nan"),
        (("--seed", -1), "seed must not be negative; got -1"),
        (("--validation", 1), "validation must be a share in [0, 1); got 1.0"),
        (("--base", 0.5), "base must be from 1 to 1e6"),
        (("--base", 1e300), "base must be from 1 to 1e6"),
        (("--base", "inf"), "base must be finite"),
        (("--clip", "nan"), "clip must be finite"),
        (("--cache", "nan"), "cache must be finite"),
        (("--seed", 10**25), "seed must be below 2**63; got 1000"),
        (("--clip", 100), "clip a percentile in [0, 100)"),
        (("--freeze", "("), "freeze must be encoder, none or a regular expression"),
        (("--init", "random", "--freeze", "encoder"), "--freeze has no effect with --init random"),
        (
            ("--method", "trs-map", "--exponential", "--min-range", 1),
            "--min-range has no effect with --exponential",
        ),
        (("--method", "magic"), "is not one of 'vanilla'"),
        (
            ("--method", "adaptive-risk", "--min-foreground", 0.05),
            "--min-foreground has no effect with --method adaptive-risk; it is for risk-map, class-mean,",
        ),
        (
            ("--method", "trs-map", "--divisor", "pixels"),
            "--divisor has no effect with --method trs",
        ),
        (
            ("--divisor", "pixels", "--min-foreground", 0.5),
            "--min-foreground has no effect with --divisor pixels",
        ),
        (("--init", "random", "--head", "keep"), "--head keep has no effect with --init random"),
        (
            ("--exponential",),
            "--exponential has no effect with --method risk-map; it is for trs-map",
        ),
        (
            ("--validation", 0.4),
            "keeps training cases for tuning the decision, which is argmax; give decision tuned",
        ),
        (("--batch", "many"), "is not a valid integer"),
    ],
)
def test_usage_errors_exit_with_two(folder, words, said):
    result = tune(folder, *words)
    assert result.exit_code == 2
    text = " ".join(result.stderr.replace("│", " ").split())
    assert said in text and not (folder / "run").exists()


def test_no_foreground_leaves_nothing(folder):
    path = folder / "tasks" / "blobs.toml"
    text = path.read_text().replace("a = [\n    1,\n]", "a = [7]")
    path.write_text(text.replace('region = "all"', 'region = "all"\nbackground = [0, 1]'))
    refused(tune(folder), "no foreground in the training slices; look at [labels] and [slices]")
    assert not (folder / "run").exists()


@pytest.mark.filterwarnings("default")
def test_classes_without_a_training_voxel_are_named_and_recorded(tmp_path):
    path = write_blobs(tmp_path, classes=("a", "b", "c"))
    tr.save_source(make_source(("background", "a", "b", "c")), tmp_path / "source")
    for case in tr.load_task(path).split("train"):
        image = nib.load(case.label)
        data = np.minimum(np.asarray(image.dataobj), 1)
        nib.save(nib.Nifti1Image(data, image.affine), case.label)
    result = tune(tmp_path, "--iterations", 1)
    assert result.exit_code == 0
    for name in ("b", "c"):
        words = f"warning: class {name} has no voxel that counts in the training slices: nothing is"
        assert words in result.stderr
    assert "class a has" not in result.stderr
    assert tr.load_run(tmp_path / "run").manifest["absent"] == ["b", "c"]


def test_a_bad_test_case_is_found_before_training(folder, monkeypatch):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    case = task.split("test")[0]
    Path(case.label).write_bytes(Path(case.label).read_bytes()[:50])
    monkeypatch.setattr("transfer_risk.training.collect", lambda *_a, **_k: pytest.fail("began"))
    refused(tune(folder), "cannot be read as an image")
    assert not (folder / "run").exists()


STRIDED = {
    **{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "norm": "batch"},
    **{"channels": [4, 8, 8], "strides": [2, 2]},
}


def cut(case, rows):
    """Shorten image and label of a case along the first axis."""
    for path in (*case.images, case.label):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:rows], image.affine), path)


@pytest.mark.parametrize("words", [(), ("--init", "random"), ("--head", "new")], ids=str)
@pytest.mark.parametrize("kept", ["test", "validation", "tuning"])
def test_a_size_that_the_network_cannot_take_is_found_before_training(
    folder, monkeypatch, words, kept
):
    write_monai(folder / "strided", "UNet", STRIDED, spatial_dims=2, size=())
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    cases = task.split("test")
    if kept != "test":
        words = (*words, "--decision", "tuned", *(("--validation", 0.4) * (kept == "validation")))
        recipe = tr.Recipe(decision="tuned", validation=0.4 if kept == "validation" else 0.0)
        cases = few_shot(task, recipe)[kept == "validation"]
    cut(cases[0], 13)
    monkeypatch.setattr("transfer_risk.training.collect", lambda *_a, **_k: pytest.fail("began"))
    result = tune(folder, *words, source="strided")
    refused(result, f"{cases[0].id}: source strided: its network cannot work on images (1, 1, 13")
    assert "set preprocessing.size" in result.stderr and not (folder / "run").exists()


def test_windows_fit_images_of_any_size(folder):
    write_monai(folder / "strided", "UNet", STRIDED, spatial_dims=2, size=(8, 8))
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    cut(task.split("test")[0], 13)
    assert tune(folder, source="strided").exit_code == 0


@pytest.fixture
def healthy(folder):
    """The task with slices that hold foreground; a test and a training case have none."""
    path = folder / "tasks" / "blobs.toml"
    path.write_text(path.read_text().replace('select = "nonzero"', 'select = "foreground"'))
    task = tr.load_task(path)
    for case in (task.split("test")[0], task.split("train")[0]):
        label = nib.load(case.label)
        nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), case.label)
    return task


def test_a_healthy_test_case_is_measured_and_has_an_empty_map(healthy, folder):
    result = tune(folder)
    assert result.exit_code == 0, result.output
    made, (case, *others) = tr.load_run(folder / "run"), healthy.split("test")
    assert {c.id for c in made.cases} == {case.id, *(c.id for c in others)}
    for stage in ("before", "after"):
        assert np.isnan(made.transferability(stage, case)).all()
        path = folder / "run" / "maps" / stage / f"{case.id}_risk.nii.gz"
        assert not np.asarray(nib.load(path).dataobj).any()
        (row,) = (m for m in made.measures[stage] if m.case == case.id)
        found = (made.prediction(stage, case) == 1).any()
        assert row.dice == 0 if found else math.isnan(row.dice)
        maps = [made.transferability(stage, c) for c in others]
        assert not any(np.isnan(m).all() for m in maps)
    values = [made.transferability(s, c) for s in ("before", "after") for c in others]
    comparison = tr.compare([made])
    assert comparison.span.high == max(np.nanmax(v) for v in values) < 0  # nothing adds no 0
    shown = run("plot", folder / "run", "--out", folder / "f.png", "--case", case.id)
    assert shown.exit_code == 0, shown.output


def test_a_healthy_case_changes_no_map_of_the_others(healthy, folder):
    source, (case, *others) = tr.load_source(folder / "source"), healthy.split("test")
    maps, alone = (tr.risk_maps(source, healthy, cases=c) for c in ([case, *others], others))
    assert list(maps) == [case.id, *alone]
    assert bool(maps[case.id].transferability.isnan().all()) and not bool(maps[case.id].risk.any())
    for name, expected in alone.items():
        torch.testing.assert_close(
            maps[name].transferability, expected.transferability, equal_nan=True
        )
        assert torch.equal(maps[name].risk, expected.risk)
    where = folder / "tasks" / "blobs.toml"
    written = run("map", where, folder / "source", "--out", folder / "maps")
    assert written.exit_code == 0 and written.stdout.startswith(f"{2 * len(maps)} maps")
    shown = run("plot", where, folder / "source", "--out", folder / "f.png", "--case", case.id)
    assert shown.exit_code == 0, shown.output
    student = make_source(seed=1)
    changes = tr.map_changes(source, healthy, {"m": student})
    assert not any(math.isnan(c.before.value) for c in changes if c.quantity == "transferability")
    assert tr.negative_transfer(source, healthy, student=student, scratch=student).rows()


def test_a_healthy_training_case_is_no_case_of_the_score(healthy, folder):
    source, (case, *others) = tr.load_source(folder / "source"), healthy.split("train")
    tr.save_source(replace(make_source(seed=2), name="other"), folder / "other")
    made, expected = tr.score(source, healthy), tr.score(source, healthy, cases=others)
    assert made.cases == expected.cases == tuple(c.id for c in others) and not made.failed
    assert made.per_case == expected.per_case and made.pixels == expected.pixels
    for name, estimate in expected.estimates.items():
        assert made.estimates[name].interval() == pytest.approx(estimate.interval(), nan_ok=True)
    said = f"no voxel counts in {case.id}: not among the {len(others)} scored cases"
    assert said in made.warnings and said not in expected.warnings
    words = (folder / "tasks" / "blobs.toml", folder / "source", folder / "other")
    result = run("score", *words, "--probe")
    assert result.exit_code == 0 and result.stderr.count(said) == 1
    assert "dropped" not in result.stderr


def test_only_healthy_test_cases_leave_nothing(healthy, folder, monkeypatch):
    for case in healthy.split("test"):
        label = nib.load(case.label)
        nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), case.label)
    monkeypatch.setattr("transfer_risk.training.collect", lambda *_a, **_k: pytest.fail("began"))
    refused(tune(folder), f"case {healthy.split('test')[0].id}: no voxel counts; look at region")
    assert not (folder / "run").exists()
    with pytest.raises(ValueError, match="no voxel counts; look at region"):
        tr.risk_maps(tr.load_source(folder / "source"), healthy)


def test_saved_probabilities_are_refused_before_any_work(folder, monkeypatch):
    monkeypatch.setattr(
        "transfer_risk.finetuning.RunFolder.of", lambda *_a, **_k: pytest.fail("worked")
    )
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    stored = replace(make_source(), stored=lambda _: np.zeros(0))
    with pytest.raises(ValueError, match="nothing but saved probabilities"):
        tr.finetune(stored, task, out=folder / "run")
    with pytest.raises(ValueError, match="nothing but saved probabilities"):
        tr.finetune(stored, task)


def test_what_could_not_be_saved_is_refused_before_training(folder, monkeypatch):
    monkeypatch.setattr("transfer_risk.training.collect", lambda *_a, **_k: pytest.fail("worked"))
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    source = tr.load_source(folder / "source")
    nameless = replace(source, architecture={}, encoder="^none")
    with pytest.raises(ValueError, match=r"has no \[network\] table"):
        tr.finetune(nameless, task, out=folder / "run")
    wrong = replace(source, architecture={"target": "unet", "width": 8, "depth": 2})
    with pytest.raises(ValueError, match="could not be loaded again after training"):
        tr.finetune(wrong, task, out=folder / "run")
    assert not (folder / "run").exists()


def test_sources_and_tasks_without_files_have_no_run_folder(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    with pytest.raises(ValueError, match="source must have been loaded from a file"):
        tr.finetune(make_source(), task, out=folder / "run")


def test_folders_of_something_else_are_left_alone(folder):
    other = folder / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    refused(tune(folder, out="other"), "is not empty and no run; choose another --out")
    assert (other / "notes.txt").read_text() == "mine" and len(list(other.iterdir())) == 1
    (other / "notes.txt").unlink()
    assert tune(folder, out="other").exit_code == 0
    (other / "manifest.json").write_text("{")
    refused(tune(folder, out="other"), "manifest.json: is no manifest")
    for content in (
        '{"inputs": {}}',
        '{"finished": true, "inputs": 5}',
        '{"finished": true}',
        "[]",
    ):
        (other / "manifest.json").write_text(content)
        refused(tune(folder, out="other"), "manifest.json: is no manifest (")


def test_a_folder_that_cannot_be_made_is_named(folder):
    (folder / "file").write_text("")
    words = "could not be written (Not a directory); choose another --out"
    refused(tune(folder, out="file/run"), f"{folder / 'file' / 'run'}: {words}")


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_clean_line(folder, monkeypatch):
    monkeypatch.setattr(fitting, "FAINT", 2.0)
    result = tune(folder)
    lines = [line for line in result.stderr.splitlines() if "foreground is" in line]
    assert result.exit_code == 0 and len(lines) == 1
    assert lines[0].startswith("warning: foreground is") and ".py" not in result.stderr


def test_a_torchscript_source_is_tuned_and_saved(folder):
    with pytest.warns(
        Warning
    ):  # torch calls TorchScript deprecated, and the U-Net's padding depends on its input
        module = torch.jit.trace(make_source().network, torch.zeros(1, 1, 16, 16))
    module.save(folder / "net.ts")
    (folder / "net.source.toml").write_text(
        'format = 1\nspatial_dims = 2\nchannels = ["T1"]\nclasses = ["background", "a"]\n'
        "[preprocessing]\nsize = [16, 16]\n"
    )
    source = tr.load_source(folder / "net.ts")
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    recipe = tr.Recipe(iterations=2, batch=2, lr=1e-2)
    student = tr.finetune(source, task, recipe, out=folder / "run")
    again = tr.load_source(folder / "run")
    frozen = 0
    for name, tensor in student.network.state_dict().items():
        assert torch.equal(tensor, again.network.state_dict()[name])
        if name.startswith("encoder."):
            frozen += 1
            assert torch.equal(tensor, source.network.state_dict()[name])
    assert frozen
    with pytest.raises(ValueError, match="shows no layers; the head cannot be adapted"):
        tr.finetune(source, task, tr.Recipe(head="new"))


def test_runs_of_other_labels_are_not_compared(tmp_path):
    path = write_blobs(tmp_path, classes=("a", "b"))
    source = tr.save_source(make_source(("background", "a", "b")), tmp_path / "source")
    recipe = tr.Recipe(method="vanilla", iterations=1)
    for name in ("one", "two"):
        task = tr.load_task(path)
        tr.finetune(tr.load_source(source), task, recipe, out=tmp_path / name)
    runs = [tr.load_run(tmp_path / name) for name in ("one", "two")]
    tr.compare(runs)
    label = task.split("test")[0].label
    original = Path(label).read_bytes()
    image = nib.load(label)
    changed = np.asarray(image.dataobj).copy()
    changed[0] = 1 - np.minimum(changed[0], 1)
    nib.save(nib.Nifti1Image(changed, image.affine), label)
    tr.finetune(tr.load_source(source), task, recipe, out=tmp_path / "three")
    with pytest.raises(ValueError, match=r"same labels; \w+/label of .*three is another than that"):
        tr.compare([runs[0], tr.load_run(tmp_path / "three")])
    Path(label).write_bytes(original)
    path.write_text(path.read_text().replace("b = [", "b = [7, "))
    with pytest.raises(ValueError, match=r"blobs\.toml: has been changed since .*one was made"):
        tr.compare([tr.load_run(tmp_path / "one")])


@pytest.mark.parametrize("part", ["label", "image"])
def test_a_finished_run_is_not_read_with_data_that_was_changed_since(folder, part):
    assert tune(folder, "--iterations", 1).exit_code == 0
    case = tr.load_task(folder / "tasks" / "blobs.toml").split("test")[-1]
    path = Path(case.label if part == "label" else case.images[0])
    image = nib.load(path)
    data = np.asarray(image.dataobj).copy()
    data[:2] = data.max() - data[:2]
    nib.save(nib.Nifti1Image(data, image.affine), path)
    words = f"{path}: has been changed since {folder / 'run'} was made, whose measures are of the"
    refused(run("compare", folder / "run"), words)
    refused(run("plot", folder / "run", "--out", folder / "figure.png"), words)
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    del manifest["inputs"]
    (folder / "run" / "manifest.json").write_text(json.dumps(manifest))
    assert run("compare", folder / "run").exit_code == 0


def test_a_source_that_has_seen_the_test_cases_is_named_by_whatever_measures_it(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    path = folder / "source"
    trained = {"dataset": "Dataset001_Blobs", "cases": [c.id for c in task.cases]}
    tr.save_source(replace(tr.load_source(path), trained=trained), path)
    said = tune(folder, "--iterations", 1)
    words = "warning: source source was trained on 2 of the 2 test cases: what is measured there"
    assert said.exit_code == 0 and words in said.stderr
    compared = run("compare", folder / "run")
    assert "run: its source was trained on 2 of these 2 cases (" in compared.stdout
    mapped = run("map", folder / "tasks" / "blobs.toml", path, "--out", folder / "maps")
    assert "warning: source source was trained on 2 of the 2 mapped cases" in mapped.stderr
    words = ("--iterations", 1, "--init", "random", "--freeze", "none")
    scratch = tune(folder, *words, out="scratch")
    assert scratch.exit_code == 0 and "was trained on" not in scratch.stderr


@pytest.mark.parametrize("known", [True, False])
def test_what_a_source_was_trained_on_is_known_after_two_fine_tunings(folder, known):
    path = folder / "tasks" / "blobs.toml"
    task, first = tr.load_task(path), folder / "source"
    ids = [c.id for c in task.split("test")]
    trained = {"dataset": "Dataset001_Blobs"} | ({"cases": ids} if known else {"folds": [0]})
    tr.save_source(replace(tr.load_source(first), trained=trained), first)
    assert tune(folder, "--iterations", 1, "--n-cases", 1, out="one").exit_code == 0
    again = tune(folder, "--iterations", 1, out="two", source="one")
    whether = "was trained on Dataset001_Blobs too; whether on the {} cases is not known"
    one = "was trained on 2 of the 2 {} cases" if known else whether
    assert f"warning: source blobs-risk-map {one.format('test')}" in again.stderr
    model = tr.load_source(folder / "two")
    assert [a.get("cases") for a in model.trained["ancestors"]] == [
        tr.load_source(folder / "one").trained["cases"],
        ids if known else None,
    ]
    assert [a["name"] for a in model.trained["ancestors"]] == ["blobs-risk-map", "source"]
    assert seen_cases(model, task, ids) == (ids if known else [])
    mapped = run("map", path, folder / "two", "--out", folder / "maps")
    assert one.format("mapped") in mapped.stderr
    compared = run("compare", folder / "two")
    assert ("two: its source was trained on 2 of these 2 cases" in compared.stdout) == known
    scratch = tune(folder, "--iterations", 1, "--init", "random", out="scratch", source="two")
    assert scratch.exit_code == 0
    assert tr.load_source(folder / "scratch").trained["ancestors"] == []


def test_channels_that_are_taken_by_position_are_warned_of(folder):
    assert "warning" not in tune(folder, "--iterations", 1, out="a").stderr
    path = folder / "source" / "source.toml"
    assert '"T1"' in path.read_text()
    path.write_text(path.read_text().replace('"T1"', '"FLAIR"'))
    said = tune(folder, "--iterations", 1, out="b")
    assert said.exit_code == 0
    assert "warning: source source reads the channels ['FLAIR']; it was given" in said.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half"])
def test_a_damaged_checkpoint_is_named(folder, content):
    run_folder = RunFolder(folder / "run", {}, {})
    path = folder / "run" / "checkpoint" / "state.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"state.pt: is damaged .*; remove .*checkpoint, and the run"
    ):
        run_folder.read_state()


def test_a_task_file_by_a_link_stays_where_the_link_is(tmp_path):
    """Its data folder is relative to the link, so the run must find the task there again, not beside the link's target."""
    real = write_blobs(tmp_path / "one")
    write_blobs(tmp_path / "two", seed=1)
    link = tmp_path / "two" / "tasks" / "link.toml"
    link.symlink_to(real)
    source = tr.load_source(tr.save_source(make_source(), tmp_path / "source"))
    recipe = tr.Recipe(iterations=1, batch=2, method="vanilla")
    tr.finetune(source, tr.load_task(link), recipe, out=tmp_path / "run")
    run = tr.load_run(tmp_path / "run")
    assert run.task.root == str((tmp_path / "two" / "data" / "Dataset001_Blobs").resolve())
    assert len(tr.compare([run]).cases) == len(run.cases) > 0
