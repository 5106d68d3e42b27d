"""Nested, irregular lesions: oedema around an enhancing rim around a necrotic core."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transfer_risk.phantom.fields import draw_noise
from transfer_risk.phantom.template import BoolArray, FloatArray

NECROSIS, OEDEMA, RIM = 1, 2, 3

SHARE, LOG_SIGMA, RANGE = 0.02, 0.7, (0.004, 0.06)  # of the brain's volume
CORE_SHARE, NECROSIS_SHARE = (0.0, 0.5), (0.1, 0.65)  # of the lesion; of its core
SMALLEST_ML = 0.5  # a smaller core, or necrosis, is absent
DEPTH_MM = 8.0  # of the centre below CSF and surface, where the brain allows it
ROUGHNESS, ROUGH_SIGMA_MM = 0.3, 8.0
SPREAD_COST = np.array([4.0, 0.7, 0.0], dtype=np.float32)  # oedema shuns CSF and cortex


def draw_lesion(
    fractions: FloatArray, *, mask: BoolArray, spacing: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Label map of one lesion in grey or white matter, of log-normal size.

    Args:
        fractions: CSF, grey and white matter (3, X, Y, Z).
        mask: The brain (X, Y, Z).
        spacing: Voxel size, in mm.
        rng: Source of randomness.

    Returns:
        Labels (X, Y, Z): 0 = none, 1 = necrosis, 2 = oedema, 3 = enhancing rim. Neither the core
        (necrosis and rim) nor the necrosis touches what surrounds its shell.
    """
    distance = _distance_to_centre(fractions, mask=mask, spacing=spacing, rng=rng)
    share = np.clip(SHARE * np.exp(LOG_SIGMA * rng.normal()), *RANGE)
    volume = round(share * mask.sum())
    compact = distance * _draw_roughness(mask.shape, spacing=spacing, rng=rng)
    core_count = _visible(rng.uniform(*CORE_SHARE) * volume, spacing=spacing)
    core = _lowest(compact, within=ndimage.binary_erosion(mask), count=core_count)
    core = ndimage.binary_fill_holes(core)
    whole = _spread(core, distance, fractions, mask=mask, volume=volume, spacing=spacing, rng=rng)
    core &= whole
    necrosis_count = _visible(rng.uniform(*NECROSIS_SHARE) * core_count, spacing=spacing)
    inner = compact * _draw_roughness(mask.shape, spacing=spacing, rng=rng)
    necrosis = _lowest(inner, within=ndimage.binary_erosion(core), count=necrosis_count)
    return np.select([necrosis, core, whole], [NECROSIS, RIM, OEDEMA], 0).astype(np.uint8)


def _distance_to_centre(
    fractions: FloatArray, *, mask: BoolArray, spacing: float, rng: np.random.Generator
) -> FloatArray:
    """Distance of every voxel to a random deep voxel of grey or white matter, in voxels."""
    depth = ndimage.distance_transform_edt(mask & (fractions[0] < 0.5))
    candidates = np.argwhere(depth >= min(DEPTH_MM / spacing, depth.max()))
    centre = candidates[rng.integers(len(candidates))]
    offsets = (np.arange(n, dtype=np.float32) - c for n, c in zip(mask.shape, centre, strict=True))
    x, y, z = np.meshgrid(*offsets, indexing="ij", sparse=True)
    return np.asarray(np.sqrt(x**2 + y**2 + z**2), dtype=np.float32)


def _spread(
    core: BoolArray,
    distance: FloatArray,
    fractions: FloatArray,
    *,
    mask: BoolArray,
    volume: int,
    spacing: float,
    rng: np.random.Generator,
) -> BoolArray:
    """The core, a shell around it, and oedema along white matter: one piece without holes."""
    cost = 1 + np.tensordot(SPREAD_COST, np.clip(fractions, 0, 1), axes=1)
    rough = distance * cost * _draw_roughness(mask.shape, spacing=spacing, rng=rng)
    whole = _lowest(rough, within=mask, count=volume) | (ndimage.binary_dilation(core) & mask)
    parts, _ = ndimage.label(whole)
    largest = np.argmax(np.bincount(parts[whole]))
    return np.asarray(ndimage.binary_fill_holes(parts == largest) & mask)


def _draw_roughness(
    shape: tuple[int, ...], *, spacing: float, rng: np.random.Generator
) -> FloatArray:
    """Factors around 1 (X, Y, Z) that make a sphere's level sets irregular."""
    noise = draw_noise(shape, sigma=ROUGH_SIGMA_MM / spacing, rng=rng)
    return np.asarray(np.exp(ROUGHNESS * noise))


def _visible(count: float, *, spacing: float) -> int:
    """The voxel count, or 0 if they fill less than the smallest visible volume."""
    return round(count) if count * spacing**3 >= 1000 * SMALLEST_ML else 0


def _lowest(values: FloatArray, *, within: BoolArray, count: int) -> BoolArray:
    """Mask of the `count` voxels with the lowest values inside `within`, or of all of it."""
    inside = values[within]
    if count == 0 or inside.size == 0:
        return np.zeros_like(within)
    last = min(count, inside.size) - 1
    return np.asarray(within & (values <= np.partition(inside, last)[last]))
