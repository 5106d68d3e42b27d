"""nnU-Net v2 raw data: dataset.json, imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transfer_risk.layouts.dataset import Dataset, image_files, read_json
from transfer_risk.tasks import Case


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    path = root / "dataset.json"
    return path.is_file() and "channel_names" in read_json(path) and (root / "labelsTr").is_dir()


def read_dataset(root: Path) -> Dataset:
    """The data set; a held-out fold comes from splits_final.json where there is one."""
    description = read_json(root / "dataset.json")
    names = description["channel_names"]
    channels = tuple(names[k] for k in sorted(names, key=int))
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
    return Dataset(root.name, channels, labels, tuple(cases), ignore, _test(root))


def _labels(
    description: dict[str, Any], root: Path
) -> tuple[dict[str, tuple[int, ...]], tuple[int, ...]]:
    """Raw values by class, and those to ignore.

    Regions (lists of values) become exclusive classes: region i is written as regions_class_order[i], later ones over
    earlier ones, as nnU-Net writes its predictions.
    """
    declared = {
        name: value for name, value in description["labels"].items() if name != "background"
    }
    ignore = tuple(int(v) for name, v in declared.items() if name == "ignore")
    declared.pop("ignore", None)
    if any(isinstance(value, list) for value in declared.values()):
        order = description.get("regions_class_order")
        if not order or len(order) != len(declared):
            raise ValueError(
                f"{root}/dataset.json: regions need regions_class_order with {len(declared)} values"
            )
        return {name: (int(v),) for name, v in zip(declared, order, strict=True)}, ignore
    return {name: (int(v),) for name, v in declared.items()}, ignore


def _test(root: Path) -> tuple[str, ...]:
    path = root / "splits_final.json"
    return tuple(read_json(path)[0]["val"]) if path.is_file() else ()
