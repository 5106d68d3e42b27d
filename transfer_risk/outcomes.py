"""What became of each voxel under two models, counted by the size of a value: ranks without a voxel in memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAINED, LOST, BOTH_WRONG = 1, 2, 3
"""Outcomes, 2 * (first model wrong) + (second model wrong); 0 is both right."""
WRONG = (LOST, BOTH_WRONG)
"""The first model is wrong."""
SMALLEST, LARGEST = 2.0**-24, 2.0**8
"""Sizes outside count as these: float32 knows no logarithm of a probability between 0 and 2^-24."""
STEPS = 2**14
"""Bins for each factor of two between them."""
BINS = 32 * STEPS + 1
"""One more, for what is smaller."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Voxels by stratum, size and outcome; those of cases add.

    Sizes that differ by more than 0.006 % are told apart, others may count as tied. That moves an AUROC by at most half
    the share of the pairs that have both voxels in one bin.

    Args:
        cells: (stratum * `BINS` + bin) * 4 + outcome of those that occur (m,), ascending.
        counts: Voxels of each (m,).
    """

    cells: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, sizes: NDArray[Any], strata: NDArray[Any], outcomes: NDArray[Any]) -> Outcomes:
        """Count voxels.

        Args:
            sizes: (n,), not negative; inf is the largest.
            strata: (n,) integers from 0.
            outcomes: (n,) in [0, 4).

        Raises:
            ValueError: if a size is negative or unknown.
        """
        if not (sizes >= 0).all():
            raise ValueError(
                f"sizes must be at least 0; got {sizes[~(sizes >= 0)][0]}; give -T, and valid voxels alone"
            )
        cells = (strata.astype(np.int64) * BINS + _bins(sizes)) * 4 + outcomes
        return cls(*np.unique(cells, return_counts=True))

    @classmethod
    def none(cls) -> Outcomes:
        """No voxel yet."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    def __add__(self, other: Outcomes) -> Outcomes:
        """Voxels of both."""
        both = np.concatenate([self.cells, other.cells])
        cells, places = np.unique(both, return_inverse=True)
        counts = np.zeros(len(cells), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Outcomes(cells, counts)

    def within(self, strata: Sequence[int]) -> Outcomes:
        """Voxels of some strata alone."""
        chosen = np.isin(self._strata, list(strata))
        return Outcomes(self.cells[chosen], self.counts[chosen])

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return int(self.counts.sum())

    def share(self, events: Sequence[int]) -> float:
        """Share of the voxels that have one of these outcomes; NaN without voxels."""
        return float(self.by_size(events).sum()) / self.voxels if self.voxels else math.nan

    def by_size(self, events: Sequence[int]) -> NDArray[np.float64]:
        """Voxels with these outcomes by bin of their size, (`BINS`,)."""
        chosen = np.isin(self.cells % 4, list(events))
        bins = self.cells[chosen] // 4 % BINS
        return np.bincount(bins, self.counts[chosen], minlength=BINS).astype(np.float64)

    def auroc(self, events: Sequence[int], against: Sequence[int] = ()) -> float:
        """Probability that a voxel of these outcomes is larger than another one, ties counted half.

        Args:
            events: Outcomes.
            against: Outcomes of the other voxels; all others where none are given.

        Returns:
            In [0, 1], .5 = no better than chance; NaN where one of the two does not occur.
        """
        wins, pairs = self._wins(events, against)
        return wins / pairs if pairs else math.nan

    def auroc_matched(self, events: Sequence[int]) -> float:
        """As `auroc`, among the pairs of voxels of one stratum alone."""
        strata = np.unique(self._strata)
        parts = [self.within([int(s)])._wins(events, ()) for s in strata]
        pairs = sum(p for _, p in parts)
        return sum(w for w, _ in parts) / pairs if pairs else math.nan

    def deciles(self, events: Sequence[int]) -> NDArray[np.float64]:
        """Share of these outcomes in each tenth of the voxels (10,), ordered by size, the largest last.

        A bin that a border runs through is divided between both sides, its outcomes in proportion. NaN without voxels.
        """
        if not self.voxels:
            return np.full(10, math.nan)
        everything, wanted = (
            np.concatenate([[0], np.cumsum(self.by_size(chosen))]) for chosen in (range(4), events)
        )
        borders = np.linspace(0, self.voxels, 11)
        return np.asarray(np.diff(np.interp(borders, everything, wanted)) / (self.voxels / 10))

    @property
    def _strata(self) -> NDArray[np.int64]:
        return np.asarray(self.cells // (4 * BINS))

    def _wins(self, events: Sequence[int], against: Sequence[int]) -> tuple[float, float]:
        """Pairs in which the event is larger, ties counted half, and all pairs."""
        others = list(against) or [k for k in range(4) if k not in events]
        above, below = self.by_size(events), self.by_size(others)
        smaller = np.cumsum(below) - below
        return float(above @ (smaller + below / 2)), float(above.sum() * below.sum())


def _bins(sizes: NDArray[Any]) -> NDArray[np.int64]:
    """Bin of each size: the leading bits of a positive float32 are in the order of the numbers."""
    bits = np.clip(np.abs(sizes), 0, LARGEST).astype(np.float32).view(np.uint32)
    ends = np.array([SMALLEST], dtype=np.float32).view(np.uint32)
    steps = (bits.astype(np.int64) - int(ends[0])) // (2**23 // STEPS) + 1
    return np.asarray(np.clip(steps, 0, BINS - 1))
