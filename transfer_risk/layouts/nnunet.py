"""nnU-Net v2 raw data: dataset.json, imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer_risk.layouts.dataset import (
    ENDINGS,
    Dataset,
    folder_name,
    image_files,
    numbered,
    read_json,
    read_object,
    shown,
    whole,
)
from transfer_risk.tasks import Case


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    path = root / "dataset.json"
    return path.is_file() and "channel_names" in read_object(path) and (root / "labelsTr").is_dir()


def read_dataset(root: Path) -> Dataset:
    """The data set; folds come from splits_final.json where there is one.

    Raises:
        ValueError: naming the file, if a labelled case has no image, files are of a kind that is not read, or a JSON file is
            not as nnU-Net writes it.
    """
    path = root / "dataset.json"
    description = read_object(path)
    channels = numbered(description["channel_names"], path, "channel_names")
    labels, ignore = _labels(description, root)
    images, masks = image_files(root / "imagesTr"), image_files(root / "labelsTr")
    ending = description.get("file_ending", ENDINGS[0])
    if not masks and ending not in ENDINGS:
        raise ValueError(
            f"{path}: file_ending is {shown(ending)}, which is not read; convert images and labels to one of "
            f"{', '.join(ENDINGS)}"
        )
    cases = []
    for id_, label in masks.items():
        wanted = [f"{id_}_{k:04d}" for k in range(len(channels))]
        missing = [w for w in wanted if w not in images]
        if missing:
            raise ValueError(
                f"{root}/imagesTr: has no image {missing[0]} ({', '.join(ENDINGS)}) for {label}; add it, or remove the label"
            )
        cases.append(Case(id_, tuple(str(images[w]) for w in wanted), str(label)))
    return Dataset(folder_name(root), channels, labels, tuple(cases), ignore, _folds(root))


def _labels(
    description: dict[str, Any], root: Path
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Raw values by class in the order of nnU-Net's outputs, and those to ignore; a class that is 0 is background.

    Classes are in the order of their values; regions (one class or more with several values) in that of the file.
    """
    path = root / "dataset.json"
    declared = {
        name: value if isinstance(value, list) else [value]
        for name, value in description["labels"].items()
    }
    where = f"{path}: the value of"
    ignore = tuple(whole(v, f"{where} ignore in labels") for v in declared.pop("ignore", ()))
    labels = {
        name: tuple(whole(v, f"{where} class {name!r}") for v in values)
        for name, values in declared.items()
    }
    labels = {name: values for name, values in labels.items() if values != (0,)}
    if any(len(values) > 1 for values in labels.values()):
        return _written_first(labels, description.get("regions_class_order") or ()), ignore
    return dict(sorted(labels.items(), key=lambda item: item[1])), ignore


def _written_first(
    regions: Mapping[str, tuple[int, ...]], order: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Raw values of each region, the one of `order` (regions_class_order) first: what is predicted is written as it."""
    wanted = dict(zip(regions, order, strict=False))
    return {
        name: tuple(sorted(values, key=lambda v: v != wanted.get(name)))
        for name, values in regions.items()
    }


def _folds(root: Path) -> tuple[tuple[str, ...], ...]:
    """Test ids of each fold of splits_final.json; none without that file."""
    path = root / "splits_final.json"
    if not path.is_file():
        return ()
    content = read_json(path)
    folds = content if isinstance(content, list) else []
    tests: list[Any] = [fold.get("val") if isinstance(fold, dict) else None for fold in folds]
    if not tests or not all(
        isinstance(t, list) and all(isinstance(i, str) for i in t) for t in tests
    ):
        raise ValueError(
            f'{path}: must be a list of folds such as [{{"train": ["a"], "val": ["b"]}}]; got {shown(content)}; mend it, or '
            "remove it for a split of transfer-risk's own"
        )
    return tuple(map(tuple, tests))
