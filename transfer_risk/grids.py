"""The way from an image's own grid to what a network sees, and back: intensity, orientation, resampling, slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from nibabel import orientations
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transfer_risk.tasks import Preprocessing
from transfer_risk.volumes import Volume

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Grid:
    """The way from an image's grid to a source's, in plain steps that `back` undoes."""

    orientation: Array
    axis: int | None
    shape: tuple[int, ...]
    resized: tuple[int, ...]

    @classmethod
    def of(cls, volume: Volume, preprocessing: Preprocessing, spatial_dims: int) -> Grid:
        """Steps for one volume."""
        native = orientations.io_orientation(volume.affine)
        wanted = (
            orientations.axcodes2ornt(preprocessing.orientation)
            if preprocessing.orientation
            else native
        )
        change = orientations.ornt_transform(native, wanted)
        order = np.argsort(change[:, 0])
        shape = [volume.image.shape[1:][i] for i in order]
        spacing = [volume.spacing[i] for i in order]
        axis = preprocessing.axis if spatial_dims == 2 else None
        if axis is not None:
            shape.pop(axis), spacing.pop(axis)
        goal = preprocessing.spacing or tuple(spacing)
        if len(goal) != len(shape):
            raise ValueError(
                f"preprocessing.spacing must have {len(shape)} numbers; got {len(goal)}"
            )
        resized = tuple(
            max(1, round(n * s / g)) for n, s, g in zip(shape, spacing, goal, strict=True)
        )
        return cls(change, axis, tuple(shape), resized)

    def images(self, image: Array) -> Tensor:
        """Channels (C, X, Y, Z) as a batch: slices (N, C, h, w) in 2D, (1, C, x, y, z) in 3D."""
        return self._resize(self._forth(image), self.resized)

    def labels(self, labels: Array) -> Tensor:
        """Labels (X, Y, Z) as a batch (N, h, w) or (1, x, y, z), nearest neighbour."""
        batch = self._forth(labels[None].astype(np.float32))
        if self.resized != self.shape:
            batch = functional.interpolate(batch, self.resized, mode="nearest-exact")
        return batch[:, 0].to(torch.int64)

    def slice_mask(self, keep: Array) -> Tensor:
        """Which members of the batch hold a voxel of the mask (X, Y, Z)."""
        return self._forth(keep[None].astype(np.float32)).flatten(1).any(1)

    def back(self, batch: Tensor) -> Array:
        """Probabilities of a batch (N, Z, ...) on the image's own grid (Z, X, Y, Z'), renormalised."""
        if self.resized != self.shape:
            batch = self._resize(batch, self.shape)
            batch /= batch.sum(1, keepdim=True)
        volume = batch.numpy()
        volume = volume[0] if self.axis is None else np.moveaxis(volume, 0, self.axis + 1)
        return _reorient(volume, _inverse(self.orientation))

    def _forth(self, data: Array) -> Tensor:
        turned = _reorient(data, self.orientation)
        batch = turned[None] if self.axis is None else np.moveaxis(turned, self.axis + 1, 0)
        return torch.from_numpy(np.ascontiguousarray(batch))

    @staticmethod
    def _resize(batch: Tensor, shape: tuple[int, ...]) -> Tensor:
        if tuple(batch.shape[2:]) == shape:
            return batch
        if len(shape) == 2:
            return functional.interpolate(batch, shape, mode="bilinear", antialias=True)
        return functional.interpolate(batch, shape, mode="trilinear")


@dataclass(frozen=True, eq=False)
class Prepared:
    """One examination as a network sees it, and the way back.

    Args:
        images: Batch (N, C, *S): slices in 2D, N = 1 in 3D.
        labels: Classes of the same voxels (N, *S), -1 where they do not count; None without labels.
        counts: Which members of the batch hold a voxel that counts on the image's own grid, (N,); all without labels.
        back: From probabilities (N, Z, *S) to the image's own grid (Z, X, Y, Z').
    """

    images: Tensor
    labels: Tensor | None
    counts: Tensor
    back: Callable[[Tensor], Array]


def prepared(volume: Volume, preprocessing: Preprocessing, spatial_dims: int) -> Prepared:
    """Normalised, turned and resampled as `preprocessing` says; slices along its axis in 2D."""
    grid = Grid.of(volume, preprocessing, spatial_dims)
    images = grid.images(normalised(volume.image, preprocessing.normalise, preprocessing.window))
    if volume.labels is None:
        return Prepared(images, None, torch.ones(len(images), dtype=torch.bool), grid.back)
    counts = grid.slice_mask(volume.labels >= 0)
    return Prepared(images, grid.labels(volume.labels), counts, grid.back)


def normalised(image: Array, how: str, window: tuple[float, ...] = ()) -> Array:
    """Channels (C, *S) as a network wants them, float32; zscore-nonzero leaves zeros at 0."""
    result = np.empty(image.shape, dtype=np.float32)
    for channel, made in zip(image, result, strict=True):
        if how == "window":
            low, high = window
            np.clip((channel - low) / (high - low), 0, 1, out=made)
        else:
            made[...] = _NORMALISE[how](channel.astype(np.float32, copy=False))
    return result


def _zscore(channel: Array) -> Array:
    return np.asarray((channel - channel.mean()) / max(float(channel.std()), 1e-8))


def _zscore_nonzero(channel: Array) -> Array:
    mask = channel != 0
    result = np.zeros_like(channel)
    if mask.any():
        result[mask] = _zscore(channel[mask])
    return result


def _minmax(channel: Array) -> Array:
    return np.asarray((channel - channel.min()) / max(float(np.ptp(channel)), 1e-8))


def _unchanged(channel: Array) -> Array:
    return channel


_NORMALISE: dict[str, Callable[[Array], Array]] = {
    "zscore-nonzero": _zscore_nonzero,
    "zscore": _zscore,
    "minmax": _minmax,
    "none": _unchanged,
}


def _reorient(data: Array, change: Array) -> Array:
    """Turn the last three axes of (C, X, Y, Z) by a nibabel orientation transform."""
    return np.moveaxis(orientations.apply_orientation(np.moveaxis(data, 0, -1), change), -1, 0)


def _inverse(change: Array) -> Array:
    """The orientation transform that undoes another."""
    inverse = np.empty_like(change)
    inverse[change[:, 0].astype(int)] = np.column_stack([np.arange(3), change[:, 1]])
    return inverse
