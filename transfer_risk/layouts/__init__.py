"""Data folders as tasks: nnU-Net v2 raw, Medical Segmentation Decathlon, plain file pairs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transfer_risk.files import write_text
from transfer_risk.layouts import msd, nnunet, pairs
from transfer_risk.layouts.dataset import Dataset
from transfer_risk.tasks import Case, Preprocessing, Slices, Task, held_out, read_toml

LAYOUTS = {"nnunet": nnunet, "msd": msd, "pairs": pairs}


def load_task(path: str | Path) -> Task:
    """Task of a task.toml.

    Raises:
        ValueError: naming the file, if it or the data folder is missing, incomplete or contradictory.
    """
    table = read_toml(path)
    try:
        root = (Path(path).parent / table["root"]).resolve()
        dataset = read_dataset(root, table["layout"])
        return replace(_task(table, dataset, root), path=str(path))
    except KeyError as error:
        raise ValueError(f"{path}: needs the key {error.args[0]!r}") from None
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None


def read_dataset(root: Path, layout: str | None = None) -> Dataset:
    """The data set in a folder, its layout recognised where not given.

    Raises:
        ValueError: if there is no such folder, no layout fits, or no labelled case is in it.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such data folder")
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    name = layout or next((n for n, module in LAYOUTS.items() if module.matches(root)), None)
    if name is None:
        raise ValueError(
            f"{root}: fits no layout; nnunet and msd want a dataset.json, pairs want the folders images and labels"
        )
    dataset: Dataset = LAYOUTS[name].read_dataset(root)
    if not dataset.cases:
        raise ValueError(f"{root}: holds no labelled case in the layout {name}")
    return dataset


def write_tasks(
    root: str | Path,
    out: str | Path,
    *,
    layout: str | None = None,
    binary: bool = False,
    fold: tuple[int, int] | None = None,
) -> list[Path]:
    """Write one task file for each task in a data folder, or in each of its subfolders; the files' paths.

    Args:
        root: A data set, or a folder of data sets.
        out: Folder for `<dataset>.toml`, or `<dataset>-<class>-<channel>.toml` with `binary`.
        layout: One of LAYOUTS; recognised where not given.
        binary: One task for each class on each channel instead of one for all.
        fold: (k, n): test cases are fold k of n instead of 30 %.
    """
    paths = []
    for folder, found in _datasets(Path(root), layout):
        dataset = read_dataset(folder, found)
        for name, labels, channels in _choices(dataset, binary):
            table = _table(dataset, folder, found, name, labels, channels, fold, Path(out))
            paths.append(Path(out) / f"{name}.toml")
            write_text(paths[-1], _toml(table))
    return paths


def _datasets(root: Path, layout: str | None) -> Iterator[tuple[Path, str]]:
    """Data folders at or right below root, each with the name of its layout."""
    if not root.is_dir():
        raise ValueError(f"{root}: no such data folder")
    if layout is not None:
        yield root, layout
        return
    found = [
        (folder, next(name for name, module in LAYOUTS.items() if module.matches(folder)))
        for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir()))
        if any(module.matches(folder) for module in LAYOUTS.values())
    ]
    if not found:
        raise ValueError(
            f"{root}: neither it nor a folder in it fits a layout ({', '.join(LAYOUTS)}); nnunet and msd want a "
            "dataset.json, pairs want the folders images and labels"
        )
    yield from found


def _choices(
    dataset: Dataset, binary: bool
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Name, classes and channels of each task in a data set."""
    short = re.sub(r"^Dataset\d+_|^Task\d+_", "", dataset.name)
    if not binary:
        yield _slug(short), tuple(dataset.labels), dataset.channels
        return
    for label in dataset.labels:
        for channel in dataset.channels:
            yield _slug(f"{short}-{label}-{channel}"), (label,), (channel,)


def _table(
    dataset: Dataset,
    folder: Path,
    layout: str,
    name: str,
    labels: tuple[str, ...],
    channels: tuple[str, ...],
    fold: tuple[int, int] | None,
    out: Path,
) -> dict[str, Any]:
    own = {label: list(dataset.labels[label]) for label in labels}
    test = dataset.test if dataset.test and fold is None else held_out(dataset.cases, fold=fold)
    return {
        "format": 1,
        "name": name,
        "root": Path(os.path.relpath(folder.resolve(), out.resolve())).as_posix(),
        "layout": layout,
        "channels": list(channels),
        "classes": ["background", *labels],
        "ignore": list(dataset.ignore),
        "region": "all",
        "labels": own,
        "slices": asdict(Slices()),
        "split": {"test": list(test)},
        "training": {"normalise": "zscore-nonzero"},
    }


def _task(table: dict[str, Any], dataset: Dataset, root: Path) -> Task:
    """Task from a file's table and the data set that it speaks of."""
    channels = tuple(table.get("channels", dataset.channels))
    if missing := [c for c in channels if c not in dataset.channels]:
        raise ValueError(
            f"channels must be among {list(dataset.channels)} of {root}; got {missing}"
        )
    classes = tuple(table.get("classes", ("background", *dataset.labels)))
    labels = {name: tuple(values) for name, values in table.get("labels", {}).items()} or {
        name: dataset.labels[name] for name in classes[1:]
    }
    ignore = tuple(table.get("ignore", dataset.ignore))
    taken = {v for values in labels.values() for v in values} | set(ignore)
    declared = {v for values in dataset.labels.values() for v in values}
    background = set(table.get("background", ())) | {0} | (declared - taken)
    order = [dataset.channels.index(c) for c in channels]
    cases = tuple(
        Case(c.id, tuple(c.images[k] for k in order), c.label, c.group) for c in dataset.cases
    )
    return Task(
        name=table["name"],
        classes=classes,
        channels=channels,
        cases=cases,
        labels=labels,
        background=tuple(sorted(background)),
        ignore=ignore,
        region=table.get("region", "all"),
        slices=Slices(**table.get("slices", {})),
        test=tuple(table.get("split", {}).get("test", dataset.test or held_out(cases))),
        training=Preprocessing.of(table.get("training", {})),
        root=str(root),
        layout=table["layout"],
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _toml(table: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)
