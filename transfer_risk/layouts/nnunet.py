"""nnU-Net v2 raw data: dataset.json, imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer_risk.datasetjson import Labels, labels_in, numbered, shown
from transfer_risk.files import read_json
from transfer_risk.layouts.dataset import (
    ENDINGS,
    Dataset,
    folder_name,
    image_files,
    read_object,
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
    labels = labels_in(description, path)
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
    values = _raw_values(labels)
    return Dataset(folder_name(root), channels, values, tuple(cases), labels.ignore, _folds(root))


def _raw_values(labels: Labels) -> dict[str, tuple[int, ...]]:
    """Raw values by class, first that of a region which `order` has: what is predicted is written as it."""
    wanted = dict(zip(labels.values, labels.order, strict=False))
    return {
        name: tuple(sorted(own, key=lambda v: v != wanted.get(name))) if labels.regions else own
        for name, own in labels.values.items()
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
