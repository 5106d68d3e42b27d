"""What dataset.json says of channels and raw label values, in nnU-Net's raw data as in its models and predictions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Labels:
    """The key `labels` of nnU-Net; a class that is 0 alone is background and not among them.

    Args:
        values: Raw values of each foreground class in the order of nnU-Net's outputs: that of the values, and of regions
            that of the file.
        ignore: Raw values of voxels that never count.
        regions: Whether a class has several values: classes overlap, later ones over earlier ones.
        order: What each region is written as (regions_class_order), as far as the file says it.
    """

    values: dict[str, tuple[int, ...]]
    ignore: tuple[int, ...]
    regions: bool
    order: tuple[int, ...]


def labels_in(description: Mapping[str, Any], path: Path) -> Labels:
    """The labels that a dataset.json of nnU-Net declares.

    Raises:
        ValueError: naming the file, if a value is no whole number.
    """
    where = f"{path}: the value of"
    declared = {
        name: value if isinstance(value, list) else [value]
        for name, value in description["labels"].items()
    }
    ignore = tuple(whole(v, f"{where} ignore in labels") for v in declared.pop("ignore", ()))
    values = {
        name: tuple(whole(v, f"{where} class {name!r}") for v in own)
        for name, own in declared.items()
    }
    values = {name: own for name, own in values.items() if own != (0,)}
    if not any(len(own) > 1 for own in values.values()):
        return Labels(dict(sorted(values.items(), key=lambda item: item[1])), ignore, False, ())
    written = f"{path}: a value of regions_class_order"
    order = tuple(whole(v, written) for v in description.get("regions_class_order") or ())
    return Labels(values, ignore, True, order)


def numbered(names: Any, path: Path, key: str) -> tuple[str, ...]:
    """Names of channels in the order of the numbers that they have under a key of a JSON file.

    Raises:
        TypeError: if the key has no object.
        ValueError: naming the file, if a channel has no number.
    """
    if not isinstance(names, dict):
        raise TypeError(f'{key} must be an object such as {{"0": "T1"}}; got {shown(names)}')
    where = f"{path}: the number of a channel in {key}"
    return tuple(names[k] for k in sorted(names, key=lambda k: whole(k, where)))


def whole(value: Any, where: str) -> int:
    """The whole number that a JSON value is, or is the text of.

    Args:
        value: Of JSON.
        where: What must be that number; the message starts with it.

    Raises:
        ValueError: if it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not number.is_integer():
        raise ValueError(f"{where} must be a whole number; got {shown(value)}")
    return int(number)


def shown(content: Any) -> str:
    """The beginning of what a JSON file holds, for a message.

    >>> shown(None), shown(list(range(99)))
    ('null', '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16...')
    """
    text = json.dumps(content, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
