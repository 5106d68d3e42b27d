"""What paired differences over cases amount to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from transfer_risk.intervals import DIFFERENCE, Estimate
from transfer_risk.significance import LEVEL, needed_cases, smallest_p
from transfer_risk.textrows import listed

Differences = NDArray[np.float64]


def change_sentence(run: str, difference: Differences, groups: Sequence[str] = ()) -> str:
    """How many cases got worse than before, and the mean with an interval over groups (cases, where none are named).

    Args:
        run: Its name.
        difference: Dice after - before by case (n,), NaN where unknown.
        groups: Of the cases, such as their patients.
    """
    worse, known = int((difference < 0).sum()), int((~np.isnan(difference)).sum())
    if not known:
        return (
            f"{run}: no case has a Dice before and after, so better or worse than before is unknown"
        )
    return f"{run}: {worse} of {_cases(known)} got worse than before ({_mean(difference, groups)})"


def transfer_sentence(
    run: str,
    difference: Differences,
    scratch: str,
    iterations: Sequence[object] = (),
    groups: Sequence[str] = (),
) -> str:
    """In how many cases transfer was negative, that is worse than training from scratch.

    Args:
        run: The run that transferred.
        difference: Dice of the run - that from scratch, by case (n,), NaN where unknown.
        scratch: The run from scratch.
        iterations: Of the run and of that from scratch; named where they differ.
        groups: Of the cases, such as their patients: what the interval is over.
    """
    worse, known = int((difference < 0).sum()), int((~np.isnan(difference)).sum())
    if not known:
        return f"{run}: no case has a Dice here and in {scratch}, so negative transfer is unknown"
    start = f"negative transfer in {worse}" if worse else "no negative transfer in any"
    means = "worse than training from scratch" if worse else "none is worse than from scratch"
    unequal = len(set(iterations)) > 1
    note = "; iterations differ: {} and {}".format(*iterations) if unequal else ""
    return (
        f"{run}: {start} of {_cases(known)}: {means} ({scratch}; {_mean(difference, groups)}{note})"
    )


def empty_sentences(
    run: str, dice: Differences, other: str, others: Differences, cases: Sequence[str]
) -> Iterator[str]:
    """On cases without foreground, whose Dice is known only where something was predicted: they have no difference.

    Args:
        run: The run.
        dice: Its Dice by case (n,), NaN where there was nothing to find and nothing was found.
        other: What it is compared with, in words.
        others: The Dice of that, (n,).
        cases: Their ids.
    """
    here, there = (~np.isnan(values) for values in (dice, others))
    if not here.any() or not there.any():
        return
    for which, words in (
        (here & ~there, f"has false positives, and {other} has none,"),
        (there & ~here, f"has no false positives, and {other} has,"),
    ):
        if names := [case for case, chosen in zip(cases, which, strict=True) if chosen]:
            yield f"{run}: {words} in {listed(names)}, without foreground; not counted above"


def seen_sentence(run: str, seen: Sequence[str], cases: Sequence[str]) -> tuple[str, ...]:
    """A sentence where the source of a run was trained on some of the cases; none where not."""
    if not seen:
        return ()
    return (
        f"{run}: its source was trained on {len(seen)} of these {_cases(len(cases))} ({listed(seen)}): what is measured "
        "there is no measure for new cases",
    )


def power_sentence(units: int, comparisons: int, what: str = "case") -> tuple[str, ...]:
    """A sentence where so few cases (or patients) cannot reach p < .05 whatever they say; none where they can."""
    if not comparisons or smallest_p(units, comparisons) < LEVEL:
        return ()
    times = f" and {comparisons} comparisons" if comparisons > 1 else ""
    corrected = (
        f", {smallest_p(units, comparisons):.3g} after Holm's correction" if comparisons > 1 else ""
    )
    return (
        f"With {_number(units, what)}{times} the signed-rank test cannot reach .05: its smallest p is "
        f"{smallest_p(units):.3g}{corrected}; it needs {_number(needed_cases(comparisons), what)}",
    )


def _mean(difference: Differences, groups: Sequence[str]) -> str:
    """Mean of Dice differences in points, with its interval where there is one."""
    estimate = Estimate.mean(difference, bounds=DIFFERENCE, groups=groups)
    text = f"Dice {100 * estimate.value:+.1f} points"
    if estimate.units < 2:
        return text
    low, high = estimate.interval()
    return f"{text} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _cases(number: int) -> str:
    return _number(number, "case")


def _number(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
