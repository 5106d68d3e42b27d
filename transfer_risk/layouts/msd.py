"""Medical Segmentation Decathlon: dataset.json with `modality`, `labels` (int -> name) and `training` pairs."""

from __future__ import annotations

from pathlib import Path

from transfer_risk.layouts.dataset import Dataset, read_json
from transfer_risk.tasks import Case


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    path = root / "dataset.json"
    return path.is_file() and {"modality", "training"} <= set(read_json(path))


def read_dataset(root: Path) -> Dataset:
    """The data set; channels of a 4D image are read as `file#k`."""
    description = read_json(root / "dataset.json")
    modality = description["modality"]
    channels = tuple(modality[k] for k in sorted(modality, key=int))
    labels = {name: (int(v),) for v, name in description["labels"].items() if int(v) != 0}
    cases = []
    for pair in description["training"]:
        image, label = root / pair["image"], root / pair["label"]
        if label.name.startswith("._"):
            continue
        parts = (
            [f"{image}#{k}" for k in range(len(channels))] if len(channels) > 1 else [str(image)]
        )
        cases.append(
            Case(label.name.removesuffix(".gz").removesuffix(".nii"), tuple(parts), str(label))
        )
    return Dataset(root.name, channels, labels, tuple(cases))
