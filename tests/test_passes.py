"""One forward pass for what is made of a case, and where the voxels lie that count."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from blobs import make_source, write_blobs, write_monai

import transfer_risk as tr
from transfer_risk import passes
from transfer_risk.mapping import write_stages
from transfer_risk.passes import Places, Predictions
from transfer_risk.prediction import predict_volume
from transfer_risk.sources import Source
from transfer_risk.volumes import Volume, read

DEPTH = 12
VOLUME = {
    **{"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "norm": "batch"},
    **{"channels": [2, 4], "strides": [2]},
}
TASKS = {  # select, region, dimensions
    "all": ("all", "all", 2),
    "nonzero": ("nonzero", "all", 2),
    "foreground": ("foreground", "all", 2),
    "region": ("nonzero", "nonzero", 2),
    "3d": ("all", "all", 3),
    "3d nonzero": ("nonzero", "nonzero", 3),
}


@pytest.fixture(scope="module", params=TASKS.values(), ids=TASKS)
def made(tmp_path_factory, request):
    """Task file and source; three of twelve slices are 0, which leaves one more than a batch holds, or hold no label."""
    select, region, dims = request.param
    root = tmp_path_factory.mktemp("made")
    path = write_blobs(root, cases=5, shape=(12, 11, DEPTH))
    text = path.read_text().replace('select = "nonzero"', f'select = "{select}"')
    path.write_text(text.replace('region = "all"', f'region = "{region}"'))
    for case in tr.load_task(path).cases:
        for file, part in ((case.images[0], np.s_[:3]), (case.label, np.s_[:0])):
            image = nib.load(file)
            data = np.asarray(image.dataobj).copy()
            data[part] = 0
            data[..., [0, 5, 11]] = 0
            nib.save(nib.Nifti1Image(data, image.affine), file)
    if dims == 3:
        write_monai(root / "source", "UNet", VOLUME, spatial_dims=3, size=(8, 8, 8))
    else:
        model = make_source(seed=1)
        model.network.head.weight.data *= 30  # or it decides for one class everywhere
        tr.save_source(model, root / "source")
    return root


@pytest.fixture
def seen(monkeypatch):
    """Numbers of images that networks are given."""
    numbers, outputs = [], Source.outputs
    monkeypatch.setattr(Source, "outputs", lambda s, x: (numbers.append(len(x)), outputs(s, x))[1])
    return numbers


def count(seen, work):
    seen.clear()
    result = work()
    return sum(seen), result


def test_a_run_is_measured_with_one_forward_pass(made, seen, tmp_path):
    root = shutil.copytree(made, tmp_path / "copy")
    task, source = tr.load_task(root / "tasks" / "blobs.toml"), tr.load_source(root / "source")
    recipe = tr.Recipe(iterations=2, batch=2, lr=1e-2)
    student = tr.finetune(source, task, recipe, out=root / "run")
    once, before = count(seen, lambda: tr.evaluate(source, task))
    stages = {root / "maps" / "before": source, root / "maps" / "after": student}
    write_stages(stages, task)
    paths = list((root / "run").rglob("*.nii.gz"))
    known = {p: np.asarray(nib.load(p).dataobj) for p in paths}
    for path in (root / "run" / "metrics.csv", *paths):
        path.unlink()
    again, _ = count(seen, lambda: tr.finetune(source, task, recipe, out=root / "run"))
    assert once and again == 2 * once
    made_run = tr.load_run(root / "run")
    for found, own in zip(made_run.measures["before"], before, strict=True):
        assert found.case == own.case and found.dice == pytest.approx(own.dice, 1e-5, nan_ok=True)
    for path in paths:
        data = np.asarray(nib.load(path).dataobj)
        np.testing.assert_array_equal(data, known[path])
        if "prediction" not in path.name:
            alone = nib.load(root / path.relative_to(root / "run"))
            np.testing.assert_array_equal(data, np.asarray(alone.dataobj))


def test_changes_of_maps_cost_one_forward_pass_of_each_model(made, seen):
    task, source = tr.load_task(made / "tasks" / "blobs.toml"), tr.load_source(made / "source")
    once, _ = count(seen, lambda: tr.evaluate(source, task))
    students = {"m": source, "n": replace(source, name="other")}
    assert count(seen, lambda: tr.map_changes(source, task, students))[0] == 3 * once


def test_slices_that_count_have_the_same_bits_whether_others_are_predicted_or_not(made):
    task, source = tr.load_task(made / "tasks" / "blobs.toml"), tr.load_source(made / "source")
    volume = read(task.cases[0], task)
    some, whole = (predict_volume(source, volume, every_slice=all_) for all_ in (False, True))
    valid = volume.labels >= 0
    np.testing.assert_array_equal(some[:, valid], whole[:, valid])
    plain = predict_volume(source, Volume(volume.image, volume.affine))
    np.testing.assert_allclose(whole, plain, atol=1e-6)


@pytest.mark.parametrize("budget", [2**30, 0])
def test_each_case_is_seen_once_and_the_voxels_are_the_same(made, seen, budget):
    task, source = tr.load_task(made / "tasks" / "blobs.toml"), tr.load_source(made / "source")
    found = []
    watched = Predictions(source, task, task.cases, budget, seen=found.append)
    plain = Predictions(source, task, task.cases)
    for _ in range(2):
        for (a, theta, labels), (b, other, others) in zip(watched, plain, strict=True):
            assert a.id == b.id and torch.equal(theta, other) and torch.equal(labels, others)
    assert [f.case.id for f in found] == [c.id for c in task.cases]
    for own in found:
        np.testing.assert_array_equal(own.labels, read(own.case, task, every_slice=True).labels)
        np.testing.assert_array_equal(own.affine, np.diag([1, 1, 2, 1]))
        assert own.predicted.shape == (12, 11, DEPTH) and own.spacing == (1, 1, 2)


def test_which_voxels_count_does_not_depend_on_the_channels_that_a_source_reads(tmp_path):
    """A region of all channels, of which the source reads one that is 0 where another is not."""
    path = write_blobs(tmp_path, cases=3)
    data = tmp_path / "data" / "Dataset001_Blobs"
    for image in sorted((data / "imagesTr").iterdir()):
        stored = nib.load(image)
        other = np.asarray(stored.dataobj).copy()
        other[:4], other[..., 0] = 0, 0
        nib.save(nib.Nifti1Image(other, stored.affine), str(image).replace("_0000", "_0001"))
    description = json.loads((data / "dataset.json").read_text())
    description["channel_names"]["1"] = "T2"
    (data / "dataset.json").write_text(json.dumps(description))
    path.unlink()
    path = tr.write_tasks(tmp_path / "data", tmp_path / "tasks")[0]
    path.write_text(path.read_text().replace('region = "all"', 'region = "nonzero"'))
    task, source = tr.load_task(path), replace(make_source(), channels=("T2",))
    assert task.channels == ("T1", "T2")
    for _, _, labels in Predictions(source, task, task.cases, seen=lambda _: None):
        assert labels.shape == (1, 16 * 12 * 5)


def test_maps_read_each_file_once(made, tmp_path, monkeypatch):
    from transfer_risk import volumes

    task, source = tr.load_task(made / "tasks" / "blobs.toml"), tr.load_source(made / "source")
    read_files, one, several = Counter(), volumes.load, volumes.load_all
    monkeypatch.setattr(volumes, "load", lambda path: (read_files.update([path]), one(path))[1])
    monkeypatch.setattr(
        volumes, "load_all", lambda given: (read_files.update(given), several(given))[1]
    )
    _, failed = tr.write_maps(source, task, tmp_path / "maps")
    assert not failed and set(read_files.values()) == {1}
    assert len(read_files) == 2 * len(task.split("test"))


@pytest.mark.parametrize("select", ["foreground", "all"])
def test_values_are_scattered_where_they_were_taken(tmp_path, select):
    """On the slices of the task, or on every one; a case without a voxel that counts has a map without a value."""
    path = write_blobs(tmp_path, cases=3)
    path.write_text(path.read_text().replace('select = "nonzero"', f'select = "{select}"'))
    task = tr.load_task(path)
    first = nib.load(task.cases[0].label)
    nib.save(nib.Nifti1Image(np.zeros(first.shape, np.uint8), first.affine), task.cases[0].label)
    for every_slice in (False, True):
        predictions = Predictions(make_source(), task, task.cases, every_slice=every_slice)
        for case, _, labels in predictions:
            expected = read(case, task, every_slice=every_slice).labels.astype(np.float32)
            values = predictions.scattered(case, labels[0])
            assert values.dtype == torch.float32 and not (values == -1).any()
            np.testing.assert_array_equal(values[0], np.where(expected < 0, np.nan, expected))
        empty = select == "foreground" and not every_slice
        assert predictions.empty == ([task.cases[0].id] if empty else [])
        if empty:
            values = predictions.scattered(task.cases[0], torch.empty(0))
            assert values.shape == (1, *first.shape) and bool(values.isnan().all())


def test_places_of_any_shape():
    rng = np.random.default_rng(0)
    for shape in ((3, 5, 7), (1, 1, 1), (16, 2, 8)):
        mask = np.asfortranarray(rng.random(shape) < 0.5)
        values = torch.from_numpy(rng.normal(size=int(mask.sum())).astype(np.float32))
        found = Places.of(mask).scattered(values)[0].numpy()
        np.testing.assert_array_equal(found[mask], values.numpy())
        assert np.isnan(found[~mask]).all()


def test_a_case_that_fails_in_a_later_pass_ends_the_score_with_its_name(tmp_path, monkeypatch):
    """Or the joints of the others would be taken for those of the cases before them."""
    task, calls = tr.load_task(write_blobs(tmp_path)), []
    real = passes.predict_volume

    def sometimes(*args, **named):
        calls.append(1)
        if len(calls) > len(task.split("train")) + 1:
            raise ValueError("the disk is gone")
        return real(*args, **named)

    monkeypatch.setattr(passes, "predict_volume", sometimes)
    second = task.split("train")[1].id
    with pytest.raises(ValueError, match=rf"{second}: the disk is gone; it could be predicted bef"):
        tr.score(make_source(), task, cache=0)
