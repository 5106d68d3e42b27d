"""nnU-Net v2 raw data: dataset.json, imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer_risk.layouts.dataset import (
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
    """The data set; a held-out fold comes from splits_final.json where there is one.

    Raises:
        ValueError: naming the file, if a labelled case has no image, or a JSON file is not as nnU-Net writes it.
    """
    path = root / "dataset.json"
    description = read_object(path)
    channels = numbered(description["channel_names"], path, "channel_names")
    labels, ignore = _labels(description, root)
    images = image_files(root / "imagesTr")
    cases = []
    for id_, label in image_files(root / "labelsTr").items():
        wanted = [f"{id_}_{k:04d}" for k in range(len(channels))]
        missing = [w for w in wanted if w not in images]
        if missing:
            raise ValueError(
                f"{root}/imagesTr: has no {missing[0]}{description['file_ending']} for {label}"
            )
        cases.append(Case(id_, tuple(str(images[w]) for w in wanted), str(label)))
    return Dataset(folder_name(root), channels, labels, tuple(cases), ignore, _test(root))


def _labels(
    description: dict[str, Any], root: Path
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Raw values by class, and those to ignore.

    Regions (lists of values) become exclusive classes: region i is written as regions_class_order[i], later ones over
    earlier ones, as nnU-Net writes its predictions.
    """
    path = root / "dataset.json"
    declared = {
        name: value for name, value in description["labels"].items() if name != "background"
    }
    ignored = [declared.pop("ignore")] if "ignore" in declared else []
    ignore = tuple(whole(v, f"{path}: the value of ignore in labels") for v in ignored)
    if any(isinstance(value, list) for value in declared.values()):
        order = description.get("regions_class_order")
        if not order or len(order) != len(declared):
            raise ValueError(
                f"{path}: regions need regions_class_order with {len(declared)} values"
            )
        declared = dict(zip(declared, order, strict=True))
    where = f"{path}: the value of class"
    return {name: (whole(v, f"{where} {name!r}"),) for name, v in declared.items()}, ignore


def _test(root: Path) -> tuple[str, ...]:
    """Ids of the first fold of splits_final.json; none without that file."""
    path = root / "splits_final.json"
    folds = read_json(path) if path.is_file() else [{"val": []}]
    first = folds[0] if isinstance(folds, list) and folds else None
    ids = first.get("val") if isinstance(first, dict) else None
    if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
        raise ValueError(
            f'{path}: must be a list of folds such as [{{"train": ["a"], "val": ["b"]}}]; got {shown(folds)}; mend it, or '
            "remove it for a split of transfer-risk's own"
        )
    return tuple(ids)
