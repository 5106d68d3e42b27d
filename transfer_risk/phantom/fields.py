"""Smooth random fields: noise of unit variance and deformations that cannot fold."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

BROAD_MM, BROAD_SIGMA_MM = 4.0, 25.0  # shape of the head and of the lobes
FINE_MM, FINE_SIGMA_MM = 0.8, 8.0  # course of single gyri
AFFINE = 0.03  # standard deviation of each entry of the linear part
SHIFT_MM = 2.0
STEEPEST = 0.9  # bound on the displacement's gradient; below 1 the map is one to one


def draw_noise(shape: tuple[int, ...], *, sigma: float, rng: np.random.Generator) -> FloatArray:
    """White noise filtered by a Gaussian, with zero mean and unit variance at every voxel.

    The noise lives on knots one sigma apart, so that a wide filter costs no more than a narrow one.

    Args:
        shape: Size of the field (X, Y, Z).
        sigma: Standard deviation of the filter, in voxels.
        rng: Source of randomness.

    Returns:
        The field (X, Y, Z).
    """
    bases = [_gaussian_basis(size, sigma=sigma) for size in shape]
    field = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    for basis in bases:  # contracts the first axis and appends the full-size one
        field = np.tensordot(field, basis, axes=(0, 1))
    return field


def _gaussian_basis(size: int, *, sigma: float) -> FloatArray:
    """Gaussians around the knots at every voxel (size, knots), rows of unit norm."""
    knots = np.arange(-3 * sigma, size + 3 * sigma, sigma)
    weights = np.exp(-0.5 * ((np.arange(size)[:, None] - knots) / sigma) ** 2)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(weights, dtype=np.float32)


def draw_displacement(
    shape: tuple[int, ...], *, spacing: float, rng: np.random.Generator
) -> FloatArray:
    """Displacement of every voxel: a mild affine part plus a smooth free-form part.

    Its gradient's rows sum to less than 1 in absolute value everywhere. Identity plus gradient is
    then strictly diagonally dominant: the Jacobian determinant is positive and no two points meet.

    Args:
        shape: Size of the grid (X, Y, Z).
        spacing: Voxel size, in mm.
        rng: Source of randomness.

    Returns:
        The displacement (3, X, Y, Z), in voxels.
    """
    field = _affine_part(shape, spacing=spacing, rng=rng)
    for axis in range(3):
        for size_mm, sigma_mm in ((BROAD_MM, BROAD_SIGMA_MM), (FINE_MM, FINE_SIGMA_MM)):
            noise = draw_noise(shape, sigma=sigma_mm / spacing, rng=rng)
            field[axis] += noise * np.float32(size_mm / spacing)
    return np.asarray(field * min(1.0, STEEPEST / _steepness(field)), dtype=np.float32)


def _affine_part(shape: tuple[int, ...], *, spacing: float, rng: np.random.Generator) -> FloatArray:
    linear = rng.normal(0, AFFINE, (3, 3)).astype(np.float32)
    shift = rng.normal(0, SHIFT_MM / spacing, 3).astype(np.float32)
    grid = np.indices(shape, dtype=np.float32)
    centre = (np.array(shape, dtype=np.float32) - 1) / 2
    centred = grid - centre[:, None, None, None]
    moved = np.tensordot(linear, centred, axes=1) + shift[:, None, None, None]
    return np.asarray(moved, dtype=np.float32)


def _steepness(field: FloatArray) -> float:
    """Largest row sum of the absolute gradient over the grid."""
    rows = (sum(np.abs(part) for part in np.gradient(component)) for component in field)
    return max(float(np.max(row)) for row in rows)
