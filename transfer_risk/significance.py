"""Tests over few cases: Wilcoxon's signed-rank test, Holm's correction, and what so few cases can show at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05
"""Of a p value that is called significant."""


def signed_rank_p(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test that paired differences lie around 0.

    Exact up to 50 cases (13 where differences are tied), normal above. Differences of 0 are dropped, as Wilcoxon did;
    1 if nothing is left. Unknown differences (NaN) do not count; NaN where none is known.
    """
    from scipy.stats import wilcoxon

    numbers = np.asarray(differences, dtype=np.float64)
    if np.isnan(numbers).all():
        return math.nan
    moved = numbers[~np.isnan(numbers) & (numbers != 0)]
    return float(wilcoxon(moved).pvalue) if len(moved) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: the k-th smallest of m times m - k + 1, never falling, at most 1.

    An unknown one (NaN) stays so and does not count.

    >>> [round(p, 2) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    known = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    order = sorted(known, key=lambda i: p_values[i])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def smallest_p(cases: int, comparisons: int = 1) -> float:
    """Smallest p that the two-sided signed-rank test can reach: 2 / 2^n, times the comparisons for Holm; at most 1.

    >>> smallest_p(5), smallest_p(6), smallest_p(6, 3)
    (0.0625, 0.03125, 0.09375)
    """
    return float(min(1.0, comparisons * 2.0 ** (1 - cases)))


def needed_cases(comparisons: int = 1) -> int:
    """Fewest cases with which the signed-rank test can fall below `LEVEL` after Holm's correction.

    >>> needed_cases(), needed_cases(10)
    (6, 9)
    """
    cases = 1
    while smallest_p(cases, comparisons) >= LEVEL:
        cases += 1
    return cases
