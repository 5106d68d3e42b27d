"""nnU-Net's resampling of one channel: splines over the same field, the coarse axis apart where spacing is anisotropic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[Any]
ANISOTROPY = 3  # beyond this ratio of spacings the coarse axis is resampled apart


@dataclass(frozen=True)
class Resampling:
    """How arrays are resampled.

    Args:
        order: Of the spline; 0 along the coarse axis where that is treated apart.
        apart: Whether the coarse axis is treated apart; None: where one spacing exceeds another by ANISOTROPY.
        ratio: In place of ANISOTROPY.
    """

    order: int
    apart: bool | None = None
    ratio: float = ANISOTROPY


def resampled(data: Array, shape: Sequence[int], how: Resampling, coarse: int | None) -> Array:
    """One channel (a, b, c) on a grid of another shape that covers the same field, edges repeated.

    Args:
        data: Channel.
        shape: Wanted.
        how: Order of the spline.
        coarse: Axis along which the nearest slice is taken, the others being resampled slice by slice; None: no axis.
    """
    if tuple(data.shape) == tuple(shape):
        return data
    if coarse is None:
        return _zoomed(data, shape, how.order)
    plane = [n for axis, n in enumerate(shape) if axis != coarse]
    slices = [_zoomed(s, plane, how.order) for s in np.moveaxis(data, coarse, 0)]
    places = len(slices) / shape[coarse] * (np.arange(shape[coarse]) + 0.5) - 0.5
    nearest = np.clip(np.floor(places + 0.5).astype(int), 0, len(slices) - 1)
    return np.stack([slices[k] for k in nearest], axis=coarse)


def _zoomed(data: Array, shape: Sequence[int], order: int) -> Array:
    if tuple(data.shape) == tuple(shape):
        return data
    factors = [1 / (n / m) for n, m in zip(data.shape, shape, strict=True)]
    made = ndimage.zoom(
        data, factors, output=data.dtype, order=order, mode="nearest", grid_mode=True
    )
    return np.asarray(np.clip(made, data.min(), data.max(), out=made))


def coarse_axis(first: Sequence[float], second: Sequence[float], how: Resampling) -> int | None:
    """The axis that is treated apart: the single coarsest one of the first grid that is anisotropic."""
    if how.apart is False:
        return None
    for spacing in (first,) if how.apart else (first, second):
        if how.apart or max(spacing) / min(spacing) > how.ratio:
            axes = [axis for axis, s in enumerate(spacing) if s == max(spacing)]
            return axes[0] if len(axes) == 1 else None
    return None
