"""What every layout gives: a data set with all of its channels and declared classes."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer_risk.datasetjson import shown
from transfer_risk.files import IMAGES, read_json, stem_and_ending
from transfer_risk.tasks import Case

ENDINGS = tuple(e for e in IMAGES if e != ".hdr")
"""Of the files that are read."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A folder of labelled cases.

    Args:
        name: Short name.
        channels: Names of all channels, in the order of each case's images.
        labels: All raw values of each foreground class; those of nnU-Net's regions overlap.
        cases: All cases, each with every channel.
        ignore: Raw values that the data set says to ignore.
        folds: Ids that the data set itself holds out in each fold; empty if it does not say.
        incomplete: For each case that lacks a file: a sentence that says which.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    cases: tuple[Case, ...]
    ignore: tuple[int, ...] = ()
    folds: tuple[tuple[str, ...], ...] = ()
    incomplete: Mapping[str, str] = field(default_factory=dict)

    def values(self, classes: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Raw values of each class in a task of these: those that no later class of them has, as later ones overwrite.

        Raises:
            ValueError: if a class is left without any.
        """
        last = {v: name for name in self.labels if name in classes for v in self.labels[name]}
        own = {name: tuple(v for v in self.labels[name] if last[v] == name) for name in classes}
        if bare := [name for name in classes if not own[name]]:
            raise ValueError(
                f"dataset.json: region {bare[0]!r} must have a value that no later one has, as later ones overwrite earlier "
                f"ones; got {list(self.labels[bare[0]])}; list the outermost region first"
            )
        return own


@dataclass(frozen=True)
class Choice:
    """A task to be written: some classes on some channels of a data set.

    Args:
        name: Of the task.
        labels: Foreground classes.
        channels: Channels.
        cases: Ids that the task is restricted to; empty: all.
    """

    name: str
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    cases: tuple[str, ...] = ()


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Key that sorts numbers in names by value.

    >>> sorted(["s-10", "s-2"], key=natural)
    ['s-2', 's-10']
    """
    parts = re.findall(r"\d+|\D+", text)
    return tuple((int(p), "") if p.isdigit() else (-1, p.lower()) for p in parts)


def slug(text: str) -> str:
    """A text as a file name: letters and digits of any script in lower case, all else as hyphens; `task` if none is left.

    >>> slug("Grün_Weiß T1"), slug("脑"), slug("?")
    ('grün-weiß-t1', '脑', 'task')
    """
    kept = (
        c if unicodedata.category(c)[0] in "LMN" else "-"  # letters, the marks on them, numbers
        for c in unicodedata.normalize("NFC", text.lower())
    )
    return re.sub("-+", "-", "".join(kept)).strip("-") or "task"


def read_object(path: Path) -> dict[str, Any]:
    """Content of a JSON file that describes a data set.

    Raises:
        ValueError: naming the file, if it is missing, no JSON, or no JSON object.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: must be a JSON object that describes a data set; got {shown(content)}; mend or remove it"
        )
    return content


def folder_name(root: Path) -> str:
    """Name of a folder, also of one that was given as `.`."""
    return os.path.basename(os.path.abspath(root))


def image_files(folder: Path, *, key: Callable[[str], str] = str) -> dict[str, Path]:
    """Image files of a folder by their name without ending; skipped are folders, hidden files, `._*` and headers (.hdr).

    Args:
        folder: To look into; without it there are none.
        key: Of a name, what is found under it (`str.lower`: whatever its case).

    Raises:
        ValueError: naming both, if two files have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        stem, ending = stem_and_ending(path.name)
        if ending.lower() not in ENDINGS or path.name.startswith(".") or path.is_dir():
            continue
        name = key(stem)
        if name in found:
            raise ValueError(
                f"{path}: must be the only image of its name; {found[name].name} is there too; remove one of them"
            )
        found[name] = path
    return found
