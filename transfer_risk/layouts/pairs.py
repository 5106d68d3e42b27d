"""Plain file pairs: images/<case>.nii.gz or images/<case>_<channel>.nii.gz, and labels/<case>.nii.gz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from transfer_risk.imagefiles import load
from transfer_risk.layouts.dataset import Dataset, image_files
from transfer_risk.tasks import Case


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def read_dataset(root: Path) -> Dataset:
    """The data set; channels are the suffixes that the first case's images have, classes the values of all labels.

    An image belongs to the case of the longest name that it starts with. One that has just the name of the case is its only
    image.
    """
    images, labels = image_files(root / "images"), image_files(root / "labels")
    channels: tuple[str, ...] | None = None
    cases = []
    owners = {name: _owner(name, labels) for name in images}
    for id_, label in labels.items():
        own = {
            name.removeprefix(id_).lstrip("_-"): path
            for name, path in images.items()
            if owners[name] == id_
        }
        own = {"": own[""]} if "" in own else own
        channels = channels or tuple(sorted(own))
        if not own or any(c not in own for c in channels):
            missing = [c for c in channels if c not in own] or [id_]
            raise ValueError(
                f"{root}/images: has no image for {label} (channel {missing[0] or 'image'})"
            )
        cases.append(Case(id_, tuple(str(own[c]) for c in channels), str(label)))
    names = tuple(c or "image" for c in channels or ())
    return Dataset(root.name, names, {f"label{v}": (v,) for v in _values(labels)}, tuple(cases))


def _owner(image: str, cases: Iterable[str]) -> str:
    """The longest name of a case that the image's name is, or starts with before an underscore; empty if there is none."""
    return max((c for c in cases if f"{image}_".startswith(f"{c}_")), key=len, default="")


def _values(labels: dict[str, Path]) -> list[int]:
    found: set[int] = set()
    for path in labels.values():
        found |= {int(v) for v in np.unique(load(str(path))[0])}
    return sorted(found - {0})
