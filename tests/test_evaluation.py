"""Measures of predictions against labels: what they need, and the two ways to average them."""

import math
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from blob_folder import save
from blobs import make_source, write_blobs

import transfer_risk as tr
from transfer_risk.evaluation import (
    Measure,
    Segmented,
    check_cases,
    mean_dice,
    measures,
    pooled_mean,
)


def test_evaluation_of_a_perfect_and_a_shifted_prediction(folder):
    task = tr.load_task(folder / "tasks" / "blobs.toml")

    class Known(torch.nn.Module):
        """Says class by brightness, as the phantom was made without noise."""

        def forward(self, images):
            return -((images - torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1)) ** 2) * 50

    for case in task.cases:
        label = np.asarray(nib.load(case.label).dataobj)
        save(type(folder)(case.images[0]), label.astype(np.float32))
    source = tr.Source(
        "known",
        Known(),
        task.classes,
        task.channels,
        preprocessing=tr.Preprocessing(normalise="none"),
    )
    for row in tr.evaluate(source, task):
        assert (row.dice, row.hd95, row.recall, row.precision) == (1, 0, 1, 1)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_hd95_of_one_slice_is_that_of_an_image():
    from monai.metrics import compute_hausdorff_distance

    label = np.zeros((140, 140), np.int16)
    label[20:120, 20:120] = 1
    far = label.copy()
    far[130:138, 130:138] = 1
    spacing = (1.5, 0.5)
    pair = [torch.from_numpy(m)[None, None].float() for m in (far, label)]
    expected = float(
        compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    )
    assert expected > 5
    for axis in range(3):
        at = [np.expand_dims(m, axis) for m in (far, label)]
        zooms = np.insert(np.array(spacing), axis, 7.0)
        seen = Segmented(tr.Case("c", ("c.nii",)), at[1], at[0], np.diag([*zooms, 1.0]))
        (found,) = measures(("background", "a"), seen)
        assert found.hd95 == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_moved_slabs_is_their_distance_in_mm(axis):
    """Slabs of two voxels, moved by three: half of either surface is 3 voxels away, half 2."""
    spacing, shape = (1.0, 2.0, 3.5), [8, 9, 10]
    slabs = []
    for start in (2, 5):
        slab = np.zeros(shape, np.int16)
        np.moveaxis(slab, axis, 0)[start : start + 2] = 1
        slabs.append(slab)
    seen = Segmented(tr.Case("c", ("c.nii",)), slabs[0], slabs[1], np.diag([*spacing, 1.0]))
    (found,) = measures(("background", "a"), seen)
    assert found.hd95 == pytest.approx(3 * spacing[axis]) and found.dice == 0


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("blobs"), cases=4))


@pytest.mark.parametrize(
    "use",
    [
        lambda task, cases: tr.evaluate(make_source(), task, cases=cases),
        lambda task, cases: tr.training_slices(cases, task),
        lambda task, cases: check_cases(task, cases),
        lambda task, cases: tr.score(make_source(), task, cases=cases[1:]),
        lambda task, cases: tr.risk_maps(make_source(), task, cases=cases),
        lambda task, cases: tr.tune_decision(make_source(), task, cases=cases),
    ],
    ids=["evaluate", "training_slices", "check_cases", "score", "risk_maps", "tune_decision"],
)
def test_a_case_without_a_label_is_named(task, use):
    first, second, *_ = task.cases
    bare = replace(second, label=None)
    with pytest.raises(ValueError, match=f"^case {bare.id}: has no label file$"):
        use(task, [first, bare])


def test_finetune_names_a_case_without_a_label(task):
    bare = replace(task.split("train")[0], label=None)
    cases = tuple(bare if c.id == bare.id else c for c in task.cases)
    with pytest.raises(ValueError, match=f"^case {bare.id}: has no label file$"):
        tr.finetune(make_source(), replace(task, cases=cases), tr.Recipe(iterations=1, n_slices=2))


def test_cases_or_cells_are_averaged():
    """Two classes in the first case, one in the second: (.5 + .9) / 2 of cases, 1.9 / 3 of cells."""
    cells = [
        ("c", "a", 0.2, 1.0),
        ("c", "b", 0.8, 0.0),
        ("d", "a", 0.9, 0.5),
        ("d", "b", math.nan, 0),
    ]
    rows = [Measure(case, name, dice, math.nan, recall, 0) for case, name, dice, recall in cells]
    assert mean_dice(rows).value == pytest.approx(0.7) and mean_dice(rows).cases == 2
    assert pooled_mean(rows) == pytest.approx(1.9 / 3)
    assert pooled_mean(rows, "recall") == pytest.approx(1.5 / 4)
    assert math.isnan(pooled_mean(rows, "hd95"))


def test_too_little_memory_is_a_sentence_and_other_errors_are_not(task):
    class Huge(torch.nn.Module):
        def forward(self, _):
            raise RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
            )

    huge = replace(make_source(), network=Huge())
    with pytest.raises(
        ValueError, match=r"probabilities of the image, 2 classes, need more memory"
    ):
        tr.score(huge, task)
