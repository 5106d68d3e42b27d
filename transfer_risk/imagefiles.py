"""Image files in and out: NIfTI and Analyze, one channel of them, and whether two lie on one grid."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel import orientations
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from transfer_risk.files import written

Array = NDArray[Any]
SPACING_TOLERANCE = 1e-3  # mm
HEADER = ", or copy its header to the other, if that alone was lost"
DIRECTION_TOLERANCE = 1e-4
NOTE = 79
"""Longest header description in bytes."""


def load(path: str) -> tuple[Array, Array]:
    """Voxels (X, Y, Z) and affine of a file, trailing axes of length 1 dropped; `file#k` is channel k of a 4D image.

    Analyze headers hold no orientation to be trusted: of their affine, only the voxel sizes are taken.

    Raises:
        ValueError: naming the file, if it is missing, damaged, no 3D image of numbers, or without a geometry in mm.
    """
    (only,) = load_all([path])
    return only


def load_all(paths: Iterable[str]) -> Iterator[tuple[Array, Array]]:
    """`load` of each; a compressed 4D file whose channels follow each other is decompressed once for all of them.

    Raises:
        ValueError: as `load`.
    """
    for _, group in groupby(paths, lambda path: file_and_channel(path)[0]):
        own = list(group)
        file = _opened(own[0])
        for path in own:
            shape, affine = _geometry(file, path)
            _, channel = file_and_channel(path)
            with _readable(path):
                data = np.asarray(file.dataobj[..., int(channel)] if channel else file.dataobj)
                data = _exact_zero(data, file.dataobj)
            if data.dtype.kind not in "biuf":
                raise ValueError(
                    f"{path}: must hold one number per voxel; got {data.dtype}; convert it to grey values"
                )
            yield data.reshape(shape), affine
            del data


def _exact_zero(data: Array, proxy: Any) -> Array:
    """Voxels that were stored as the whole number nearest to 0 as 0: a scale with an offset leaves -4e-5 of a background."""
    slope, offset = (getattr(proxy, name, 0) for name in ("slope", "inter"))
    if np.ndim(slope) or not offset or proxy.dtype.kind not in "iu":
        return data
    return np.where(np.abs(data) <= abs(slope) / 2, 0, data)


def grid_of(path: str) -> tuple[tuple[int, ...], Array]:
    """Shape (X, Y, Z) and affine that `load` gives, from the header alone.

    Raises:
        ValueError: as `load`, but for what only the voxels show.
    """
    return _geometry(_opened(path), path)


def _opened(path: str) -> Any:
    """The image of a file, or that which holds a channel, with its voxels not read yet; it stays open once one is."""
    with _readable(path):
        return nib.load(file_and_channel(path)[0], keep_file_open=True)


def _geometry(file: Any, path: str) -> tuple[tuple[int, ...], Array]:
    """The shape (X, Y, Z) that the voxels of an open file, or of one of its channels, will have, and affine."""
    name, channel = file_and_channel(path)
    with _readable(path):
        shape = tuple(int(n) for n in file.dataobj.shape)
        affine = np.asarray(_affine(file), dtype=np.float64)
        unit = _unit(file)
    if channel:
        stored = _channels_last(shape)
        if len(stored) != 4 or int(channel) >= stored[3]:
            raise ValueError(
                f"{path}: must be a channel, from 0, of a 4D image; {name} has shape {stored}"
            )
        shape = shape[:-1]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        more = "; write each channel into a file of its own" if len(shape) == 4 else ""
        raise ValueError(f"{path}: must be a 3D image; got shape {shape}{more}")
    if not np.isfinite(affine).all() or np.isnan(orientations.io_orientation(affine)).any():
        raise ValueError(
            f"{path}: has an affine without three directions ({affine[:3].tolist()}); write its geometry again"
        )
    if unit != "mm":
        raise ValueError(
            f"{path}: must have its geometry in mm; its header says {unit}; write it in mm, or correct the header's unit"
        )
    return shape, affine


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """What goes wrong while an image file is read, as ValueError with its name."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except Exception as error:  # nibabel, zlib and gzip raise many kinds for a damaged file
        raise ValueError(
            f"{path}: cannot be read as an image ({error}); copy it again from where it came"
        ) from None


def _unit(file: Any) -> str:
    """Spatial unit of a header; mm where it says none."""
    if not isinstance(file.header, nib.Nifti1Header):
        return "mm"
    unit = str(file.header.get_xyzt_units()[0])
    return "mm" if unit == "unknown" else unit


def file_and_channel(path: str) -> tuple[str, str]:
    """Of `file#k` the file and k; of any other path itself and nothing."""
    found = re.fullmatch(r"(.+)#(\d+)", path)
    return (found[1], found[2]) if found else (path, "")


def channel_count(path: str | Path) -> int:
    """Length of the last axis of a 4D image; 1 of any other, and of what cannot be read."""
    try:
        shape = nib.load(path).shape
    except Exception:  # nibabel, zlib and gzip raise many kinds for what is no image
        return 1
    shape = _channels_last(shape)
    return int(shape[3]) if len(shape) == 4 else 1


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a vector image, which NIfTI stores as (X, Y, Z, 1, C), as (X, Y, Z, C); any other as it is."""
    return (*shape[:3], shape[4]) if len(shape) == 5 and shape[3] == 1 else shape


def is_analyze(file: Any) -> bool:
    """Whether a nibabel image is Analyze 7.5 or SPM's variant of it, and no NIfTI pair."""
    return isinstance(file, nib.AnalyzeImage) and not isinstance(file, nib.Nifti1Pair)


def oriented(path: str) -> bool:
    """Whether an image file (or `file#k`) stores an orientation that can be trusted: all but Analyze do."""
    name, _ = file_and_channel(path)
    return not (name.lower().endswith((".img", ".hdr")) and is_analyze(nib.load(name)))


def _affine(file: Any) -> Any:
    """Voxel to world; for Analyze nibabel's convention without the origin, which is often garbage."""
    return file.header.get_base_affine() if is_analyze(file) else file.affine


def same_geometry(
    path: str, shape: Any, affine: Array, other_path: str, other_shape: Any, other: Array
) -> None:
    """Raise ValueError where two files do not lie on one grid (1e-3 mm, 1e-4 in direction).

    Beside Analyze, whose orientation and origin mean nothing, shape and spacing alone are compared.
    """
    if tuple(shape) != tuple(other_shape):
        raise ValueError(
            f"{other_path}: has shape {tuple(other_shape)}, {path} has {tuple(shape)}; resample one to the other's grid"
        )
    scale, other_scale = voxel_sizes(affine), voxel_sizes(other)
    if np.abs(scale - other_scale).max() > SPACING_TOLERANCE:
        raise ValueError(
            f"{other_path}: has spacing {other_scale} mm, {path} has {scale}; resample one of them{HEADER}"
        )
    if not (oriented(path) and oriented(other_path)):
        return
    if np.abs(affine[:3, :3] / scale - other[:3, :3] / other_scale).max() > DIRECTION_TOLERANCE:
        raise ValueError(
            f"{other_path}: has other axis directions than {path}; resample one to the other's grid{HEADER}"
        )
    if np.abs(affine[:3, 3] - other[:3, 3]).max() > SPACING_TOLERANCE:
        raise ValueError(
            f"{other_path}: has its origin at {other[:3, 3]}, {path} at {affine[:3, 3]} mm; resample one{HEADER}"
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
    header["descrip"] = note.encode()[:NOTE]
    if scaled is None:
        image = nib.Nifti1Image(data, affine, header, dtype=data.dtype)
    else:
        image = nib.Nifti1Image(np.round(data / scaled).astype(np.int16), affine, header)
        image.header.set_slope_inter(scaled, 0)
    with written(path) as temporary:
        nib.save(image, temporary)


def as_stored(data: Array, path: str) -> Array:
    """Voxels (X, Y, Z) of a grid in the shape of the image file that it is of: (X, Y) where that holds a 2D image.

    A file of several channels, and `file#k`, leave them as they are.
    """
    name, _ = file_and_channel(path)
    shape = tuple(int(n) for n in nib.load(name).shape)
    return data.reshape(shape) if prod(shape) == data.size else data


def note_of(path: str | Path) -> str:
    """Header description of a NIfTI file; empty where it cannot be read."""
    try:
        text: Any = nib.load(path).header["descrip"]
    except Exception:  # nibabel, zlib and gzip raise many kinds for what is no image
        return ""
    return bytes(text).rstrip(b"\0").decode(errors="replace")
