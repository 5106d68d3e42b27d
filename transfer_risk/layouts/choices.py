"""Which tasks there are in a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from transfer_risk.layouts import fets, iseg2019
from transfer_risk.layouts.dataset import Choice, Dataset, slug


def choices_of(
    dataset: Dataset,
    folder: Path,
    layout: str,
    *,
    binary: bool,
    partitions: str | Path | None,
    folds: int,
) -> tuple[list[Choice], list[str], list[str]]:
    """Tasks of a data set, a sentence for each case that they leave out, and one for each partition smaller than `folds`.

    Raises:
        ValueError: if there are partitions, and the data set is none of FeTS or the tasks are binary.
    """
    problems = list(dataset.incomplete.values())
    if partitions is not None:
        if layout != "fets":
            raise ValueError(f"partitions belong to the layout fets; {folder} is read as {layout}")
        if binary:
            raise ValueError("binary must be off with partitions, whose tasks have three classes")
        made, strange, small = fets.choices(dataset, folder, Path(partitions), folds=folds)
        return made, problems + strange, small
    made = list(iseg2019.choices(dataset) if layout == "iseg2019" else _usual(dataset, binary))
    if problems:
        made = [replace(choice, cases=tuple(c.id for c in dataset.cases)) for choice in made]
    return made, problems, []


def _usual(dataset: Dataset, binary: bool) -> Iterator[Choice]:
    """One task for all classes and channels, or one for each class on each channel."""
    short = re.sub(r"^Dataset\d+_|^Task\d+_", "", dataset.name)
    if not binary:
        yield Choice(slug(short), tuple(dataset.labels), dataset.channels)
        return
    for label in dataset.labels:
        for channel in dataset.channels:
            yield Choice(slug(f"{short}-{label}-{channel}"), (label,), (channel,))


def written_twice(name: str, first: tuple[Path, Choice], second: tuple[Path, Choice]) -> str:
    """Which two folders, or which two tasks of one folder, would have one file."""
    (folder, choice), (other_folder, other) = first, second
    if folder != other_folder:
        return (
            f"{folder} and {other_folder}: {name} would be written twice; rename one of the folders, or give each a folder "
            "for tasks of its own (--out)"
        )
    who = " and ".join(
        f"class {', '.join(c.labels)!r} on channel {', '.join(c.channels)!r}"
        for c in (choice, other)
    )
    return f"{folder}: {name} would be written twice, for {who}; rename one of them"
