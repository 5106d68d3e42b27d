"""Estimates over cases: a value with each case's influence on it, from which intervals and paired differences follow.

Pixels of one case are not independent; cases are, unless they are of one patient, whose influences are added up. A t
interval on case-wise influence values covers better than the percentile bootstrap at 5 to 20 cases, and Hall's correction
for skewness better still where a few large lesions dominate a score (`analysis/interval_coverage.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

SHARE = (0.0, 1.0)
"""Bounds of Dice and of other shares."""
DIFFERENCE = (-1.0, 1.0)
"""Bounds of the difference of two shares, and of a correlation."""
LOGARITHM = (-math.inf, 0.0)
"""Bounds of a mean log-probability."""
ROUNDING = 1e-6
"""Less than this is what float32 makes of no difference at all."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A score over n cases.

    Args:
        value: The score; NaN where unknown.
        influence: First-order change of the score by each case (n,); they sum to about 0. For a mean of m values
            this is (v_c - mean) / m. NaN for a case that does not have the quantity.
        skewed: Correct interval and p value for the skewness of the influence values by Hall's monotone cubic
            (J. R. Stat. Soc. B 54, 1992); scores over pixels want it, means over cases keep the ordinary t.
        bounds: Least and largest value that the score can have; an interval ends there.
        groups: What each case belongs to (n,), such as its patient; each case is a group of its own where it is empty.
    """

    value: float
    influence: NDArray[np.float64]
    skewed: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    groups: tuple[str, ...] = ()

    @classmethod
    def mean(
        cls,
        values: Sequence[float] | NDArray[np.float64],
        *,
        bounds: tuple[float, float] = (-math.inf, math.inf),
        groups: Sequence[str] = (),
    ) -> Estimate:
        """Mean over cases; a case without the quantity (NaN) does not count."""
        numbers = np.asarray(values, dtype=np.float64)
        known = int((~np.isnan(numbers)).sum())
        mean = float(numbers[~np.isnan(numbers)].mean()) if known else math.nan
        influence = (numbers - mean) / max(known, 1)
        return cls(mean, influence, bounds=bounds, groups=tuple(groups))

    @property
    def cases(self) -> int:
        """Number of cases that have the quantity."""
        return int((~np.isnan(self.influence)).sum())

    @property
    def standard_error(self) -> float:
        """sqrt(n / (n - 1) sum I_g^2) over the n groups that have an influence; NaN for one."""
        own = self._by_group
        if len(own) < 2 or math.isnan(self.value):
            return math.nan
        return math.sqrt(len(own) / (len(own) - 1) * float((own**2).sum()))

    @property
    def units(self) -> int:
        """Number of groups (patients) that have the quantity."""
        return len(self._by_group)

    @property
    def _by_group(self) -> NDArray[np.float64]:
        """Sum of the known influences of each group that has one."""
        known = ~np.isnan(self.influence)
        if not self.groups:
            return self.influence[known]
        _, place = np.unique(np.asarray(self.groups)[known], return_inverse=True)
        return np.bincount(place, self.influence[known]).astype(np.float64)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided t interval, within `bounds`; (NaN, NaN) for one group."""
        from scipy.stats import t

        quantile = float(t.ppf((1 + level) / 2, max(self.units - 1, 1)))
        error = self.standard_error
        ends = (self.value - error * self._skew(q) for q in (quantile, -quantile))
        low, high = (float(np.clip(end, *self.bounds)) for end in ends)
        return low, high

    def columns(self, name: str) -> dict[str, float]:
        """`name`, `name_low` and `name_high` for a row of a table: the value and the ends of its 95 % interval."""
        low, high = self.interval()
        return {name: self.value, f"{name}_low": low, f"{name}_high": high}

    @property
    def p_value(self) -> float:
        """Two-sided p of the t test that the value is 0; meant for differences. NaN for one group, 1 for mere rounding."""
        from scipy.stats import t

        error = self.standard_error
        if math.isnan(error):
            return math.nan
        if abs(self.value) < ROUNDING:
            return 1.0
        if error == 0:
            return 0.0
        return float(2 * t.sf(abs(self._unskew(self.value / error)), self.units - 1))

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit, such as 100 for points of a share; the factor must be positive."""
        low, high = (factor * bound for bound in self.bounds)
        value, influence = factor * self.value, factor * self.influence
        return replace(self, value=value, influence=influence, bounds=(low, high))

    def _slope(self) -> float:
        """Skewness of the influence values / (3 sqrt(n)), the one number of Hall's transformation; 0 without it."""
        known = self._by_group
        spread = math.sqrt(float((known**2).mean())) if len(known) else 0.0
        if not self.skewed or spread == 0:
            return 0.0
        return float(((known / spread) ** 3).mean()) / (3 * math.sqrt(len(known)))

    def _unskew(self, statistic: float) -> float:
        """Hall's g(T) = ((1 + aT)^3 - 1) / (3a) + a / 2 of the studentised value T."""
        a = self._slope()
        return statistic + a * statistic**2 + a**2 * statistic**3 / 3 + a / 2

    def _skew(self, quantile: float) -> float:
        """Inverse of `_unskew`."""
        a = self._slope()
        shifted = quantile - a / 2
        return (float(np.cbrt(1 + 3 * a * shifted)) - 1) / a if abs(a) > 1e-9 else shifted

    def __sub__(self, other: Estimate) -> Estimate:
        """Paired difference over the same cases.

        Raises:
            ValueError: if the numbers of cases differ.
        """
        if len(self.influence) != len(other.influence):
            raise ValueError(
                f"estimates must be over the same cases; got {len(self.influence)} and {len(other.influence)}"
            )
        bounds = (self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0])
        if (np.isnan(self.influence) == np.isnan(other.influence)).all():
            value, influence = self.value - other.value, self.influence - other.influence
            return Estimate(value, influence, self.skewed and other.skewed, bounds, self.groups)
        values = self._values() - other._values()
        return Estimate.mean(values, bounds=bounds, groups=self.groups)

    def _values(self) -> NDArray[np.float64]:
        """The values that a mean was taken of, NaN where unknown: only means have unknown cases."""
        return np.asarray(self.value + self.cases * self.influence)
