"""Plain file pairs: images/<case>.nii.gz or images/<case>_<channel>.nii.gz, and labels/<case>.nii.gz."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from transfer_risk.imagefiles import load
from transfer_risk.layouts.dataset import Dataset, folder_name, image_files
from transfer_risk.tasks import Case
from transfer_risk.volumes import whole_numbers


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def read_dataset(
    root: Path,
    channels: Collection[str] = (),
    classes: Mapping[str, tuple[int, ...]] | None = None,
) -> Dataset:
    """The data set; channels are the suffixes that images of any case have, classes the values of all label files.

    With `channels`, as a task file names them, others do not count: no case need have them. With `classes`, given
    with their raw values, no label file is read.

    An image belongs to the case of the longest name that it starts with. One that has just the name of the case is its only
    image. A case that lacks a channel which another has is incomplete.

    Raises:
        ValueError: naming the file, if a label file cannot be read or holds other values than whole numbers, or if a file is
            there twice.
    """
    labels = image_files(root / "labels")
    found = _images(image_files(root / "images"), labels)
    having: dict[str, str] = {}
    for id_, own in found.items():
        having |= dict.fromkeys(own.keys() - having.keys(), id_)
    named = {c or "image": c for c in sorted(having) or [""]}
    if channels and set(channels) <= set(named):
        named = {name: c for name, c in named.items() if name in channels}
    cases, incomplete = [], {}
    for id_, own in found.items():
        if missing := [c for c in named.values() if c not in own]:
            which = missing[0] or "image"
            other = f", which {having[missing[0]]} has" if having else ""
            incomplete[id_] = (
                f"{root}/images: has no image for {labels[id_]} (channel {which}{other})"
            )
        else:
            cases.append(Case(id_, tuple(str(own[c]) for c in named.values()), str(labels[id_])))
    if classes is None:
        classes = _classes(cases)
    return Dataset(folder_name(root), tuple(named), classes, tuple(cases), incomplete=incomplete)


def _classes(cases: Iterable[Case]) -> dict[str, tuple[int, ...]]:
    """A class for each value but 0 that a label file holds."""
    values = {v for case in cases for v in _values(str(case.label))}
    return {f"label{v}": (v,) for v in sorted(values - {0})}


def _images(images: dict[str, Path], labels: dict[str, Path]) -> dict[str, dict[str, Path]]:
    """Of each labelled case its images by channel; the one channel of an image with the name of the case is empty.

    Raises:
        ValueError: naming both, if two images are the same channel of one case.
    """
    found: dict[str, dict[str, Path]] = {id_: {} for id_ in labels}
    for name, path in images.items():
        if owner := _owner(name, labels):
            channel = name.removeprefix(owner).lstrip("_-")
            if other := found[owner].get(channel):
                raise ValueError(
                    f"{path}: must be the only image of its channel and case; {other.name} is there too; remove one of them"
                )
            found[owner][channel] = path
    return {id_: {"": own[""]} if "" in own else own for id_, own in found.items()}


def _owner(image: str, cases: Iterable[str]) -> str:
    """The longest name of a case that the image's name is, or starts with before an underscore; empty if there is none."""
    return max((c for c in cases if f"{image}_".startswith(f"{c}_")), key=len, default="")


def _values(path: str) -> set[int]:
    """Whole numbers that a label file holds; ValueError where it holds others, or NaN."""
    values = np.unique(load(path)[0]).astype(np.float64)
    finite = np.isfinite(values)
    values[finite] = whole_numbers(values[finite])
    strange = values[~finite | (values != np.rint(values))]
    if len(strange):
        some = ", ".join(f"{v:g}" for v in strange[:5])
        raise ValueError(
            f"{path}: must hold whole numbers, one for each class; got {some}; set such voxels to the number of a class"
        )
    return {int(v) for v in values}
