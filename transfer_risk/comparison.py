"""Before against after, and runs against each other: case by case, on one span, with intervals over cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import combinations
from operator import or_

import numpy as np
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.intervals import DIFFERENCE, Estimate
from transfer_risk.quantities import quantity_of
from transfer_risk.riskmap import Span, check_base
from transfer_risk.runs import Run, label_name
from transfer_risk.runstats import Cell, case_values
from transfer_risk.significance import holm, signed_rank_p
from transfer_risk.tables import mean_known
from transfer_risk.verdicts import (
    change_sentence,
    empty_sentences,
    power_sentence,
    seen_sentence,
    transfer_sentence,
)

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Change:
    """One quantity of one run over its cases: before, after, and the paired difference after - before."""

    run: str
    quantity: str
    before: Estimate
    after: Estimate
    difference: Estimate

    @classmethod
    def of(
        cls, run: str, quantity: str, before: Values, after: Values, groups: Sequence[str] = ()
    ) -> Change:
        """Means over the cases that have the quantity before and after; after alone if none has. NaN where unknown."""
        both = ~np.isnan(before) & ~np.isnan(after)
        before = np.where(both, before, math.nan)
        if both.any():
            after = np.where(both, after, math.nan)
        bounds = quantity_of(quantity).bounds
        first, last = (
            Estimate.mean(values, bounds=bounds, groups=groups) for values in (before, after)
        )
        return cls(run, quantity, first, last, last - first)


@dataclass(frozen=True, eq=False)
class Contrast:
    """Dice after training of two runs on the same cases.

    Args:
        first: Name of a run.
        second: Name of another.
        difference: Dice of the second minus that of the first, paired.
        p_signed_rank: Wilcoxon's signed-rank test.
        p_holm: The same, corrected for all pairs of runs.
    """

    first: str
    second: str
    difference: Estimate
    p_signed_rank: float
    p_holm: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs of one task on the same test cases.

    Args:
        runs: As given.
        span: Scale of all maps, over all runs and both stages.
        base: R = base ** H, for the risk mass.
        values: Numbers by case (n,), in the order of `cases`, NaN where unknown; by run, stage and quantity.
            Quantities are those of `mapstats.map_statistics` and `dice`, `hd95` (mm), `recall`, `precision`: the mean
            over the foreground classes that are known, of HD95 and precision those that are known at both stages, and
            `dice[NAME]` and so on by class where there are several.
            A run from scratch has nothing before.
    """

    runs: tuple[Run, ...]
    span: Span
    base: float
    values: dict[Cell, NDArray[np.float64]]

    @property
    def cases(self) -> tuple[str, ...]:
        """Ids of the test cases."""
        return tuple(c.id for c in self.runs[0].cases)

    @property
    def groups(self) -> tuple[str, ...]:
        """What each case belongs to, such as its patient: intervals and tests are over groups."""
        return tuple(c.unit for c in self.runs[0].cases)

    def rows(self) -> list[dict[str, str | float]]:
        """One row per run, stage, case and quantity."""
        method = {r.name: r.method for r in self.runs}
        names = ("run", "method", "stage", "case", "quantity", "value")
        return [
            dict(zip(names, (run, method[run], stage, case, what, float(value)), strict=True))
            for (run, stage, what), numbers in self.values.items()
            for case, value in zip(self.cases, numbers, strict=True)
        ]

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Every quantity of every run, in order, over the cases that have it before and after; after alone if none has."""
        found = []
        for run, stage, quantity in self.values:
            if stage == "after":
                after = self.values[run, stage, quantity]
                before = self.values.get((run, "before", quantity), np.full_like(after, math.nan))
                found.append(Change.of(run, quantity, before, after, self.groups))
        return tuple(found)

    @cached_property
    def contrasts(self) -> tuple[Contrast, ...]:
        """Every pair of runs, in order."""
        pairs = list(combinations([r.name for r in self.runs], 2))
        dice = {r.name: self.values[r.name, "after", "dice"] for r in self.runs}
        gains = [dice[b] - dice[a] for a, b in pairs]
        means = [Estimate.mean(g, bounds=DIFFERENCE, groups=self.groups) for g in gains]
        p_values = [signed_rank_p(_group_means(g, self.groups)) for g in gains]
        return tuple(
            Contrast(a, b, mean, p, q)
            for (a, b), mean, p, q in zip(pairs, means, p_values, holm(p_values), strict=True)
        )

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What came out, in sentences; negative transfer is spoken of only beside a run from scratch."""
        scratch = [r for r in self.runs if r.from_scratch]
        sentences = []
        for run in (r for r in self.runs if not r.from_scratch):
            after = self.values[run.name, "after", "dice"]
            before = self.values[run.name, "before", "dice"]
            sentences.append(change_sentence(run.name, after - before, self.groups))
            sentences += empty_sentences(run.name, after, "the source", before, self.cases)
            sentences += seen_sentence(run.name, run.seen, self.cases)
            for other in scratch:
                difference = after - self.values[other.name, "after", "dice"]
                budgets = [r.config.get("iterations") for r in (run, other)]
                sentences.append(
                    transfer_sentence(run.name, difference, other.name, budgets, self.groups)
                )
                there = self.values[other.name, "after", "dice"]
                sentences += empty_sentences(run.name, after, other.name, there, self.cases)
        known = min((c.difference.units for c in self.contrasts), default=0)
        what = "patient" if len(set(self.groups)) < len(self.groups) else "case"
        return (*sentences, *power_sentence(known, len(self.contrasts), what))


def compare(runs: Sequence[Run], *, base: float = 10.0, progress: Tell | None = None) -> Comparison:
    """Finished runs of one task, before against after and against each other; one case in memory at a time.

    The maps of all runs and both stages are read on one span. What a run from scratch had before training says
    nothing about transfer: it does not count.

    Raises:
        ValueError: if base is not from 1 to 1e6, no run is given, two have the same name, task or test cases differ, or a
            map is missing or does not fit its case.
    """
    check_base(base)
    check_alike(runs)
    tell = progress or (lambda _: None)
    span = reduce(or_, (run.span for run in runs))
    found: dict[Cell, list[float]] = {}
    for case in runs[0].cases:
        tell(f"comparing {case.id}")
        for cell, value in case_values(runs, case, span, base):
            found.setdefault(cell, []).append(value)
    values = {cell: np.asarray(numbers) for cell, numbers in found.items()}
    return Comparison(tuple(runs), span, base, values)


def _group_means(values: Values, groups: Sequence[str]) -> Values:
    """Mean of the known values of each group; NaN where none is known."""
    own = np.asarray(groups)
    return mean_known(
        np.stack([np.where(own == g, values, math.nan) for g in dict.fromkeys(groups)], axis=1)
    )


def check_alike(runs: Sequence[Run]) -> None:
    """Raise ValueError unless the runs have different names, one task, and the same test cases with the same labels."""
    if not runs:
        raise ValueError("runs must be at least one finished run; got none")
    first, names = runs[0], [r.name for r in runs]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(
            f"runs must have folders of different names; {', '.join(twice)} occurs more than once"
        )
    for run in runs[1:]:
        if (run.task.name, run.task.classes) != (first.task.name, first.task.classes):
            raise ValueError(
                f"runs must be of one task; {first.path} is of {first.task.name} {list(first.task.classes)}, "
                f"{run.path} of {run.task.name} {list(run.task.classes)}"
            )
        ids = [{c.id for c in r.cases} for r in (first, run)]
        if ids[0] != ids[1]:
            raise ValueError(
                f"runs must have the same test cases; only one of {first.path} and {run.path} has "
                f"{', '.join(sorted(ids[0] ^ ids[1]))}; fine-tune again on one task file"
            )
        for name in ("task", *map(label_name, run.cases)):
            if run.inputs.get(name) != first.inputs.get(name):
                raise ValueError(
                    f"runs must be measured on one task file and the same labels; {name} of {run.path} is another than "
                    f"that of {first.path}; fine-tune again"
                )
