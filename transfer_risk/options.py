"""What an option is: its default, what it does and what it may be; without torch, so that the command line knows it too."""

from __future__ import annotations

import math
from dataclasses import Field, field
from typing import Any, Literal, TypeVar

Extent = Literal["image", "case", "set"]
"""What hardness is scaled over."""
Divisor = Literal["batch", "image", "pixels"]
"""What the risk-weighted sum is divided by."""
LARGEST_BASE = 1e6
"""Of risk = base ** hardness: beyond, float32 and files would not hold the risk."""
Sign = Literal["positive", "not negative"]
Value = TypeVar("Value", str, int, float, bool)


def option(
    default: Value,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    sign: Sign | None = None,
) -> Value:
    """A field of a dataclass whose type is that of its default, to be checked by `check_option`.

    Args:
        default: Value where nothing is given.
        text: What it does, for `--help`.
        choices: The words that it may be; any where empty.
        sign: Of a number; any where not given.
    """
    metadata = {"text": text, "choices": choices, "sign": sign}
    made: Any = field(default=default, metadata=metadata)
    return made  # type: ignore[no-any-return]


def check_option(option: Field[Any], value: object) -> None:
    """Raise ValueError, naming the option, where a value is not of the type of its default, or not what it may be.

    Whole numbers count as numbers.
    """
    name, kind, known = option.name, type(option.default), option.metadata
    right = isinstance(value, (int, float) if kind is float else kind)
    if not right or (isinstance(value, bool) and kind is not bool):
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}
        raise ValueError(f"{name} must be {words[kind]}; got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite; got {value}")
    if known["choices"] and value not in known["choices"]:
        raise ValueError(f"{name} must be one of {', '.join(known['choices'])}; got {value!r}")
    if isinstance(value, int | float):
        if known["sign"] == "positive" and not value > 0:
            raise ValueError(f"{name} must be positive; got {value}")
        if known["sign"] == "not negative" and not value >= 0:
            raise ValueError(f"{name} must not be negative; got {value}")


def check_word(name: str, word: object, words: tuple[str, ...]) -> None:
    """Raise ValueError unless the argument of that name is one of the words."""
    if word not in words:
        raise ValueError(f"{name} must be {', '.join(words[:-1])} or {words[-1]}; got {word!r}")
