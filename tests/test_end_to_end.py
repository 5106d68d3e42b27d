"""Files in, files out: tasks, scoring against brute force, maps, predictions, and what bad input says."""

import errno
import io
import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from blob_folder import SHAPE, make_source, save, write_dataset
from command_line import run

import transfer_risk as tr
from transfer_risk.cli import main
from transfer_risk.evaluation import mean_dice
from transfer_risk.pretraining import save_measured
from transfer_risk.volumes import read


def probabilities_and_labels(source, task, part="train"):
    """By an explicit loop over cases and slices: probabilities (Z, n) and labels (n,)."""
    for case in task.split(part):
        volume = read(case, task)
        image = volume.image.astype(np.float64)[0]
        image = ((image - image.mean()) / image.std()).astype(np.float32)
        slices = [
            source.predict(torch.from_numpy(image[None, None, :, :, k])) for k in range(SHAPE[2])
        ]
        theta = torch.stack([s[0] for s in slices], -1)
        yield theta.flatten(1).double().numpy(), volume.labels.ravel()


@pytest.mark.parametrize("classes", [("a",), ("a", "b")])
def test_scores_equal_brute_force(tmp_path, classes):
    write_dataset(tmp_path / "data", classes=classes)
    tr.write_tasks(tmp_path / "data", tmp_path / "tasks")
    task = tr.load_task(tmp_path / "tasks" / "data.toml")
    source = make_source()
    made = tr.score(source, task)
    cases = list(probabilities_and_labels(source, task))
    size = len(task.classes)
    joints = [np.stack([t[:, y == k].sum(1) for k in range(size)]) for t, y in cases]
    total = sum(joints)
    conditional = total / total.sum(0)
    pixels = sum(len(y) for _, y in cases)
    leep = sum(np.log((conditional[y] * t.T).sum(1)).sum() for t, y in cases) / pixels
    assert made.estimates["leep"].value == pytest.approx(leep, rel=1e-6)
    loo, floor = 0.0, 0.0
    for own, (t, y) in zip(joints, cases, strict=True):
        rest = total - own
        table = (rest + 1 / size) / (rest.sum(0) + 1)
        loo += np.log((table[y] * t.T).sum(1)).sum() / pixels
        frequency = (rest.sum(1) + 1 / size) / (rest.sum() + 1)
        floor += np.log(frequency[y]).sum() / pixels
    assert made.estimates["leep_loo"].value == pytest.approx(loo, rel=1e-6)
    assert made.estimates["leep_loo_floor"].value == pytest.approx(floor, rel=1e-6)
    argmax = []
    for own, (t, y) in zip(joints, cases, strict=True):
        rest = total - own
        winner = ((rest + 1 / size) / (rest.sum(0) + 1) @ t).argmax(0)
        dice = [
            2 * ((winner == k) & (y == k)).sum() / max((winner == k).sum() + (y == k).sum(), 1)
            for k in range(1, size)
        ]
        argmax.append(np.mean(dice))
    assert made.estimates["eep_dice_argmax"].value == pytest.approx(np.mean(argmax), abs=1e-6)
    assert 0 <= made.estimates["eep_dice"].value <= 1
    assert made.pixels == pixels and len(made.cases) == len(cases)
    again = tr.score(source, task, cache=0)
    assert {k: e.value for k, e in again.estimates.items()} == pytest.approx(
        {k: e.value for k, e in made.estimates.items()}, nan_ok=True
    )


def test_eep_dice_uses_the_threshold_of_the_other_cases(tmp_path):
    write_dataset(tmp_path / "data", classes=("a",))
    tr.write_tasks(tmp_path / "data", tmp_path / "tasks")
    task = tr.load_task(tmp_path / "tasks" / "data.toml")
    source = make_source()
    cases = list(probabilities_and_labels(source, task))
    joints = [np.stack([t[:, y == k].sum(1) for k in range(2)]) for t, y in cases]
    total = sum(joints)
    smooth = [(total - j + 0.5) / ((total - j).sum(0) + 1) for j in joints]
    span = (total + 0.5) / (total.sum(0) + 1)
    low, high = span[1].min(), span[1].max()
    bins = [
        np.clip(np.floor((s[1] @ t - low) * 256 / (high - low)), 0, 255)
        for s, (t, _) in zip(smooth, cases, strict=True)
    ]
    dices = []
    for c, (_, own) in enumerate(cases):
        others = [k for k in range(len(cases)) if k != c]
        pooled_bins = np.concatenate([bins[k] for k in others])
        pooled = np.concatenate([cases[k][1] for k in others]) == 1
        dice = [
            2 * ((pooled_bins >= b) & pooled).sum() / ((pooled_bins >= b).sum() + pooled.sum())
            for b in range(256)
        ]
        taken = bins[c] >= int(np.argmax(dice))
        dices.append(2 * (taken & (own == 1)).sum() / (taken.sum() + (own == 1).sum()))
    assert tr.score(source, task).estimates["eep_dice"].value == pytest.approx(
        np.mean(dices), abs=1e-3
    )


def test_eep_dice_of_a_class_that_one_case_has_is_unknown_and_spoils_no_other(tmp_path):
    """The other class is found as well as where the rare one is background."""
    dices = {}
    for name, rare in (("rare", 2), ("without", 0)):
        root = tmp_path / name
        write_dataset(root)
        for k in range(5):
            path = root / "labelsTr" / f"case_{k}.nii.gz"
            labels = np.asarray(nib.load(path).dataobj)
            save(path, np.where(labels == 2, rare if k == 0 else 0, labels).astype(np.uint8))
        tr.write_tasks(root, tmp_path / "tasks")
        path = tmp_path / "tasks" / f"{name}.toml"
        path.write_text(re.sub(r"test = \[.*?\]", "test = []", path.read_text(), flags=re.S))
        made = tr.score(make_source(), tr.load_task(path)).estimates
        assert np.isnan(made["eep_dice[b]"].value)
        assert made["eep_dice"].value == pytest.approx(made["eep_dice[a]"].value)
        dices[name] = made["eep_dice[a]"].value
    assert dices["rare"] == pytest.approx(dices["without"], abs=0.05) and dices["rare"] > 0.1


def test_score_map_predict_and_pretrain_on_the_command_line(folder):
    task = folder / "tasks" / "blobs.toml"
    scored = run(
        "score", task, folder / "s0", folder / "s1", "--format", "json", "--out", folder / "out"
    )
    assert scored.exit_code == 0, scored.output
    rows = json.loads(scored.stdout)["ranking"]
    assert [r["rank"] for r in rows] == [1, 2] and rows[0]["leep"] >= rows[1]["leep"]
    assert (
        rows[0]["leep_low"] <= rows[0]["leep"] <= rows[0]["leep_high"]
        and rows[1]["diff_next"] is None
    )
    assert {p.name for p in (folder / "out").iterdir()} == {
        "ranking.csv",
        "ranking.json",
        "per_case.csv",
    }
    printed = run("score", task, folder / "s0", folder / "s1", "--format", "csv")
    table, written = (
        pd.read_csv(text).drop(columns="seconds")
        for text in (io.StringIO(printed.stdout), folder / "out" / "ranking.csv")
    )
    pd.testing.assert_frame_equal(table, written)
    own = tr.score(tr.load_source(folder / "s0"), tr.load_task(task)).estimates
    row = table[table["source"] == "s0"].iloc[0]
    readings = ("leep_balanced", "leep_loo", "leep_loo_floor", "nce", "eep_dice", "dice")
    for name in (*readings, "leep[a]", "leep[b]", "eep_dice[a]", "eep_dice[b]"):
        assert row[name] == pytest.approx(own[name].value, nan_ok=True), name
    mapped = run("map", task, folder / "s0", "--out", folder / "maps", "--hardness")
    assert mapped.exit_code == 0, mapped.output
    case = tr.load_task(task).split("test")[0]
    label = nib.load(case.label)
    for name in ("risk", "transferability", "hardness"):
        image = nib.load(folder / "maps" / f"{case.id}_{name}.nii.gz")
        assert image.shape == label.shape
        np.testing.assert_allclose(image.affine, label.affine)
    risk = np.asarray(nib.load(folder / "maps" / f"{case.id}_risk.nii.gz").dataobj)
    assert risk.min() >= 1 and risk.max() <= 10 + 1e-3
    predicted = run(
        "predict", folder / "s0", case.images[0], "--out", folder / "labels", "--probabilities"
    )
    assert predicted.exit_code == 0, predicted.output
    assert nib.load(folder / "labels" / f"{case.id}.nii.gz").shape == label.shape
    small = ("--iterations", 3, "--width", 4, "--depth", 2)
    trained = run("pretrain", task, "--out", folder / "new", *small)
    assert trained.exit_code == 0 and "Dice" in trained.stdout, trained.output
    assert tr.load_source(folder / "new").classes == ("background", "a", "b")
    weights = (folder / "new" / "model.safetensors").read_bytes()
    again = run("pretrain", task, "--out", folder / "new", *small)
    assert again.exit_code == 1 and "new: holds a source; choose another --out" in again.stderr
    assert (folder / "new" / "model.safetensors").read_bytes() == weights
    assert run("pretrain", task, "--out", folder / "x", *small, "--seed", -1).exit_code == 2


def test_pretraining_without_test_cases_measures_nothing(folder):
    path = folder / "tasks" / "blobs.toml"
    text = re.sub(r"(?m)^test = \[[^]]*\]", "test = []", path.read_text())
    whole = path.with_name("whole.toml")
    whole.write_text(text)
    small = ("--iterations", 1, "--width", 2, "--depth", 2)
    made = run("pretrain", whole, "--out", folder / "whole", *small)
    assert made.exit_code == 0 and "not measured, as the task has no test case" in made.stdout
    assert tr.load_source(folder / "whole").name == "blobs"


def test_pretraining_says_what_is_under_way(folder, monkeypatch):
    told = []
    monkeypatch.setattr("rich.status.Status.update", lambda _, text: told.append(text))
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal
    small = ("--iterations", 1, "--width", 2, "--depth", 2)
    path = folder / "tasks" / "blobs.toml"
    made = run("pretrain", path, "--out", folder / "told", *small)
    assert made.exit_code == 0, made.output
    task = tr.load_task(path)
    words = [f"preparing {c.id}" for c in task.split("train")]
    assert told == [*words, *(f"{task.name}: {c.id}" for c in task.split("test"))]
    assert re.search(r"loss \d\.\d{3}", made.stderr)
    monkeypatch.delenv("FORCE_COLOR")
    assert not run("pretrain", path, "--out", folder / "silent", *small).stderr


def test_a_source_that_is_saved_is_measured(folder, tmp_path):
    task, source = tr.load_task(folder / "tasks" / "blobs.toml"), tr.load_source(folder / "s0")
    dice = save_measured(lambda: source, task, tmp_path / "new")
    assert dice.value == mean_dice(tr.evaluate(source, task)).value
    assert tr.load_source(tmp_path / "new").classes == source.classes
    with pytest.raises(ValueError, match="new: holds a source; choose another --out"):
        save_measured(lambda: pytest.fail("made"), task, tmp_path / "new")
    assert save_measured(lambda: source, replace(task, test=()), tmp_path / "unmeasured") is None


def test_pretraining_with_one_test_case_says_so_and_without_a_case_is_refused(folder):
    path = folder / "tasks" / "blobs.toml"
    task = tr.load_task(path)
    path.write_text(path.read_text().replace(task.test[1], task.test[0]))
    small = ("--iterations", 1, "--width", 2, "--depth", 2)
    made = run("pretrain", path, "--out", folder / "one", *small)
    assert made.exit_code == 0 and "(one case: no interval) on 1 test case\n" in made.stdout
    with pytest.raises(ValueError, match="has no case to train on"):
        tr.pretrain(task, cases=[])


def test_pretraining_reads_the_test_cases_first(folder):
    path = folder / "tasks" / "blobs.toml"
    damaged = tr.load_task(path).split("test")[0].label
    Path(damaged).write_bytes(b"")
    made = run("pretrain", path, "--out", folder / "late", "--iterations", 10**6)
    assert made.exit_code == 1 and f"{damaged}: cannot be read" in made.stderr
    assert not (folder / "late").exists()


def test_every_command_has_help_and_is_in_the_readme():
    from pathlib import Path

    readme = (Path(__file__).parents[1] / "README.md").read_text()
    for name, command in main.commands.items():
        assert command.help and f"transfer-risk {name}" in readme


def test_usage_errors_exit_with_two(folder):
    task = folder / "tasks" / "blobs.toml"
    assert run("score", task).exit_code == 2
    assert run("score", folder / "nothing.toml", folder / "s0").exit_code == 2
    assert run("score", task, folder / "s0", "--by", "luck").exit_code == 2
    assert run("map", task, folder / "s0", "--out", folder / "m", "--case", "nobody").exit_code == 2
    assert run("tasks", folder / "data", "--out", folder / "t", "--fold", "one").exit_code == 2


def test_sources_of_one_name_go_by_their_paths(folder):
    shutil.copytree(folder / "s0", folder / "copy")
    task, paths = folder / "tasks" / "blobs.toml", (folder / "s0", folder / "copy", folder / "s1")
    result = run("score", task, *paths, "--by", "leep", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = {row["source"]: row for row in json.loads(result.stdout)["ranking"]}
    first, second = (rows[str(p)] for p in paths[:2])
    assert rows.keys() == {*map(str, paths[:2]), "s1"} and first["leep"] == second["leep"]
    ends = sorted((first, second), key=lambda r: r["rank"])
    assert (ends[0]["diff_next"], ends[0]["p_next"]) == (0, 1)
    again = run("score", task, paths[0], paths[0], "--by", "leep")
    assert again.exit_code == 1 and f"{paths[0]} is given more than once" in again.stderr


def test_a_bad_source_is_named_and_the_others_are_scored(folder):
    (folder / "s1" / "model.safetensors").write_bytes(b"\x80\x04pickle")
    result = run(
        "score", folder / "tasks" / "blobs.toml", folder / "s0", folder / "s1", "--format", "json"
    )
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["ranking"]) == 1
    assert "model.safetensors: is no whole safetensors file" in result.stderr


def break_label(path):
    data = np.asarray(nib.load(path).dataobj).copy()
    data[0, 0, :2] = 77
    save(path, data)
    return r"77 \(2 voxels\)"


def break_shape(path):
    save(path, np.asarray(nib.load(path).dataobj)[:-1])
    return "resample one to the other's grid"


def break_direction(path):
    turn = np.diag([1.0, 1, 2, 1])
    turn[0, 1] = turn[1, 0] = 1e-2
    save(path, np.asarray(nib.load(path).dataobj), turn)
    return "spacing|directions"


def break_origin(path):
    affine = np.diag([1.0, 1, 2, 1])
    affine[0, 3] = 0.1
    save(path, np.asarray(nib.load(path).dataobj), affine)
    return "origin"


def truncate(path):
    path.write_bytes(path.read_bytes()[:60])
    return "cannot be read as an image"


@pytest.mark.parametrize(
    "damage", [break_label, break_shape, break_direction, break_origin, truncate]
)
def test_a_bad_case_is_dropped_for_all_and_named(folder, damage):
    import re

    task = tr.load_task(folder / "tasks" / "blobs.toml")
    case = task.split("train")[0]
    path = folder / "data" / "Dataset001_Blobs" / "labelsTr" / f"{case.id}.nii.gz"
    words = damage(path)
    result = run(
        "score", folder / "tasks" / "blobs.toml", folder / "s0", folder / "s1", "--format", "json"
    )
    assert result.exit_code == 1
    assert re.search(words, result.stderr) and path.name in result.stderr
    assert [r["cases"] for r in json.loads(result.stdout)["ranking"]] == [
        len(task.split("train")) - 1
    ] * 2


def test_the_order_of_the_sources_decides_nothing(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    ids = [c.id for c in task.split("train")]
    known = {"a": ids[:2], "b": ids[1:], "c": ids}
    for name, cases in known.items():
        (folder / name).mkdir()
        (folder / name / "source.toml").write_text(
            f'format = 1\nname = "{name}"\nclasses = ["background", "x"]\n[network]\ntarget = "probabilities"\n'
        )
        for k, case in enumerate(cases):
            theta = np.random.default_rng([k, len(name)]).random(SHAPE).astype(np.float32)
            save(folder / name / f"{case}.nii.gz", np.stack([theta, 1 - theta], -1))
    sources = {name: tr.load_source(folder / name) for name in known}
    for order in itertools.permutations("abc"):
        ranking = tr.rank_sources([sources[n] for n in order], task, by="leep")
        assert {s.source: s.cases for s in ranking.scores} == dict.fromkeys("abc", (ids[1],))
        assert not ranking.failed and set(ranking.dropped) == {ids[0], *ids[2:]}
    for case in task.split("train"):
        if case.id == ids[1]:  # the only common one, now without foreground
            stored = nib.load(case.label)
            save(Path(case.label), np.zeros(stored.shape, np.uint8), stored.affine)
    with pytest.raises(
        ValueError, match=f"share a case with foreground .* b cannot predict {ids[0]}"
    ):
        tr.rank_sources([sources["a"], sources["b"]], task)
    (folder / "b" / f"{ids[1]}.nii.gz").unlink()
    with pytest.raises(
        ValueError, match=f"must share a case .* b cannot predict {ids[0]}, {ids[1]}"
    ):
        tr.rank_sources([tr.load_source(folder / "a"), tr.load_source(folder / "b")], task)


def test_labels_with_a_scale_factor_are_the_whole_numbers_that_they_stand_for(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    case = task.split("train")[0]
    expected = read(case, task).labels
    path = folder / "data" / "Dataset001_Blobs" / "labelsTr" / f"{case.id}.nii.gz"
    stored = nib.load(path)
    image = nib.Nifti1Image((np.asarray(stored.dataobj) * 50).astype(np.int16), stored.affine)
    image.header.set_slope_inter(1 / 50, 0)
    nib.save(image, path)
    assert 1.0 not in np.unique(np.asarray(nib.load(path).dataobj))  # 0.99999998
    np.testing.assert_array_equal(read(case, task).labels, expected)
    image.header.set_slope_inter(1 / 40, 0)
    nib.save(image, path)
    with pytest.raises(ValueError, match=r"values outside the label map: 1\.25 \("):
        read(case, task)


def test_cases_without_foreground_are_not_scored_and_an_absent_class_is_named(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    source = tr.load_source(folder / "s0")
    for case in task.split("train"):
        label = nib.load(case.label)
        save(Path(case.label), np.minimum(np.asarray(label.dataobj), 1), label.affine)
    made = tr.score(source, task)
    assert f"class {task.classes[2]} has no voxel that counts" in "; ".join(made.warnings)
    for case in task.split("train"):
        label = nib.load(case.label)
        save(Path(case.label), np.zeros_like(np.asarray(label.dataobj)), label.affine)
    with pytest.raises(
        ValueError, match="task blobs: no foreground in 3 of 3 cases that source s0"
    ):
        tr.rank_sources([source], task)


def test_nan_in_an_image_is_named(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    path = (
        folder
        / "data"
        / "Dataset001_Blobs"
        / "imagesTr"
        / f"{task.split('train')[0].id}_0000.nii.gz"
    )
    data = np.asarray(nib.load(path).dataobj).copy()
    data[0, 0, 0] = np.nan
    save(path, data)
    result = run("score", folder / "tasks" / "blobs.toml", folder / "s0")
    assert result.exit_code == 1 and "NaN or infinite intensities" in result.stderr


def test_an_empty_folder_and_a_foreign_source_are_refused(folder):
    (folder / "empty").mkdir()
    assert "fits a layout" in run("tasks", folder / "empty", "--out", folder / "t").stderr
    assert "is no source" in run("score", folder / "tasks" / "blobs.toml", folder / "empty").stderr
    two = make_source()
    shutil.rmtree(folder / "s1")
    wide = tr.Source(
        "wide",
        tr.UNet(2, 3, width=4, depth=2),
        two.classes,
        ("T1", "T2"),
        architecture=two.architecture,
    )
    tr.save_source(wide, folder / "s1")
    refused = run("score", folder / "tasks" / "blobs.toml", folder / "s0", folder / "s1")
    assert refused.exit_code == 1 and "wants the channels ['T1', 'T2']" in refused.stderr


@pytest.mark.parametrize("writer", ["nibabel.save", "safetensors", "text"])
def test_a_full_disk_leaves_nothing_half_written(folder, monkeypatch, writer):
    from pathlib import Path

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    out = folder / "full"
    task = folder / "tasks" / "blobs.toml"
    if writer == "nibabel.save":
        monkeypatch.setattr(nib, "save", full)
        result = run("map", task, folder / "s0", "--out", out)
    elif writer == "safetensors":
        monkeypatch.setattr("transfer_risk.adapters.native.save_model", full)
        result = run("pretrain", task, "--out", out, "--iterations", 1, "--width", 2, "--depth", 2)
    else:
        monkeypatch.setattr(Path, "write_text", full)
        result = run("score", task, folder / "s0", "--out", out)
    assert result.exit_code == 1, result.output
    assert "could not be written" in result.stderr and "No space left" in result.stderr
    assert not [p for p in out.rglob("*") if p.is_file()]


def test_windows_cover_an_image_larger_than_the_source_sees(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    made = tr.score(make_source(size=(8, 8)), task)
    assert math.isfinite(made.estimates["leep"].value)
    assert made.pixels == int(np.prod(SHAPE)) * len(task.split("train"))


def test_decathlon_pairs_regions_and_given_splits(tmp_path):
    image = np.random.default_rng(0).random((4, 5, 6, 2)).astype(np.float32)
    msd = tmp_path / "Task09_X"
    for k in range(4):
        save(msd / "imagesTr" / f"x_{k}.nii.gz", image)
        save(msd / "labelsTr" / f"x_{k}.nii.gz", (image[..., 0] > 0.5).astype(np.uint8))
    pairs = [
        {"image": f"./imagesTr/x_{k}.nii.gz", "label": f"./labelsTr/x_{k}.nii.gz"} for k in range(4)
    ]
    description = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "x"},
        "training": pairs,
    }
    (msd / "dataset.json").write_text(json.dumps(description))
    task = tr.load_task(tr.write_tasks(msd, tmp_path / "tasks", binary=True)[1])
    assert task.name == "x-x-t2" and task.channels == ("T2",)
    np.testing.assert_array_equal(read(task.cases[0], task).image[0], image[..., 1])
    write_dataset(tmp_path / "regions")
    description = json.loads((tmp_path / "regions" / "dataset.json").read_text())
    description["labels"] = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    description["regions_class_order"] = [1, 2]
    (tmp_path / "regions" / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "regions" / "splits_final.json").write_text(
        json.dumps([{"train": ["case_0"], "val": ["case_3"]}])
    )
    task = tr.load_task(tr.write_tasks(tmp_path / "regions", tmp_path / "tasks")[0])
    assert (
        task.labels == {"whole": (1,), "core": (2,)}
        and task.ignore == (3,)
        and task.test == ("case_3",)
    )


def test_pretraining_is_seeded_and_learns(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")
    small = {"width": 4, "depth": 2, "iterations": 20}
    first, second = tr.pretrain(task, **small), tr.pretrain(task, **small)
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(a, b)
    losses = []
    tr.pretrain(task, **small | {"iterations": 60}, progress=lambda _, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


def test_slices_that_a_case_leaves_out_never_count(folder):

    task = tr.load_task(folder / "tasks" / "blobs.toml")
    few = replace(task.cases[0], slices=(1, 4))
    for every in (False, True):
        labels = read(few, task, every_slice=every).labels
        assert np.flatnonzero((labels >= 0).any((0, 1))).tolist() == [1, 4]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--base", "inf"), "inf is not in the range 1<=x<=1000000"),
        (("--base", "1e300"), "is not in the range 1<=x<=1000000"),
        (("--base", "nan"), "must be a finite number; got nan"),
        (("--clip", "nan"), "must be a finite number; got nan"),
        (("--cache", "nan"), "must be a finite number; got nan"),
    ],
)
def test_numbers_that_are_none_are_refused_with_their_option(folder, tmp_path, words, said):
    path = folder / "tasks" / "blobs.toml"
    result = run("map", path, folder / "s0", "--out", tmp_path / "maps", *words)
    text = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2 and words[0] in text and said in text, text
    seed = run("pretrain", path, "--out", tmp_path / "new", "--seed", 10**25)
    assert seed.exit_code == 2 and "--seed" in seed.stderr
