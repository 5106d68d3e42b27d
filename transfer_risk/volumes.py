"""Examinations on their own grid: channels, and classes with what does not count left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from transfer_risk.imagefiles import load, load_all, same_geometry
from transfer_risk.tasks import Case, Slices, Task

Array = NDArray[Any]
LABEL_TOLERANCE = 1e-3
"""Raw label values that are nearer to a whole number are this number."""


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
        return spacing_of(self.affine)


def spacing_of(affine: Array) -> tuple[float, ...]:
    """Millimetres per voxel along each array axis."""
    return tuple(float(s) for s in voxel_sizes(affine))


def read_labelled(case: Case, task: Task, *, every_slice: bool = False) -> tuple[Volume, Array]:
    """A case as `read` has it, and its labels.

    Raises:
        ValueError: as `read`; and if the case has no label file.
    """
    volume = read(case, task, every_slice=every_slice)
    if volume.labels is None:
        raise ValueError(f"case {case.id}: has no label file")
    return volume, volume.labels


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


def nothing_counts(case: str) -> str:
    """What is said where no voxel of any case counts, of the case with this id."""
    return f"case {case}: no voxel counts; look at region, ignore and [slices] of the task"


def read_images(paths: tuple[str, ...]) -> Volume:
    """Channels of one examination, one file each, all on one grid."""
    files = load_all(paths)
    first, affine = next(files)
    image = np.empty((len(paths), *first.shape), dtype=np.float32)
    image[0] = first
    for place, (data, other) in enumerate(files, start=1):
        same_geometry(paths[0], first.shape, affine, paths[place], data.shape, other)
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
    raw = whole_numbers(raw)
    values, counts = np.unique(raw, return_counts=True)
    known = dict.fromkeys(task.background, 0) | dict.fromkeys(task.ignore, -1)
    for number, name in enumerate(task.classes[1:], start=1):
        known |= dict.fromkeys(task.labels[name], number)
    strange = [
        f"{v:.6g} ({n} voxels)" for v, n in zip(values, counts, strict=True) if v not in known
    ]
    if strange:
        raise ValueError(
            f"{path}: has label values outside the label map: {', '.join(strange[:8])}; "
            "declare them in [labels], background or ignore of the task"
        )
    table = np.array([known[v] for v in values], dtype=np.int16)
    return np.asarray(table[np.searchsorted(values, raw)])


def whole_numbers(raw: Array) -> Array:
    """Raw labels, rounded where they nearly are whole numbers: a scale factor in the header leaves 1.9999999 for 2."""
    if raw.dtype.kind != "f":
        return raw
    whole = np.rint(raw)
    with np.errstate(invalid="ignore"):  # inf - inf: left as it is
        return np.where(np.abs(raw - whole) < LABEL_TOLERANCE, whole, raw)


def selected_slices(image: Array, labels: Array, slices: Slices) -> Array:
    """Which slices along the axis count, (n,) bool."""
    if slices.select == "all":
        return np.ones(labels.shape[slices.axis], dtype=bool)
    mask = labels > 0 if slices.select == "foreground" else (image != 0).any(0)
    others = tuple(a for a in range(3) if a != slices.axis)
    return np.asarray(mask.any(axis=others))
