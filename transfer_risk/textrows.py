"""Rows as text: lines whose columns are aligned, CSV, and what JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells whose columns are as wide as their longest cell, two spaces between."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]


def listed(names: Collection[str], most: int = 3) -> str:
    """The first names, and how many more there are: "a, b, c and 2 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with a header, as a CSV file holds them."""
    import pandas as pd

    return str(pd.DataFrame(list(rows)).to_csv(index=False, lineterminator="\n"))


def p_text(p: float | None) -> str:
    """A p value for a table: three digits, or that it is less than they can say; `-` where it is unknown.

    >>> p_text(0.0004), p_text(0.04), p_text(math.nan)
    ('<0.001', '0.040', '-')
    """
    if p is None or math.isnan(p):
        return "-"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def known(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None for what is unknown."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
