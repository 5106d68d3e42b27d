"""A brain template: one T1 image with its tissue maps, on an isotropic grid."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
FilePath = str | PathLike[str]

MARGIN_MM = 16.0  # room around the brain for what a deformation moves outwards
BRAIN_SHARE = 0.1  # of grey plus white matter that makes a voxel brain
CLOSING_MM = 6.0  # closes the sulci of the brain mask


@dataclass(frozen=True, eq=False)
class Template:
    """One T1 image with its tissue fractions.

    Attributes:
        t1: Skull-stripped T1 (X, Y, Z), 0 outside the brain, arbitrary intensity unit.
        csf: Fraction of cerebrospinal fluid (X, Y, Z), in [0, 1].
        gm: Fraction of grey matter (X, Y, Z), in [0, 1].
        wm: Fraction of white matter (X, Y, Z), in [0, 1].
        affine: Voxel index to millimetres (4, 4), isotropic, RAS.
    """

    t1: FloatArray
    csf: FloatArray
    gm: FloatArray
    wm: FloatArray
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse maps of another shape or range, and voxels that are not cubes."""
        for name in ("csf", "gm", "wm"):
            fraction = getattr(self, name)
            if fraction.shape != self.t1.shape or fraction.ndim != 3:
                raise ValueError(
                    f"{name} must be (X, Y, Z) like t1; got {fraction.shape} for {self.t1.shape}"
                )
            low, high = fraction.min(), fraction.max()
            if not (low >= 0 and high <= 1 + 1e-5):
                raise ValueError(f"{name} must lie in [0, 1]; got [{low:.3g}, {high:.3g}]")
        if not np.allclose(self.zooms, self.spacing, rtol=1e-3):
            raise ValueError(f"affine must be isotropic; got voxels of {self.zooms} mm")

    @property
    def zooms(self) -> NDArray[np.float64]:
        """Voxel size along each axis (3,), in mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def spacing(self) -> float:
        """Voxel size in mm."""
        return float(self.zooms[0])

    @property
    def fractions(self) -> FloatArray:
        """CSF, grey and white matter stacked (3, X, Y, Z)."""
        return np.stack([self.csf, self.gm, self.wm])


def load_template(
    t1: FilePath | None = None,
    gm: FilePath | None = None,
    wm: FilePath | None = None,
    *,
    spacing: float = 2.0,
) -> Template:
    """Template from a T1 image and its tissue maps, resampled and cropped to the brain.

    Without files: the MNI ICBM152 2009a nonlinear symmetric template (Fonov et al., NeuroImage
    54:313, 2011) that the wheel of nilearn carries. CSF is what grey and
    white matter leave of the filled brain mask, within the T1's support.

    Args:
        t1: T1-weighted image; a skull is removed by the tissue maps.
        gm: Grey matter fractions on the grid of t1; divided by the maps' maximum if that exceeds 1.
        wm: White matter fractions, likewise.
        spacing: Isotropic voxel size of the result, in mm.

    Returns:
        The template in RAS orientation, with a margin of 16 mm around the brain.

    Raises:
        ValueError: if spacing is out of range, or the files do not fit together.
    """
    check_spacing(spacing)
    given = [path for path in (t1, gm, wm) if path is not None]
    if len(given) in (1, 2):
        raise ValueError(f"t1, gm and wm must be passed together; got {len(given)} of 3")
    return on_grid(read_canonical(given or _packaged_files()), spacing=spacing)


def _packaged_files() -> list[FilePath]:
    spec = importlib.util.find_spec("nilearn")  # importing it would take 2 s
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "the default template comes with nilearn, which is not installed; "
            "run pip install -e '.[demo]' in the clone, or pass template="
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    return [
        folder / f"mni_icbm152_{m}_tal_nlin_sym_09a_converted.nii.gz" for m in ("t1", "gm", "wm")
    ]


def check_spacing(spacing: float) -> None:
    """Raise ValueError unless a template can have this voxel size."""
    if not 0 < spacing <= 10:
        raise ValueError(f"spacing must lie in (0, 10] mm; got {spacing}")


def read_canonical(paths: list[FilePath]) -> list[Any]:
    """The T1, GM and WM images (or the first of them) in RAS orientation, on one grid."""
    canonical: Callable[..., Any] = nib.as_closest_canonical  # nibabel leaves it untyped
    images = [canonical(nib.load(path)) for path in paths]
    for name, image in zip(("t1", "gm", "wm"), images, strict=False):
        if image.ndim != 3:
            raise ValueError(f"{name} must be a 3D image (X, Y, Z); got shape {image.shape}")
        if image.shape != images[0].shape:
            raise ValueError(
                f"{name} must have the shape of t1 {images[0].shape}; got {image.shape}"
            )
        if not np.allclose(image.affine, images[0].affine, atol=1e-3):
            raise ValueError(f"{name} must have the affine of t1; resample it to the grid of t1")
    return images


def on_grid(images: list[Any], *, spacing: float) -> Template:
    """Template from the images of T1, GM and WM on one grid, resampled to `spacing` mm and cropped to the brain."""
    t1, gm, wm = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    scale = max(1.0, float(gm.max()), float(wm.max()))
    zooms = np.asarray(images[0].header.get_zooms()[:3], dtype=np.float64)
    box = _brain_box((gm + wm > BRAIN_SHARE * scale) & (t1 > 0))
    t1, gm, wm = t1[box], gm[box] / scale, wm[box] / scale
    step, start = spacing / zooms, -MARGIN_MM / zooms
    shape = tuple(np.ceil((t1.shape - 2 * start) / step).astype(int).tolist())
    volumes = (t1, gm, wm, (t1 > 0).astype(np.float32))
    sampled = (_sample(v, start=start, step=step, shape=shape) for v in volumes)
    grid = np.eye(4)
    grid[:3, :3], grid[:3, 3] = np.diag(step), start + [part.start for part in box]
    return _assemble(*sampled, affine=images[0].affine @ grid, spacing=spacing)


def _brain_box(brain: BoolArray) -> tuple[slice, ...]:
    """Smallest box around the brain."""
    if not brain.any():
        raise ValueError("t1, gm and wm must overlap; no voxel has a T1 signal and brain tissue")
    box: tuple[slice, ...] = ndimage.find_objects(brain.astype(np.uint8))[0]
    return box


def _sample(
    volume: FloatArray, *, start: NDArray[Any], step: NDArray[Any], shape: tuple[int, ...]
) -> FloatArray:
    """Volume at start + index * step (voxels), low-passed against aliasing, 0 outside."""
    sigma = 0.4 * np.sqrt(np.maximum(step**2 - 1, 0))
    smooth = ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=2.5)
    return np.asarray(
        ndimage.affine_transform(smooth, step, offset=start, output_shape=shape, order=1)
    )


def _assemble(
    t1: FloatArray,
    gm: FloatArray,
    wm: FloatArray,
    support: FloatArray,
    *,
    affine: NDArray[np.float64],
    spacing: float,
) -> Template:
    radius = max(1, round(CLOSING_MM / spacing))
    brain = ndimage.binary_closing(gm + wm > BRAIN_SHARE, iterations=radius)
    brain = ndimage.binary_fill_holes(brain) & (support > 0.5)
    gm, wm = (np.where(brain, np.clip(part, 0, 1), 0).astype(np.float32) for part in (gm, wm))
    total = np.maximum(gm + wm, 1)
    gm, wm = gm / total, wm / total
    csf = np.where(brain, np.clip(1 - gm - wm, 0, 1), 0).astype(np.float32)
    return Template(np.where(brain, t1, 0).astype(np.float32), csf, gm, wm, affine)
