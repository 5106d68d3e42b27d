"""Probabilities that nnU-Net saved: <case>.npz, with the geometry in <case>.pkl."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from transfer_risk.adapters.arrays import Stored
from transfer_risk.adapters.pickles import load_plain

Array = NDArray[Any]
LARGEST = 2**30  # voxels of an image


@dataclass(frozen=True)
class NnunetMap:
    """nnU-Net's .npz: `probabilities` of version 2, or `softmax` of version 1, which is still cropped; axes z, y, x.

    The .pkl beside it says where a cropped array belongs and whether the image was turned; without it the array lies on
    the image's grid.
    """

    path: Path

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._stored().shape[0]

    def read(self) -> Array:
        """Channels (Z, X, Y, Z') float32."""
        stored, properties = self._stored(), self._properties()
        try:
            box, shape = _place(properties, stored.shape[1:], stored.name)
            change = _turning(properties)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"{self.path}: {error}") from None
        theta = stored.read().astype(np.float32, copy=False)
        if shape != stored.shape[1:]:
            whole = np.zeros((len(theta), *shape), dtype=np.float32)
            whole[0] = 1
            whole[(slice(None), *box)] = theta
            theta = whole
        turned = orientations.apply_orientation(theta.transpose(3, 2, 1, 0), change)
        return np.ascontiguousarray(np.moveaxis(turned, -1, 0))

    def _stored(self) -> Stored:
        return Stored.of(self.path, ("probabilities", "softmax"))

    def _properties(self) -> dict[str, Any]:
        file = self.path.with_suffix(".pkl")
        content = load_plain(file) if file.is_file() else {}
        if not isinstance(content, dict):
            raise ValueError(f"{file}: must hold a table; holds a {type(content).__name__}")
        return content


def _place(
    properties: dict[str, Any], shape: tuple[int, ...], name: str
) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Where an array (z, y, x) lies in the whole image, and the image's shape."""
    everything = tuple(slice(0, n) for n in shape)
    if name == "probabilities":
        voxels = math.prod(properties.get("shape_before_cropping", shape))
        if voxels != math.prod(shape):
            raise ValueError(
                f"must have the {voxels} voxels of its .pkl; declares {math.prod(shape)}"
            )
        return everything, shape
    box, whole = properties.get("crop_bbox"), properties.get("original_size_of_raw_data")
    if box is None or whole is None:
        return everything, shape
    places = tuple(slice(int(a), int(b)) for a, b in box)
    size = tuple(int(n) for n in whole)
    fits = all(s.start >= 0 and s.stop <= n for s, n in zip(places, size, strict=True))
    if not fits or tuple(s.stop - s.start for s in places) != shape or math.prod(size) > LARGEST:
        raise ValueError(
            f"has the shape {shape}, which is not the crop {box} of {size} of its .pkl"
        )
    return places, size


def _turning(properties: dict[str, Any]) -> Array:
    """The way back to the image's own orientation where nnU-Net had turned it (NibabelIOWithReorient)."""
    affines = properties.get("nibabel_stuff", {})
    if "reoriented_affine" not in affines:
        return np.asarray(orientations.axcodes2ornt("RAS"))
    made, original = (
        orientations.io_orientation(affines[key])
        for key in ("reoriented_affine", "original_affine")
    )
    return np.asarray(orientations.ornt_transform(made, original))
