"""What every layout gives: a data set with all of its channels and declared classes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer_risk.tasks import Case


@dataclass(frozen=True, eq=False)
class Dataset:
    """A folder of labelled cases.

    Args:
        name: Short name.
        channels: Names of all channels, in the order of each case's images.
        labels: Raw values of each foreground class.
        cases: All cases, each with every channel.
        ignore: Raw values that the data set says to ignore.
        test: Ids that the data set itself holds out (first fold); empty if it does not say.
        incomplete: For each case that lacks a file: a sentence that says which.
    """

    name: str
    channels: tuple[str, ...]
    labels: Mapping[str, tuple[int, ...]]
    cases: tuple[Case, ...]
    ignore: tuple[int, ...] = ()
    test: tuple[str, ...] = ()
    incomplete: Mapping[str, str] = field(default_factory=dict)


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


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ValueError: naming the file, if it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: is no readable JSON ({error})") from None


def image_files(folder: Path) -> dict[str, Path]:
    """Image files of a folder by their name without ending; hidden files and `._*` are skipped."""
    endings = (".nii.gz", ".nii", ".mgz", ".img")
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        ending = next((e for e in endings if path.name.lower().endswith(e)), None)
        if ending and not path.name.startswith("."):
            found[path.name[: -len(ending)]] = path
    return found
