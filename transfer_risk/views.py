"""Slices as they are looked at: right, front or top of the patient up or to the right, true proportions, letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel import orientations
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

Window = tuple[float, float, float, float]  # left, right, bottom, top in mm
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True, eq=False)
class View:
    """How the slices of a volume along one array axis stand on paper: neurological, the patient's left to the left.

    Args:
        axis: Array axis along which the slices lie.
        order: Array axes that run across and up the paper.
        flipped: Whether each of them is turned round.
        letters: Directions at the left, right, bottom and top edge.
        spacing: Millimetres per pixel across and up.
    """

    axis: int
    order: tuple[int, int]
    flipped: tuple[bool, bool]
    letters: tuple[str, str, str, str]
    spacing: tuple[float, float]

    @classmethod
    def of(cls, affine: Any, axis: int) -> View:
        """View of the slices along `axis`, by the nearest directions of the affine (4, 4)."""
        world = orientations.io_orientation(affine)  # array axis -> (world axis, sign)
        across, up = sorted((a for a in range(3) if a != axis), key=lambda a: world[a, 0])
        sizes = voxel_sizes(affine)
        left, right = LETTERS[int(world[across, 0])]
        bottom, top = LETTERS[int(world[up, 0])]
        return cls(
            axis,
            (across, up),
            (bool(world[across, 1] < 0), bool(world[up, 1] < 0)),
            (left, right, bottom, top),
            (float(sizes[across]), float(sizes[up])),
        )

    def slice(self, volume: Any, index: int) -> NDArray[Any]:
        """Slice (rows from the bottom up, columns from the left) of a volume (X, Y, Z)."""
        plane = np.take(np.asarray(volume), index, axis=self.axis)
        upright = plane.T if self.order[0] < self.order[1] else plane
        rows, columns = (slice(None, None, -1 if f else 1) for f in self.flipped[::-1])
        return np.asarray(upright[rows, columns])

    def box(self, plane: NDArray[Any]) -> Window:
        """Left, right, bottom and top edge of a slice in mm: the `extent` that keeps its proportions."""
        rows, columns = plane.shape[:2]
        return 0.0, columns * self.spacing[0], 0.0, rows * self.spacing[1]

    def window(self, mask: NDArray[Any], *, margin: float = 3.0) -> Window:
        """Left, right, bottom and top in mm of what is in a mask, with a margin; everything where it is empty."""
        if not mask.any():
            return self.box(mask)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        across, up = self.spacing
        return (
            columns[0] * across - margin,
            (columns[-1] + 1) * across + margin,
            rows[0] * up - margin,
            (rows[-1] + 1) * up + margin,
        )


def anatomy(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels that are not the background around the anatomy: those that differ from the volume's first corner."""
    return np.asarray(image != image[(0,) * image.ndim])


def grey_window(image: NDArray[Any]) -> tuple[float, float]:
    """Intensities shown black and white: 0.5th and 99.5th percentile of the anatomy, the background below."""
    inside = image[anatomy(image)]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def grey_slice(image: NDArray[Any], view: View, index: int) -> tuple[NDArray[np.float64], Window]:
    """Slice of a volume (X, Y, Z) as grey in [0, 1], and the window in mm that holds its anatomy."""
    low, high = grey_window(image)
    grey = np.clip((view.slice(image, index).astype(np.float64) - low) / (high - low), 0, 1)
    return grey, view.window(view.slice(anatomy(image), index))


def riskiest_slice(risk: Any, *, axis: int = 2) -> int:
    """Index of the slice with the largest total risk above 1."""
    others = tuple(a for a in range(3) if a != axis)
    return int(np.maximum(risk - 1, 0).sum(axis=others).argmax())
