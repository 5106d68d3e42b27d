"""From a volume to what a network sees, and back."""

import nibabel as nib
import numpy as np
import pytest
import torch

import transfer_risk as tr
from transfer_risk.grids import Grid, normalised
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


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("goal", [0.7, 1.0, 2.2, 3.0])
def test_images_and_labels_lie_at_the_same_places(dims, axis, goal):
    """A ramp in mm along one axis keeps its values where the new voxels lie, and labels change where it does."""
    voxel, shape = (1.0, 1.5, 2.0), (24, 20, 6)
    places = (np.arange(shape[axis]) + 0.5) * voxel[axis]
    ramp = np.broadcast_to(np.expand_dims(places, tuple({0, 1, 2} - {axis})), shape)
    spacing = [1.0, 1.5, 2.0][:dims]
    spacing[axis] = goal
    volume = Volume(ramp[None].astype(np.float32), np.diag([*voxel, 1.0]))
    grid = Grid.of(volume, tr.Preprocessing(spacing=tuple(spacing)), dims)
    image = np.moveaxis(grid.images(volume.image)[:, 0].numpy(), axis + 1, -1)
    number = image.shape[-1]
    centres = (np.arange(number) + 0.5) * shape[axis] * voxel[axis] / number
    inner = slice(
        2, -2
    )  # at the border there is no value beyond the last voxel; filters have whole taps
    np.testing.assert_allclose(
        image[..., inner], np.broadcast_to(centres[inner], image[..., inner].shape), atol=0.05
    )
    for edge in (places[7] + 0.01, places[11] + 0.01):
        labels = grid.labels((ramp > edge).astype(np.int16))
        own = np.moveaxis(labels.numpy(), axis + 1, -1)
        certain = np.abs(centres - edge) > voxel[axis] / 2 + 1e-6
        wanted = np.broadcast_to(centres > edge, own.shape)
        np.testing.assert_array_equal(own[..., certain], wanted[..., certain])


def test_normalisations_by_hand():
    image = np.array([[0, 2, 4, 0], [5, 5, 5, 5], [0, 0, 0, 0], [2, 4, 6, 4]], dtype=np.float32)
    np.testing.assert_allclose(
        normalised(image, "zscore-nonzero"),
        [[0, -1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [-(2**0.5), 0, 2**0.5, 0]],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        normalised(image, "minmax"), [[0, 0.5, 1, 0], [0] * 4, [0] * 4, [0, 0.5, 1, 0.5]]
    )
    own = normalised(image, "zscore")
    np.testing.assert_allclose(own.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(own.std(1), [1, 0, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(normalised(image, "none"), image)
    np.testing.assert_allclose(
        normalised(image, "window", (1.0, 5.0)),
        [[0, 0.25, 0.75, 0], [1] * 4, [0] * 4, [0.25, 0.75, 1, 0.75]],
    )
