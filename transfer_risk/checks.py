"""Checks of named values: each raises ValueError with the name, what the value must be, and what it was."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from numbers import Integral
from typing import Any


def one_of(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ValueError unless a named value is an allowed one."""
    if not any(
        value == a and isinstance(value, type(a)) and not isinstance(value, bool) for a in allowed
    ):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}")


def texts(name: str, values: Sequence[object]) -> None:
    """Raise ValueError unless named values are texts, and not the letters of one."""
    if isinstance(values, str) or not all(isinstance(v, str) for v in values):
        raise ValueError(f"{name} must be a tuple of texts in quotes; got {values!r}")


def unique(name: str, values: Sequence[str]) -> None:
    """Raise ValueError unless named values are texts, each of them once."""
    texts(name, values)
    if twice := sorted(n for n, count in Counter(values).items() if count > 1):
        raise ValueError(
            f"{name} must be unique; {', '.join(twice)} is there more than once; give each a name of its own"
        )


def raw_values(name: str, values: Any, *, some: bool = False) -> None:
    """Raise ValueError unless named raw label values are a tuple of whole numbers; with `some`, of at least one.

    No voxel has another value, so that what was meant would be background without a word.
    """
    right = isinstance(values, tuple) and all(
        isinstance(v, Integral) and not isinstance(v, bool) for v in values
    )
    if not right or (some and not values):
        least = ", at least one" * some
        raise ValueError(
            f"{name} must be a tuple of whole numbers{least}, as the label files hold them; got {values!r}"
        )


def numbers(name: str, values: Any, kind: Any, *, positive: bool = True) -> None:
    """Raise ValueError unless named values are a tuple of finite numbers of a kind (`Real` or `Integral`)."""
    least = 0 if positive else -math.inf
    if isinstance(values, tuple) and all(
        isinstance(v, kind) and not isinstance(v, bool) and least < v < math.inf for v in values
    ):
        return
    words = ["positive"] * positive + ["whole"] * (kind is Integral)
    raise ValueError(f"{name} must be {' '.join([*words, 'numbers'])}; got {values!r}")
