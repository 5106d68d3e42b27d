"""Cohorts on disk: ordinary nnU-Net v2 raw folders."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transfer_risk.phantom.anatomy import Subject, draw_tissue_subject, draw_tumour_subject
from transfer_risk.phantom.scanner import Scanner, choose_scanner, scan
from transfer_risk.phantom.template import FilePath, Template, load_template

DESCRIPTION = "Smooth deformations of one brain template with simulated contrasts; not patients."


@dataclass(frozen=True)
class Kind:
    """What distinguishes the two cohorts; `key` keeps their subjects apart under equal seeds."""

    key: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    draw: Callable[..., Subject]


TISSUE = Kind(0, ("T1", "T2"), ("csf", "gm", "wm"), draw_tissue_subject)
TUMOUR = Kind(1, ("T1", "T2", "FLAIR"), ("ncr", "ed", "et"), draw_tumour_subject)


def write_tissue_cohort(
    root: FilePath,
    *,
    cases: int = 10,
    seed: int = 0,
    spacing: float = 2.0,
    template: Template | None = None,
    institution: int = 0,
    name: str = "Dataset001_Tissue",
    prefix: str = "tissue",
) -> Path:
    """Folder of a cohort of healthy pseudo-subjects with tissue labels, in nnU-Net v2 raw format.

    Channels are T1 and T2; labels 1 = CSF, 2 = grey matter, 3 = white matter. Subject k depends on
    the seed and on k alone: another institution is another scanner for the same heads.

    Args:
        root: Folder that receives the dataset folder; made if missing.
        cases: Number of subjects, at least 1.
        seed: Which subjects, at least 0.
        spacing: Isotropic voxel size in mm of the default template; unused if template is given.
        template: The brain to deform; by default `load_template(spacing=spacing)`.
        institution: Which scanner: 0 is the reference.
        name: Name of the dataset folder, "DatasetXXX_Name".
        prefix: Start of the case identifiers, as in "tissue_000".

    Returns:
        The dataset folder. It appears complete or not at all.
    """
    draft = _Draft(TISSUE, cases, seed, prefix, choose_scanner(institution))
    return _write_dataset(Path(root), name, draft, template=template, spacing=spacing)


def write_tumour_cohort(
    root: FilePath,
    *,
    cases: int = 10,
    seed: int = 0,
    spacing: float = 2.0,
    template: Template | None = None,
    institution: int = 0,
    name: str = "Dataset002_Tumour",
    prefix: str = "tumour",
) -> Path:
    """Folder of a cohort of pseudo-subjects with one tumour each, in nnU-Net v2 raw format.

    Channels are T1, T2 and FLAIR, all without contrast agent; labels 1 = necrotic core (ncr),
    2 = oedema (ed), 3 = enhancing rim (et). BraTS and FeTS store the rim as 4; nnU-Net demands
    consecutive values, so it is 3 here. Core or necrosis are absent in some small lesions.

    Args:
        root: Folder that receives the dataset folder; made if missing.
        cases: Number of subjects, at least 1.
        seed: Which subjects, at least 0; never those of a tissue cohort.
        spacing: Isotropic voxel size in mm of the default template; unused if template is given.
        template: The brain to deform; by default `load_template(spacing=spacing)`.
        institution: Which scanner: 0 is the reference.
        name: Name of the dataset folder, "DatasetXXX_Name".
        prefix: Start of the case identifiers, as in "tumour_000".

    Returns:
        The dataset folder. It appears complete or not at all.
    """
    draft = _Draft(TUMOUR, cases, seed, prefix, choose_scanner(institution))
    return _write_dataset(Path(root), name, draft, template=template, spacing=spacing)


@dataclass(frozen=True)
class _Draft:
    """All that determines a cohort, save the template."""

    kind: Kind
    cases: int
    seed: int
    prefix: str
    scanner: Scanner

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise ValueError(f"cases must be at least 1; got {self.cases}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0; got {self.seed}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", self.prefix):
            raise ValueError(f"prefix must be letters, digits, '_', '.', '-'; got {self.prefix!r}")

    @property
    def header(self) -> dict[str, object]:
        """Content of dataset.json."""
        return {
            "channel_names": {str(i): name for i, name in enumerate(self.kind.channels)},
            "labels": {name: i for i, name in enumerate(("background", *self.kind.classes))},
            "numTraining": self.cases,
            "file_ending": ".nii.gz",
            "description": DESCRIPTION,
        }

    def streams(self, case: int) -> Iterator[np.random.Generator]:
        """Independent randomness of one case: its anatomy first, then each of its channels."""
        entropy = np.random.SeedSequence(self.seed, spawn_key=(self.kind.key, case))
        return map(np.random.default_rng, entropy.spawn(1 + len(self.kind.channels)))


def _write_dataset(
    root: Path, name: str, draft: _Draft, *, template: Template | None, spacing: float
) -> Path:
    if not re.fullmatch(r"Dataset\d{3}_\w+", name):
        raise ValueError(f"name must look like Dataset001_Tissue, as nnU-Net demands; got {name!r}")
    final = root / name
    if final.exists():
        raise ValueError(f"{final} exists already; remove it or pass another root or name")
    template = load_template(spacing=spacing) if template is None else template
    with _appearing(final) as folder:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir()
        for case in range(draft.cases):
            _write_case(folder, draft, case, template=template)
        (folder / "dataset.json").write_text(json.dumps(draft.header, indent=2) + "\n")
    return final


@contextmanager
def _appearing(final: Path) -> Iterator[Path]:
    """A hidden folder beside `final` that takes its name on success and vanishes on failure."""
    folder = final.with_name(f".{final.name}.{os.getpid()}.partial")
    folder.mkdir(parents=True)
    try:
        yield folder
        os.replace(folder, final)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_case(folder: Path, draft: _Draft, case: int, *, template: Template) -> None:
    anatomy, *noises = draft.streams(case)
    subject = draft.kind.draw(template, rng=anatomy)
    stem = f"{draft.prefix}_{case:03d}"
    for index, (channel, rng) in enumerate(zip(draft.kind.channels, noises, strict=True)):
        sequence = draft.scanner.sequences[channel]
        image = scan(subject, sequence, scanner=draft.scanner, spacing=template.spacing, rng=rng)
        _save(image, folder / "imagesTr" / f"{stem}_{index:04d}.nii.gz", affine=template.affine)
    _save(subject.labels, folder / "labelsTr" / f"{stem}.nii.gz", affine=template.affine)


def _save(
    volume: NDArray[np.int16] | NDArray[np.uint8], path: Path, *, affine: NDArray[np.float64]
) -> None:
    make: Callable[..., Any] = nib.Nifti1Image  # nibabel leaves it untyped
    image = make(volume, affine)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
