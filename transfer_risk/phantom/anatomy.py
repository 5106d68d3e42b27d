"""Pseudo-subjects: a deformed template, with or without a tumour."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transfer_risk.phantom.fields import draw_displacement, draw_noise
from transfer_risk.phantom.lesion import NECROSIS, OEDEMA, RIM, draw_lesion
from transfer_risk.phantom.relaxation import TISSUES, Tissue
from transfer_risk.phantom.template import BoolArray, FloatArray, Template

LabelArray = NDArray[np.uint8]

BOUNDARY_SPREAD = 0.5  # standard deviation of the log-weights that move tissue boundaries
BOUNDARY_SIGMA_MM = 10.0
TEXTURE_LIMIT = 0.5  # of the grey-white contrast
RELAXATION_SPREAD = 0.04  # between subjects, relative
DENSITY_SPREAD = 0.03  # within healthy tissue, relative
LESION_SPREAD = 0.10  # within a lesion, relative
DENSITY_SIGMA_MM = 4.0
LESION_EDGE_MM = 1.2


@dataclass(frozen=True, eq=False)
class Subject:
    """One head, before any scanner sees it.

    Attributes:
        fractions: Apparent share of each compartment (K, X, Y, Z), ordered as `tissues`.
        tissues: The K compartments' relaxation times in this subject.
        mask: True inside the brain (X, Y, Z); outside it every image is 0.
        labels: What a perfect reader would draw (X, Y, Z); 0 is background.
    """

    fractions: FloatArray
    tissues: tuple[Tissue, ...]
    mask: BoolArray
    labels: LabelArray


def draw_tissue_subject(template: Template, *, rng: np.random.Generator) -> Subject:
    """A healthy subject, labelled 1 = CSF, 2 = grey matter, 3 = white matter."""
    fractions, texture = _deform(template, rng=rng)
    fractions = _move_boundaries(fractions, spacing=template.spacing, rng=rng)
    background = 1 - fractions.sum(axis=0)
    labels = np.argmax(np.stack([background, *fractions]), axis=0).astype(np.uint8)
    noise = draw_noise(labels.shape, sigma=DENSITY_SIGMA_MM / template.spacing, rng=rng)
    apparent = fractions * (1 + DENSITY_SPREAD * noise)
    apparent[1] -= (
        texture  # what the real T1 adds: grey matter that looks like white, or the reverse
    )
    apparent[2] += texture
    return Subject(apparent, _vary(("csf", "gm", "wm"), rng=rng), background < 0.5, labels)


def draw_tumour_subject(template: Template, *, rng: np.random.Generator) -> Subject:
    """A subject with one tumour, labelled 1 = necrotic core, 2 = oedema, 3 = enhancing rim."""
    healthy = draw_tissue_subject(template, rng=rng)
    spacing = template.spacing
    labels = draw_lesion(healthy.fractions, mask=healthy.mask, spacing=spacing, rng=rng)
    lesion = np.stack(
        [
            ndimage.gaussian_filter((labels == value).astype(np.float32), LESION_EDGE_MM / spacing)
            for value in (NECROSIS, OEDEMA, RIM)
        ]
    )
    spared = healthy.fractions * (1 - lesion.sum(axis=0))
    noise = draw_noise(labels.shape, sigma=DENSITY_SIGMA_MM / spacing, rng=rng)
    fractions = np.concatenate([spared, lesion * (1 + LESION_SPREAD * noise)])
    tissues = healthy.tissues + _vary(("ncr", "ed", "et"), rng=rng)
    return replace(healthy, fractions=fractions, tissues=tissues, labels=labels)


def _vary(names: tuple[str, ...], *, rng: np.random.Generator) -> tuple[Tissue, ...]:
    """The named tissues with one subject's relaxation times."""
    factors = np.exp(rng.normal(0, RELAXATION_SPREAD, (len(names), 2)))
    return tuple(
        replace(TISSUES[name], t1=TISSUES[name].t1 * a, t2=TISSUES[name].t2 * b)
        for name, (a, b) in zip(names, factors.tolist(), strict=True)
    )


def _deform(template: Template, *, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Tissue fractions (3, X, Y, Z) and T1 texture (X, Y, Z) of a deformed template."""
    shape = template.t1.shape
    coordinates = draw_displacement(shape, spacing=template.spacing, rng=rng)
    coordinates += np.indices(shape, dtype=np.float32)
    warped = [
        ndimage.map_coordinates(volume, coordinates, order=1, output=np.float32)
        for volume in (*template.fractions, _texture(template))
    ]
    return np.stack(warped[:3]), warped[3]


def _texture(template: Template) -> FloatArray:
    """The T1 less its fit by the tissue maps (X, Y, Z), in units of the grey-white contrast."""
    fractions = template.fractions
    brain = fractions.sum(axis=0) > 0
    intensity = np.linalg.lstsq(fractions[:, brain].T, template.t1[brain], rcond=None)[0]
    contrast = intensity[2] - intensity[1]
    if contrast <= 0:
        raise ValueError(
            "t1 must be T1-weighted, white matter brighter than grey; "
            f"fitted intensities are {intensity[2]:.3g} and {intensity[1]:.3g}"
        )
    residual = (template.t1 - np.tensordot(intensity, fractions, axes=1)) / contrast
    limited = np.clip(residual, -TEXTURE_LIMIT, TEXTURE_LIMIT)
    return np.where(brain, limited, 0).astype(np.float32)


def _move_boundaries(
    fractions: FloatArray, *, spacing: float, rng: np.random.Generator
) -> FloatArray:
    """Fractions (3, X, Y, Z) sharpened and re-weighted smoothly: gyri and sulci thicken or thin.

    The template is an average of many brains and blurred; squaring brings its edges back.
    """
    sharp = fractions**2
    for part in sharp:
        noise = draw_noise(part.shape, sigma=BOUNDARY_SIGMA_MM / spacing, rng=rng)
        part *= np.exp(BOUNDARY_SPREAD * noise)
    scale = fractions.sum(axis=0) / np.maximum(sharp.sum(axis=0), 1e-6)
    return np.asarray(sharp * scale, dtype=np.float32)
