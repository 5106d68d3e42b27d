"""NIfTI in and out, geometry checks, and the way from an image's own grid to what a network sees, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from nibabel import orientations
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transfer_risk.files import written
from transfer_risk.tasks import Case, Preprocessing, Slices, Task

Array = NDArray[Any]
SPACING_TOLERANCE = 1e-3  # mm
DIRECTION_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class Volume:
    """One examination on its own grid.

    Args:
        image: Channels (C, X, Y, Z) float32.
        affine: Voxel to world, (4, 4), millimetres.
        labels: Classes (X, Y, Z), -1 where a voxel does not count; None without a label file.
    """

    image: Array
    affine: Array
    labels: Array | None = None

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres per voxel along each array axis."""
        return tuple(float(s) for s in voxel_sizes(self.affine))


def read(case: Case, task: Task, *, every_slice: bool = False) -> Volume:
    """Images and labels of a case; voxels outside the task's region (and slices, unless `every_slice`) are -1.

    Slices that the case itself leaves out (few-shot: they have no label) never count.

    Raises:
        ValueError: naming the file, if it is missing or damaged, if geometry disagrees, if an image has NaN, or if a
            raw label value is not in the task's label map.
    """
    volume = read_images(case.images)
    if case.label is None:
        return volume
    raw, affine = load(case.label)
    same_geometry(
        case.images[0], volume.image.shape[1:], volume.affine, case.label, raw.shape, affine
    )
    labels = encode_labels(raw, task, case.label)
    restrict(labels, volume.image, case, task, every_slice=every_slice)
    return Volume(volume.image, volume.affine, labels)


def restrict(
    labels: Array, image: Array, case: Case, task: Task, *, every_slice: bool = False
) -> None:
    """Set classes (X, Y, Z) outside the task's region (and the slices that count, unless `every_slice`) to -1, in place.

    Only which voxels of the image (C, X, Y, Z) are not 0 matters.
    """
    if task.region == "nonzero":
        labels[~(image != 0).any(0)] = -1
    keep = np.ones(labels.shape[task.slices.axis], dtype=bool)
    if not every_slice:
        keep = selected_slices(image, labels, task.slices)
    if case.slices is not None:
        keep &= np.isin(np.arange(len(keep)), case.slices)
    np.moveaxis(labels, task.slices.axis, 0)[~keep] = -1


def read_images(paths: tuple[str, ...]) -> Volume:
    """Channels of one examination, one file each, all on one grid."""
    first, affine = load(paths[0])
    image = np.empty((len(paths), *first.shape), dtype=np.float32)
    image[0] = first
    for place, path in enumerate(paths[1:], start=1):
        data, other = load(path)
        same_geometry(paths[0], first.shape, affine, path, data.shape, other)
        image[place] = data
    for path, channel in zip(paths, image, strict=True):
        if not np.isfinite(channel).all():
            raise ValueError(
                f"{path}: has NaN or infinite intensities; repair the image (for example set them to 0)"
            )
    return Volume(image, affine)


def encode_labels(raw: Array, task: Task, path: str) -> Array:
    """Classes (int16) of raw label values; -1 where the task ignores the value.

    Raises:
        ValueError: listing values with their counts that are neither declared nor background.
    """
    values, counts = np.unique(raw, return_counts=True)
    known = dict.fromkeys(task.background, 0) | dict.fromkeys(task.ignore, -1)
    for number, name in enumerate(task.classes[1:], start=1):
        known |= dict.fromkeys(task.labels[name], number)
    strange = [f"{v:g} ({n} voxels)" for v, n in zip(values, counts, strict=True) if v not in known]
    if strange:
        raise ValueError(
            f"{path}: has label values outside the label map: {', '.join(strange[:8])}; "
            "declare them in [labels], background or ignore of the task"
        )
    table = np.array([known[v] for v in values], dtype=np.int16)
    return np.asarray(table[np.searchsorted(values, raw)])


def selected_slices(image: Array, labels: Array, slices: Slices) -> Array:
    """Which slices along the axis count, (n,) bool."""
    if slices.select == "all":
        return np.ones(labels.shape[slices.axis], dtype=bool)
    mask = labels > 0 if slices.select == "foreground" else (image != 0).any(0)
    others = tuple(a for a in range(3) if a != slices.axis)
    return np.asarray(mask.any(axis=others))


def same_geometry(
    path: str, shape: Any, affine: Array, other_path: str, other_shape: Any, other: Array
) -> None:
    """Raise ValueError where two files do not lie on one grid (1e-3 mm, 1e-4 in direction)."""
    if tuple(shape) != tuple(other_shape):
        raise ValueError(
            f"{other_path}: has shape {tuple(other_shape)}, {path} has {tuple(shape)}; resample one to the other's grid"
        )
    scale, other_scale = voxel_sizes(affine), voxel_sizes(other)
    if np.abs(scale - other_scale).max() > SPACING_TOLERANCE:
        raise ValueError(
            f"{other_path}: has spacing {other_scale} mm, {path} has {scale}; resample one of them"
        )
    if np.abs(affine[:3, :3] / scale - other[:3, :3] / other_scale).max() > DIRECTION_TOLERANCE:
        raise ValueError(
            f"{other_path}: has other axis directions than {path}; resample one to the other's grid"
        )
    if np.abs(affine[:3, 3] - other[:3, 3]).max() > SPACING_TOLERANCE:
        raise ValueError(
            f"{other_path}: has its origin at {other[:3, 3]}, {path} at {affine[:3, 3]} mm; resample one"
        )


def write(
    path: str | Path, data: Array, affine: Array, *, note: str = "", scaled: float | None = None
) -> None:
    """Write a NIfTI file atomically.

    Args:
        path: Ends in .nii.gz or .nii.
        data: (X, Y, Z) or (X, Y, Z, Z').
        affine: (4, 4).
        note: Header description, at most 79 characters.
        scaled: Store float data as int16 with this step; None keeps the dtype.
    """
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header["descrip"] = note.encode()[:79]
    if scaled is None:
        image = nib.Nifti1Image(data, affine, header, dtype=data.dtype)
    else:
        image = nib.Nifti1Image(np.round(data / scaled).astype(np.int16), affine, header)
        image.header.set_slope_inter(scaled, 0)
    with written(path) as temporary:
        nib.save(image, temporary)


def note_of(path: str | Path) -> str:
    """Header description of a NIfTI file; empty where it cannot be read."""
    try:
        text: Any = nib.load(path).header["descrip"]
    except Exception:  # nibabel, zlib and gzip raise many kinds for what is no image
        return ""
    return bytes(text).rstrip(b"\0").decode(errors="replace")


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


def file_and_channel(path: str) -> tuple[str, str]:
    """Of `file#k` the file and k; of any other path itself and nothing."""
    found = re.fullmatch(r"(.+)#(\d+)", path)
    return (found[1], found[2]) if found else (path, "")


def load(path: str) -> tuple[Array, Array]:
    """Voxels (X, Y, Z) and affine of a file, a trailing axis of length 1 dropped; `file#k` is channel k of a 4D image.

    Analyze headers hold no orientation to be trusted: of their affine, only the voxel sizes are taken.

    Raises:
        ValueError: naming the file, if it is missing, damaged, no 3D image of numbers, or without a geometry.
    """
    name, channel = file_and_channel(path)
    try:
        file = nib.load(name)
        proxy = file.dataobj
        data = np.asarray(proxy[..., int(channel)] if channel else proxy)
        affine = np.asarray(_affine(file), dtype=np.float64)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # nibabel, zlib and gzip raise many kinds for a damaged file
        raise ValueError(
            f"{path}: cannot be read as an image ({error}); copy it again from where it came"
        ) from None
    if data.ndim == 4 and data.shape[-1] == 1:
        data = data[..., 0]
    if data.ndim == 2:
        data = data[..., None]
    if data.ndim != 3:
        raise ValueError(f"{path}: must be a 3D image; got shape {data.shape}")
    if data.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: must hold one number per voxel; got {data.dtype}; convert it to grey values"
        )
    if not np.isfinite(affine).all() or np.isnan(orientations.io_orientation(affine)).any():
        raise ValueError(
            f"{path}: has an affine without three directions ({affine[:3].tolist()}); write its geometry again"
        )
    return data, affine


def is_analyze(file: Any) -> bool:
    """Whether a nibabel image is Analyze 7.5 or SPM's variant of it, and no NIfTI pair."""
    return isinstance(file, nib.AnalyzeImage) and not isinstance(file, nib.Nifti1Pair)


def oriented(path: str) -> bool:
    """Whether an image file (or `file#k`) stores an orientation that can be trusted: all but Analyze do."""
    return not is_analyze(nib.load(file_and_channel(path)[0]))


def _affine(file: Any) -> Any:
    """Voxel to world; for Analyze nibabel's convention without the origin, which is often garbage."""
    return file.header.get_base_affine() if is_analyze(file) else file.affine
