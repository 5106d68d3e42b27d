"""Files of saved probabilities, each with its own axes and geometry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transfer_risk.adapters.arrays import Stored, check_packing
from transfer_risk.adapters.nnunet.saved import NnunetMap
from transfer_risk.adapters.pickles import damaged
from transfer_risk.imagefiles import same_geometry

Array = NDArray[Any]
ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class PlainMap:
    """An .npy file (Z, X, Y, Z')."""

    path: Path

    @property
    def channels(self) -> int:
        """Number of channels."""
        return Stored.of(self.path, ()).shape[0]

    def read(self) -> Array:
        """Channels (Z, X, Y, Z') float32."""
        return Stored.of(self.path, ()).read().astype(np.float32)


@dataclass(frozen=True)
class NiftiMap:
    """One 4D NIfTI file with the classes last, or one 3D file for each class.

    Args:
        path: Of the file, or of one of them.
        files: One for each class.
        rest: Whether the first channel is what the files leave of 1.
    """

    path: Path
    files: tuple[Path, ...] = ()
    rest: bool = False

    @property
    def channels(self) -> int:
        """Number of channels."""
        if self.files:
            return len(self.files) + self.rest
        return int(_shape(self.path, 4)[3])

    @property
    def affine(self) -> Array:
        """Voxel to world (4, 4)."""
        return np.asarray(nib.load(self.path).affine)

    def read(self) -> Array:
        """Channels (Z, X, Y, Z') float32."""
        if not self.files:
            return np.ascontiguousarray(np.moveaxis(_voxels(self.path, 4), -1, 0))
        theta = [_voxels(file, 3) for file in self.files]
        if len({t.shape for t in theta}) > 1:
            raise ValueError(
                f"{self.path}: its classes must have one shape; they have {', '.join(str(t.shape) for t in theta)}"
            )
        for file in self.files[:-1]:
            grid = theta[0].shape, np.asarray(nib.load(file).affine)
            same_geometry(str(self.path), theta[0].shape, self.affine, str(file), *grid)
        rest = [1 - np.sum(theta, axis=0)] if self.rest else []
        return np.stack([*rest, *theta])


Map = PlainMap | NnunetMap | NiftiMap


def find_maps(folder: Path, classes: Sequence[str], regions: bool = False) -> dict[str, Map]:
    """Maps by case id: .npz, .npy, 4D NIfTI, or `<case>_<class>` NIfTI files of the named classes.

    Of overlapping regions each file is a channel, and there is none of background.

    Raises:
        ValueError: naming the folder, if it has none, or more than one for a case.
    """
    maps: dict[str, Map] = {}
    for path in sorted(p for p in folder.iterdir() if not p.name.startswith(".")):
        found: Map | None = None
        if path.suffix == ".npz":
            found = NnunetMap(path)
        elif path.suffix == ".npy":
            found = PlainMap(path)
        elif path.name.endswith(ENDINGS) and len(_shape(path, 0)) == 4:
            found = NiftiMap(path)
        if found is not None:
            case = _stem(path).removesuffix("_probabilities")
            if case in maps:
                raise ValueError(
                    f"{folder}: case {case} must have one file of probabilities; has {maps[case].path.name} and {path.name}"
                )
            maps[case] = found
    maps = maps or _by_class(folder, classes, regions)
    if not maps:
        raise ValueError(
            f"{folder}: has no probabilities; they must be <case>.npz, <case>.npy, 4D <case>.nii.gz, or "
            "<case>_<class>.nii.gz with classes = [...] in source.toml"
        )
    return maps


def _by_class(folder: Path, classes: Sequence[str], regions: bool) -> dict[str, Map]:
    """Cases that have a NIfTI file for each foreground class."""
    files = {_stem(p): p for p in sorted(folder.iterdir()) if p.name.endswith(ENDINGS)}
    if len(classes) < 2:
        return {}
    last, result = classes[-1], dict[str, Map]()
    for case in (n.removesuffix(f"_{last}") for n in files if _class_of(n, classes) == last):
        own = [files.get(f"{case}_{name}") for name in classes]
        if missing := [n for n, f in zip(classes[1:], own[1:], strict=True) if f is None]:
            raise ValueError(f"{folder}: case {case} has no file of class {', '.join(missing)}")
        given = tuple(f for f in own[regions:] if f is not None)
        result[case] = NiftiMap(given[-1], given, rest=own[0] is None and not regions)
    return result


def _class_of(name: str, classes: Sequence[str]) -> str:
    """The longest class that a file's name ends in: `a_core_tumor` is no file of the class `tumor`."""
    return max((c for c in classes if name.endswith(f"_{c}")), key=len, default="")


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _shape(path: Path, dims: int) -> tuple[int, ...]:
    """Shape that a NIfTI header declares, if the file can hold it; `dims` axes, or any for 0."""
    try:
        header = nib.load(path)
    except Exception as error:  # nibabel, zlib and gzip raise many kinds for a damaged file
        raise damaged(path, error) from None
    shape = tuple(int(n) for n in header.shape)
    if dims and len(shape) != dims:
        raise ValueError(f"{path}: must be {dims}D; has the shape {shape}")
    packed = path.stat().st_size
    check_packing(path, math.prod(shape) * header.get_data_dtype().itemsize, packed)
    return shape


def _voxels(path: Path, dims: int) -> Array:
    """Voxels float32."""
    _shape(path, dims)
    try:
        return np.asarray(nib.load(path).dataobj, dtype=np.float32)
    except Exception as error:  # nibabel, zlib and gzip raise many kinds for a damaged file
        raise damaged(path, error) from None
