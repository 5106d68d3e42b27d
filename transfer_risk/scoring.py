"""Scores of a source on a task: LEEP and its readings, EEP-Dice, plain Dice, each with an interval over cases."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.channels import channel_note, channel_order
from transfer_risk.intervals import SHARE, Estimate
from transfer_risk.overlaps import (
    BINS,
    best_threshold_bins,
    binary_overlaps,
    eep_bins,
    eep_histogram,
    overlap_dice,
    overlaps,
    thresholded,
)
from transfer_risk.passes import CACHE, Predictions, Progress
from transfer_risk.prediction import decide, reason
from transfer_risk.sources import Source
from transfer_risk.tables import Tables, leep_estimates, mean_known
from transfer_risk.tasks import Case, Task
from transfer_risk.transferability import (
    RUN,
    Joint,
    expected_prediction,
    hard_counts,
    likelihood_table,
    log_expected_prediction,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Score:
    """Scores of one source on one task.

    Args:
        source: Its name.
        estimates: By score name; `leep[NAME]` and `eep_dice[NAME]` by class.
        cases: Ids of the cases that were used.
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
    progress: Progress | None = None,
) -> Score:
    """Scores of a source on the training cases of a task (or on the given ones), with intervals over cases.

    Raises:
        ValueError: if channels or dimensions do not fit, or no case can be used.
    """
    start = time.perf_counter()
    channel_order(source, task.channels)
    used = task.split("train") if cases is None else cases
    predictions = Predictions(source, task, used, cache, progress)
    classes, shared = task.classes, _shared_classes(source, task)
    joints, hard, plain = _first_pass(predictions, len(classes), shared)
    if not joints:
        raise ValueError(next(iter(predictions.failed.values()), "no case was given"))
    total = reduce(add, joints)
    second = _second_pass(predictions, total, joints)
    tables = Tables(
        np.stack([j.counts.numpy() for j in joints]),
        np.stack(hard),
        second.sums,
        second.held_out,
        second.gradient,
    )
    chosen = _third_pass(predictions, total, joints, second) if len(joints) > 1 else None
    values = _dice_values(classes, shared, plain, second.argmax, chosen)
    good = tuple(c.id for c in used if c.id not in predictions.failed)
    counts = tables.pixels.sum(0)
    if not counts[1:].any():
        raise ValueError(
            f"task {task.name}: no foreground in the {len(good)} cases; look at [labels], region and [slices]"
        )
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    estimates = leep_estimates(tables, classes) | {
        name: Estimate.mean(v, bounds=SHARE) for name, v in values.items()
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
        tuple(_warnings(source, task, good, absent)),
    )


def _shared_classes(source: Source, task: Task) -> dict[int, int]:
    """Target class number -> source class number of the foreground names that both have."""
    return {
        k: source.classes.index(name)
        for k, name in enumerate(task.classes)
        if k and name in source.classes[1:]
    }


def _first_pass(
    predictions: Predictions, num_classes: int, shared: dict[int, int]
) -> tuple[list[Joint], list[Floats], list[Floats]]:
    """Joint, hard counts, and overlaps (Y, 3) of the source's own decision for the shared classes, for each case."""
    joints, hard, plain = [], [], []
    own_class = np.zeros(len(predictions.source.classes), dtype=np.int64)
    own_class[list(shared.values())] = list(shared)
    for case, theta, labels in predictions:
        try:
            joints.append(Joint.of(theta, labels, num_classes))
        except ValueError as error:
            predictions.failed[case.id] = reason(case.id, error)
            del theta, labels
            continue
        hard.append(hard_counts(theta, labels, num_classes).numpy())
        if shared:
            chosen = own_class[decide(predictions.source, theta[0].numpy())]
            plain.append(overlaps(chosen, labels[0], num_classes))
            del chosen
        del theta, labels
    return joints, hard, plain


@dataclass(frozen=True, eq=False)
class SecondPass:
    """What needs the joint of all cases, by case.

    Args:
        sums: Of T by class (n, Y), see `Tables`.
        held_out: The same on the joint of the other cases (n, Y).
        gradient: Likelihood table of all cases (Y, Z).
        histograms: Of EEP by class, whether labelled as it, and bin (n, Y, 2, BINS).
        argmax: Overlaps of the largest EEP (n, Y, 3).
        low: Least P(y|z) of each class (Y,).
        high: Largest P(y|z) of each class (Y,).
    """

    sums: Floats
    held_out: Floats
    gradient: Floats
    histograms: Floats
    argmax: Floats
    low: Tensor
    high: Tensor


def _second_pass(predictions: Predictions, total: Joint, joints: list[Joint]) -> SecondPass:
    num_classes = len(total.counts)
    low, high = total.smoothed.min(1).values, total.smoothed.max(1).values
    gradient = torch.zeros_like(total.counts)
    sums: list[Floats] = []
    held_out, histograms, argmax = [], [], []
    for _, theta, labels in predictions:
        own = joints[len(sums)]
        sums.append(_class_sums(log_expected_prediction(theta, labels, total), labels, num_classes))
        gradient += likelihood_table(theta, labels, total)
        others = total - own if len(joints) > 1 else total
        values = log_expected_prediction(theta, labels, others, smoothed=True)
        held_out.append(_class_sums(values, labels, num_classes))
        histogram, counts = np.zeros((num_classes, 2, BINS)), np.zeros((num_classes, 3))
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, others.smoothed)[0]
            histogram += eep_histogram(eep_bins(eep, low, high), own_labels)
            counts += overlaps(eep.argmax(0), own_labels, num_classes)
        histograms.append(histogram)
        argmax.append(counts)
        del theta, labels, run, own_labels, values
    parts = (np.stack(histograms), np.stack(argmax), low, high)
    return SecondPass(np.stack(sums), np.stack(held_out), gradient.numpy(), *parts)


def _third_pass(
    predictions: Predictions, total: Joint, joints: list[Joint], second: SecondPass
) -> Floats:
    """Overlaps (n, Y, 3) of EEP against thresholds of the other cases; two classes need no pixel again."""
    num_classes, low, high = len(total.counts), second.low, second.high
    bins = best_threshold_bins(second.histograms)
    if num_classes == 2:
        return binary_overlaps(second.histograms, bins)
    result: list[Floats] = []
    for _, theta, labels in predictions:
        k = len(result)
        others = (total - joints[k]).smoothed
        first = torch.from_numpy(bins[k])
        edge = low + (high - low) * first.clamp(max=BINS - 1) / BINS
        counts = np.zeros((num_classes, 3))
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, others)[0]
            winner = thresholded(eep, eep_bins(eep, low, high), first, edge.clamp(min=1e-12))
            counts += overlaps(winner, own_labels, num_classes)
        result.append(counts)
        del theta, labels, run, own_labels
    return np.stack(result)


def _runs(theta: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of pixels: probabilities (1, Z, n) and labels (n,)."""
    for start in range(0, labels.shape[1], RUN):
        yield theta[:, :, start : start + RUN], labels[0, start : start + RUN]


def _class_sums(values: Tensor, labels: Tensor, num_classes: int) -> NDArray[np.float64]:
    numbers, classes = values[0].numpy(), labels[0].numpy()
    sums = [numbers[classes == k].sum(dtype=np.float64) for k in range(num_classes)]
    return np.asarray(sums, dtype=np.float64)


def _dice_values(
    classes: tuple[str, ...],
    shared: Collection[int],
    plain: list[Floats],
    argmax: Floats,
    chosen: Floats | None,
) -> dict[str, Floats]:
    """Dice by score name, (n,) each: mean over the classes that the case or its prediction has.

    EEP-Dice of a class that fewer than two cases have is unknown, as its threshold is; of a single case all of EEP is.
    """
    unknown = np.full(argmax.shape[:2], math.nan)
    eep, largest, own = unknown, unknown, unknown
    if chosen is not None:
        several = (chosen[..., 2] > 0).sum(0) > 1
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
        if len(cases) > 1:
            yield case, "leep_loo", "", float(tables.held_out[c].sum() / pixels[c].sum())
        for k, name in enumerate(classes):
            if pixels[c, k]:
                yield case, "leep", name, float(tables.transferability[c, k] / pixels[c, k])
        for score_name, numbers in values.items():
            base, _, rest = score_name.partition("[")
            yield case, base, rest.rstrip("]"), float(numbers[c])


def _warnings(
    source: Source, task: Task, cases: tuple[str, ...], absent: Sequence[str]
) -> Iterator[str]:
    """What a reader of the scores should know."""
    if seen := source.seen(task, cases):
        yield f"source {source.name} was trained on {len(seen)} of the {len(cases)} scored cases"
    if note := channel_note(source, task.channels):
        yield note
    for name in absent:
        yield f"class {name} has no voxel that counts in the scored cases: nothing is said of it"
    if len(cases) == 1:
        yield f"source {source.name}: one case; no interval, nothing left out"
