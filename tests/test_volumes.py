"""Which voxels of a case count, against a loop over all of them."""

import nibabel as nib
import numpy as np
import pytest

import transfer_risk as tr
from transfer_risk.volumes import read

SHAPE = (5, 4, 6)


def write_case(root, seed, axis):
    """A data set of one case with two channels, each 0 where the other is not; raw value 7 is ignored."""
    rng = np.random.default_rng(seed)
    raw = rng.choice([0, 0, 0, 1, 2, 7], SHAPE).astype(np.int16)
    image = np.where(rng.random((2, *SHAPE)) < 0.4, rng.random((2, *SHAPE)) + 0.1, 0.0)
    for data in (raw, *image):
        np.moveaxis(data, axis, 0)[1] = 0  # a slice without anything
    np.moveaxis(raw, axis, 0)[2] = 0  # one without foreground
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    for channel, data in zip(("T1", "T2"), image, strict=True):
        nib.save(
            nib.Nifti1Image(data.astype(np.float32), np.eye(4)), root / f"images/c_{channel}.nii.gz"
        )
    nib.save(nib.Nifti1Image(raw, np.eye(4)), root / "labels/c.nii.gz")
    return image, raw


@pytest.mark.parametrize("select", ["all", "nonzero", "foreground"])
@pytest.mark.parametrize("region", ["all", "nonzero"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_which_voxels_count_equals_a_loop(tmp_path, select, region, axis):
    image, raw = write_case(tmp_path, axis, axis)
    (tmp_path / "t.toml").write_text(
        f"""format = 1
name = "t"
root = "."
layout = "pairs"
channels = ["T1", "T2"]
classes = ["background", "a", "b"]
ignore = [7]
background = [0]
region = "{region}"
[labels]
a = [1]
b = [2]
[slices]
axis = {axis}
select = "{select}"
"""
    )
    task = tr.load_task(tmp_path / "t.toml")
    (case,) = task.cases
    expected = np.full(SHAPE, -1)
    for p in np.ndindex(SHAPE):
        slab = np.take(image, p[axis], axis + 1), np.take(raw, p[axis], axis)
        chosen = {
            "all": True,
            "nonzero": bool((slab[0] != 0).any()),
            "foreground": bool(np.isin(slab[1], [1, 2]).any()),
        }[select]
        inside = region == "all" or any(image[(c, *p)] != 0 for c in range(2))
        if chosen and inside and raw[p] != 7:
            expected[p] = raw[p]
    np.testing.assert_array_equal(read(case, task).labels, expected)
    counted = [k for k in range(SHAPE[axis]) if (np.take(expected, k, axis) >= 0).any()]
    assert tr.training_slices([case], task) == [(0, k) for k in counted]
