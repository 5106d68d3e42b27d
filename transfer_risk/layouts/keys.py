"""What a task file may have, and of which kind it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from transfer_risk.tasks import Slices
from transfer_risk.tomlfiles import refuse_unknown

TEXT = "text in quotes"
NAMES = 'a list of names in quotes, such as ["a", "b"]'
VALUES = "a list of whole numbers without quotes, such as [1, 2]"
SOME = "a list of whole numbers without quotes, at least one, such as [1, 2]"
TABLE = "a table"
KEYS = {
    "format": "1",
    "name": TEXT,
    "root": TEXT,
    "layout": TEXT,
    "channels": NAMES,
    "classes": NAMES,
    "ignore": VALUES,
    "background": VALUES,
    "region": TEXT,
    "labels": TABLE,
    "slices": TABLE,
    "split": TABLE,
    "training": TABLE,
}
"""Keys and what they must be."""
SPLIT = {"cases": NAMES, "group": TEXT, "test": NAMES}


def _list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(v) is kind for v in value)


FITS: Mapping[str, Callable[[Any], bool]] = {
    "1": lambda value: value == 1,
    TEXT: lambda value: isinstance(value, str),
    NAMES: _list_of(str),
    VALUES: _list_of(int),
    SOME: lambda value: _list_of(int)(value) and bool(value),
    TABLE: lambda value: isinstance(value, dict),
}


def check_keys(table: Mapping[str, Any]) -> None:
    """Raise ValueError where a key is unknown (a misspelt one would do nothing, without a word) or of another kind.

    What `[slices]` and `[training]` hold, `Slices` and `Preprocessing` check.
    """
    _check(table, KEYS, "a task file", "")
    labels = table.get("labels", {})
    _check(labels, dict.fromkeys(labels, SOME), "[labels]", "labels.")
    _check(table.get("split", {}), SPLIT, "[split]", "split.")
    refuse_unknown(table.get("slices", {}), [f.name for f in fields(Slices)], "[slices]")


def _check(table: Mapping[str, Any], kinds: Mapping[str, str], where: str, prefix: str) -> None:
    refuse_unknown(table, kinds, where)
    for key, value in table.items():
        if not FITS[kinds[key]](value):
            raise ValueError(f"{prefix}{key} must be {kinds[key]}; got {value!r}")
