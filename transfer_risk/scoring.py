"""Scores of a source on a task: LEEP and its readings, EEP-Dice, plain Dice, each with an interval over cases."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.channels import channel_note, channel_order
from transfer_risk.classes import shared_classes
from transfer_risk.counting import first_pass, second_pass, third_pass
from transfer_risk.intervals import SHARE, Estimate
from transfer_risk.lineage import seen_note
from transfer_risk.overlaps import overlap_dice, shared_by_groups
from transfer_risk.passes import CACHE, Predictions
from transfer_risk.sources import Source
from transfer_risk.tables import Tables, leep_estimates, mean_known
from transfer_risk.tasks import Case, Task
from transfer_risk.textrows import listed
from transfer_risk.transferability import others_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Score:
    """Scores of one source on one task.

    Args:
        source: Its name.
        estimates: By score name; `leep[NAME]` and `eep_dice[NAME]` by class.
        cases: Ids of the cases that were used: those with a voxel that counts.
        per_case: Rows (case, score, class, value).
        pixels: Number of voxels that counted.
        seconds: Wall time.
        licence: Of the source.
        failed: Reason by case, for the cases that could not be used.
        warnings: Sentences.
    """

    source: str
    estimates: dict[str, Estimate]
    cases: tuple[str, ...]
    per_case: tuple[tuple[str, str, str, float], ...]
    pixels: int
    seconds: float
    licence: str
    failed: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def score(
    source: Source,
    task: Task,
    *,
    cases: Sequence[Case] | None = None,
    cache: int = CACHE,
    progress: Tell | None = None,
) -> Score:
    """Scores of a source on the training cases of a task (or on the given ones), with intervals over cases.

    A case without a voxel that counts, such as a healthy one where slices with foreground are selected, says nothing of
    the source: it is no case of the score, and a warning names it.

    Raises:
        ValueError: if channels or dimensions do not fit, or no case can be used.
    """
    start = time.perf_counter()
    channel_order(source, task.channels)
    used = task.split("train") if cases is None else cases
    predictions = Predictions(source, task, used, cache, progress)
    scored, tables, values = _passes(source, task, used, predictions)
    good, groups, classes = tuple(c.id for c in scored), tables.groups, task.classes
    counts = tables.pixels.sum(0)
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    estimates = leep_estimates(tables, classes) | {
        name: Estimate.mean(v, bounds=SHARE, groups=groups) for name, v in values.items()
    }
    return Score(
        source.name,
        estimates,
        good,
        tuple(_per_case(good, tables, values, classes)),
        int(tables.pixels.sum()),
        time.perf_counter() - start,
        source.licence,
        dict(predictions.failed),
        tuple(_warnings(source, task, scored, absent, predictions.empty)),
    )


def _passes(
    source: Source, task: Task, used: Sequence[Case], predictions: Predictions
) -> tuple[list[Case], Tables, dict[str, Floats]]:
    """Three passes over the cases: those that are scored, their statistics, and their Dice by score name (n,).

    Raises:
        ValueError: if no case can be used, or none has foreground.
    """
    classes, shared = task.classes, shared_classes(source.classes, task.classes)
    joints, hard, plain = first_pass(predictions, len(classes), shared)
    if not joints:
        raise ValueError(predictions.nothing)
    if not sum(table[1:].sum() for table in hard):
        lost = f"; {listed(list(predictions.failed.values()))}" if predictions.failed else ""
        raise ValueError(
            f"task {task.name}: no foreground in {len(joints)} of {len(used)} cases that source {source.name} can predict; "
            f"look at [labels], region and [slices]{lost}"
        )
    left_out = {*predictions.failed, *predictions.empty}
    scored = [c for c in used if c.id not in left_out]
    groups = tuple(c.unit for c in scored)
    others = others_of(joints, groups)
    second = second_pass(predictions, reduce(add, joints), others)
    tables = Tables(
        np.stack([j.counts.numpy() for j in joints]),
        np.stack(hard),
        second.sums,
        second.held_out,
        second.gradient,
        groups,
    )
    chosen = third_pass(predictions, others, groups, second) if tables.units > 1 else None
    return scored, tables, _dice_values(classes, shared, plain, second.argmax, chosen, groups)


def _dice_values(
    classes: tuple[str, ...],
    shared: Collection[int],
    plain: list[Floats],
    argmax: Floats,
    chosen: Floats | None,
    groups: Sequence[str],
) -> dict[str, Floats]:
    """Dice by score name, (n,) each: mean over the classes that the case or its prediction has.

    EEP-Dice of a class that fewer than two groups have is unknown, as its threshold is; of a single group all of EEP is.
    """
    unknown = np.full(argmax.shape[:2], math.nan)
    eep, largest, own = unknown, unknown, unknown
    if chosen is not None:
        several = shared_by_groups(chosen[..., 2], groups)
        eep = np.where(several, overlap_dice(chosen), math.nan)
        largest = overlap_dice(argmax)
    if shared:
        own = np.where(
            np.isin(range(len(classes)), list(shared)), overlap_dice(np.stack(plain)), math.nan
        )
    named = {"eep_dice": eep, "eep_dice_argmax": largest, "dice": own}
    means = {name: mean_known(values[:, 1:].T) for name, values in named.items()}
    return means | {f"eep_dice[{name}]": eep[:, k] for k, name in enumerate(classes) if k}


def _per_case(
    cases: tuple[str, ...],
    tables: Tables,
    values: dict[str, NDArray[np.float64]],
    classes: tuple[str, ...],
) -> Iterator[tuple[str, str, str, float]]:
    """Rows (case, score, class, value)."""
    pixels = tables.pixels
    for c, case in enumerate(cases):
        yield case, "leep", "", float(tables.transferability[c].sum() / pixels[c].sum())
        if tables.units > 1:
            yield case, "leep_loo", "", float(tables.held_out[c].sum() / pixels[c].sum())
        for k, name in enumerate(classes):
            if pixels[c, k]:
                yield case, "leep", name, float(tables.transferability[c, k] / pixels[c, k])
        for score_name, numbers in values.items():
            base, _, rest = score_name.partition("[")
            yield case, base, rest.rstrip("]"), float(numbers[c])


def _warnings(
    source: Source,
    task: Task,
    cases: Sequence[Case],
    absent: Sequence[str],
    empty: Sequence[str],
) -> Iterator[str]:
    """What a reader of the scores should know."""
    ids, several = [c.id for c in cases], len({c.unit for c in cases})
    for note in (seen_note(source, task, ids, "scored"), channel_note(source, task.channels)):
        if note:
            yield note
    if empty:
        yield f"no voxel counts in {listed(empty)}: not among the {len(cases)} scored cases"
    for name in absent:
        yield f"class {name} has no voxel that counts in the scored cases: nothing is said of it"
    if several == 1:
        one = "one case" if len(cases) == 1 else f"{len(cases)} cases of one group"
        yield f"source {source.name}: {one}; no interval, nothing left out"
    elif several < len(cases):
        yield f"{len(cases)} cases of {several} groups: intervals are over groups, and whole groups are left out"
