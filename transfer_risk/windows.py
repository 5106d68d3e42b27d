"""Sliding windows as nnU-Net lays and blends them: evenly spread, with Gaussian weights.

MONAI's windows have a fixed step and a last one that is pushed back, so the two agree only where one window is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor


def starts(length: int, window: int, overlap: float) -> list[int]:
    """First voxels of as few windows as cover the length with at least this overlap, spread evenly.

    >>> starts(110, 64, 0.5)
    [0, 23, 46]
    """
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / (window * (1 - overlap)))
    return [round(k * (length - window) / steps) for k in range(steps + 1)]


@lru_cache(maxsize=4)
def importance(size: tuple[int, ...]) -> Tensor:
    """Weights (*size) of a window: a Gaussian of 1/8 of the window around voxel size // 2, largest value 1."""
    from scipy.ndimage import gaussian_filter

    peak = np.zeros(size)
    peak[tuple(n // 2 for n in size)] = 1
    weights = gaussian_filter(peak, [n / 8 for n in size], mode="constant")
    return torch.from_numpy(np.maximum(weights / weights.max(), 1e-10)).float()


def blended(
    images: Tensor, size: Sequence[int], overlap: float, network: Callable[[Tensor], Tensor]
) -> Tensor:
    """Raw outputs (B, Z, *S) of images (B, C, *S) from overlapping windows, one at a time.

    Args:
        images: At least as large as the window in every direction.
        size: Of the window.
        overlap: Least share of a window that its neighbour covers too.
        network: Raw outputs (B, Z, *size) of windows (B, C, *size).
    """
    weights = importance(tuple(size))
    total: Tensor | None = None
    mass = torch.zeros(images.shape[2:])
    for place in _places(images.shape[2:], size, overlap):
        inside = (slice(None), slice(None), *place)
        outputs = network(images[inside])
        if total is None:
            total = torch.zeros((*outputs.shape[:2], *images.shape[2:]))
        total[inside] += outputs * weights
        mass[place] += weights
    assert total is not None
    return total.div_(mass)


def _places(
    shape: Sequence[int], size: Sequence[int], overlap: float
) -> Iterator[tuple[slice, ...]]:
    """Slices of every window."""
    firsts = [starts(n, s, overlap) for n, s in zip(shape, size, strict=True)]
    for corner in product(*firsts):
        yield tuple(slice(a, a + s) for a, s in zip(corner, size, strict=True))
