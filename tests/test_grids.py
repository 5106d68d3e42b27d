"""From a volume to what a network sees, and back."""

import nibabel as nib
import numpy as np
import pytest
import torch

import transfer_risk as tr
from transfer_risk.grids import Grid
from transfer_risk.volumes import Volume


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grid_forth_and_back_is_the_same_volume(codes, axis):
    change = nib.orientations.axcodes2ornt(codes)
    affine = nib.orientations.inv_ornt_aff(change, (4, 5, 6)) @ np.diag([1.0, 1, 1, 1])
    image = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    volume = Volume(image, np.linalg.inv(affine))
    for dims in (2, 3):
        grid = Grid.of(volume, tr.Preprocessing(orientation="RAS", axis=axis), dims)
        np.testing.assert_array_equal(grid.back(grid.images(image)), image)


def test_resampling_keeps_probabilities_summing_to_one():
    volume = Volume(
        np.random.default_rng(0).random((1, 12, 10, 3)).astype(np.float32),
        np.diag([1.0, 1.5, 2, 1]),
    )
    grid = Grid.of(volume, tr.Preprocessing(spacing=(2.0, 1.0)), 2)
    batch = grid.images(volume.image)
    assert batch.shape == (3, 1, 6, 15)
    theta = grid.back(torch.cat([batch, 1 - batch], 1))
    assert theta.shape == (2, 12, 10, 3)
    np.testing.assert_allclose(theta.sum(0), 1, rtol=1e-6)
