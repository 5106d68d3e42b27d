"""Medical Segmentation Decathlon: dataset.json with `modality`, `labels` (int -> name) and `training` pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transfer_risk.datasetjson import numbered, whole
from transfer_risk.files import stem_and_ending
from transfer_risk.imagefiles import channel_count
from transfer_risk.layouts.dataset import Dataset, folder_name, read_object
from transfer_risk.tasks import Case


def matches(root: Path) -> bool:
    """Whether the folder has the layout."""
    path = root / "dataset.json"
    return path.is_file() and {"modality", "training"} <= set(read_object(path))


def read_dataset(root: Path) -> Dataset:
    """The data set; channels of a 4D image are read as `file#k`; a case without one of its listed files is incomplete.

    Raises:
        ValueError: naming dataset.json, if it is missing, no JSON object, or if a label or channel has no number; naming the
            image, if it has more channels than dataset.json names.
    """
    path = root / "dataset.json"
    description = read_object(path)
    channels = numbered(description["modality"], path, "modality")
    where = f"{path}: the value of a class in labels"
    labels = {name: (whole(v, where),) for v, name in description["labels"].items()}
    labels = {name: values for name, values in labels.items() if values != (0,)}
    cases, incomplete = [], {}
    for pair in description["training"]:
        image, label = root / pair["image"], root / pair["label"]
        if label.name.startswith("._"):
            continue
        id_, _ = stem_and_ending(label.name)
        if missing := [file for file in (image, label) if not file.is_file()]:
            incomplete[id_] = f"{missing[0]}: no such file, though {path} lists it"
            continue
        cases.append(Case(id_, _channels(image, channels, path), str(label)))
    return Dataset(folder_name(root), channels, labels, tuple(cases), incomplete=incomplete)


def _channels(image: Path, names: Sequence[str], description: Path) -> tuple[str, ...]:
    """The image's channels; one that has too few, or cannot be read, says so when it is."""
    if len(names) < 2:
        return (str(image),)
    if (number := channel_count(image)) > len(names):
        raise ValueError(
            f"{image}: has {number} channels, {description} names {len(names)} in modality ({', '.join(names)}); name them "
            "all there, in the order of the image"
        )
    return tuple(f"{image}#{k}" for k in range(len(names)))
