"""Scores of a source on a task: LEEP and its readings, EEP-Dice, plain Dice, each with an interval over cases."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.intervals import Estimate
from transfer_risk.passes import CACHE, Predictions, Progress
from transfer_risk.prediction import channel_note, channel_order, decide
from transfer_risk.sources import Source
from transfer_risk.tables import Tables, best_threshold_bins, dice, leep_estimates, mean_known
from transfer_risk.tasks import Case, Task
from transfer_risk.transferability import (
    RUN,
    Joint,
    expected_prediction,
    hard_counts,
    likelihood_table,
    log_expected_prediction,
)

BINS = 256


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
    overlaps = _third_pass(predictions, total, joints, second)
    good = tuple(c.id for c in used if c.id not in predictions.failed)
    values = _dice_values(classes, shared, plain, second, overlaps)
    estimates = leep_estimates(tables, classes) | {
        name: Estimate.mean(v) for name, v in values.items()
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
        tuple(_warnings(source, task, good)),
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
) -> tuple[list[Joint], list[NDArray[Any]], list[dict[int, tuple[int, int, int]]]]:
    """Joint, hard counts, and overlap counts of the source's own decision, for each case."""
    joints, hard, plain = [], [], []
    for case, theta, labels in predictions:
        try:
            joints.append(Joint.of(theta, labels, num_classes))
        except ValueError as error:
            predictions.failed[case.id] = f"case {case.id}: {error}"
            del theta, labels
            continue
        hard.append(hard_counts(theta, labels, num_classes).numpy())
        predicted = decide(predictions.source, theta[0].numpy()) if shared else None
        plain.append(
            {k: _overlap(predicted == z, labels[0].numpy() == k) for k, z in shared.items()}
        )
        del theta, labels, predicted
    return joints, hard, plain


@dataclass(frozen=True, eq=False)
class SecondPass:
    """Sums by case that need the joint of all cases: see `Tables`; histograms of EEP by case, class, label and bin."""

    sums: NDArray[Any]
    held_out: NDArray[Any]
    gradient: NDArray[Any]
    histograms: NDArray[Any]
    argmax: list[dict[int, tuple[int, int, int]]]
    edges: NDArray[Any]


def _second_pass(predictions: Predictions, total: Joint, joints: list[Joint]) -> SecondPass:
    num_classes = len(total.counts)
    low, high = total.smoothed.min(1).values, total.smoothed.max(1).values
    gradient = torch.zeros_like(total.counts)
    sums: list[NDArray[np.float64]] = []
    held_out, histograms, argmax = [], [], []
    for _, theta, labels in predictions:
        own = joints[len(sums)]
        sums.append(_class_sums(log_expected_prediction(theta, labels, total), labels, num_classes))
        gradient += likelihood_table(theta, labels, total)
        others = total - own if len(joints) > 1 else total
        values = log_expected_prediction(theta, labels, others, smoothed=True)
        held_out.append(_class_sums(values, labels, num_classes))
        histogram, winners = np.zeros((num_classes, 2, BINS)), []
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, others.smoothed)[0]
            histogram += _histogram(_bins(eep, low, high), own_labels)
            winners.append(_overlaps(eep.argmax(0), own_labels, num_classes))
        histograms.append(histogram)
        argmax.append(_summed(winners))
        del theta, labels, run, own_labels, values
    edges = low + (high - low) * torch.arange(BINS, dtype=torch.float64)[:, None] / BINS
    return SecondPass(
        np.stack(sums),
        np.stack(held_out),
        gradient.numpy(),
        np.stack(histograms),
        argmax,
        edges.T.numpy(),
    )


def _third_pass(
    predictions: Predictions, total: Joint, joints: list[Joint], second: SecondPass
) -> list[dict[int, tuple[int, int, int]]]:
    """Overlap counts of EEP against thresholds of the other cases; two classes need no pixel again."""
    num_classes = len(total.counts)
    if len(joints) < 2:
        return []
    first = best_threshold_bins(second.histograms)
    if num_classes == 2:
        above = np.arange(BINS) >= first[:, 1, None, None]
        taken = (second.histograms[:, 1] * above).sum(-1)
        labelled = second.histograms[:, 1, 1].sum(-1)
        return [
            {1: (int(t[1]), int(t.sum()), int(n))} for t, n in zip(taken, labelled, strict=True)
        ]
    result: list[dict[int, tuple[int, int, int]]] = []
    low, high = total.smoothed.min(1).values, total.smoothed.max(1).values
    for _, theta, labels in predictions:
        k = len(result)
        others = (total - joints[k]).smoothed
        edges = second.edges[np.arange(num_classes), np.minimum(first[k], BINS - 1)]
        threshold = torch.from_numpy(edges).clamp(min=1e-12)
        winners = []
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, others)[0]
            passed = _bins(eep, low, high) >= torch.from_numpy(first[k])[:, None]
            ratio = torch.where(passed, eep / threshold[:, None], 0.0)
            ratio[0] = 0
            winner = torch.where(passed[1:].any(0), ratio.argmax(0), 0)
            winners.append(_overlaps(winner, own_labels, num_classes))
        result.append(_summed(winners))
        del theta, labels, run, own_labels
    return result


def _runs(theta: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Runs of pixels: probabilities (1, Z, n) and labels (n,)."""
    for start in range(0, labels.shape[1], RUN):
        yield theta[:, :, start : start + RUN], labels[0, start : start + RUN]


def _overlaps(winner: Tensor, labels: Tensor, num_classes: int) -> dict[int, tuple[int, int, int]]:
    """Overlap counts by foreground class."""
    return {
        k: _overlap((winner == k).numpy(), (labels == k).numpy()) for k in range(1, num_classes)
    }


def _summed(runs: list[dict[int, tuple[int, int, int]]]) -> dict[int, tuple[int, int, int]]:
    """Overlap counts of runs together."""
    a, b, c = ({k: sum(run[k][part] for run in runs) for k in runs[0]} for part in range(3))
    return {k: (a[k], b[k], c[k]) for k in runs[0]}


def _bins(eep: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Bin (Y, n) of EEP (Y, n) among BINS equal ones over the range that P(y|z) spans for each class."""
    width = torch.where(high > low, high - low, 1.0)
    scaled = (eep - low[:, None].to(eep)) * (BINS / width)[:, None].to(eep)
    return scaled.floor().clamp(0, BINS - 1).to(torch.int64)


def _histogram(bins: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Pixels by class, whether labelled as it, and bin: (Y, 2, BINS)."""
    rows = [
        torch.bincount(row + BINS * (labels == k), minlength=2 * BINS).reshape(2, BINS)
        for k, row in enumerate(bins)
    ]
    return np.asarray(torch.stack(rows).numpy(), dtype=np.float64)


def _class_sums(values: Tensor, labels: Tensor, num_classes: int) -> NDArray[np.float64]:
    numbers, classes = values[0].numpy(), labels[0].numpy()
    sums = [numbers[classes == k].sum(dtype=np.float64) for k in range(num_classes)]
    return np.asarray(sums, dtype=np.float64)


def _overlap(predicted: Any, labelled: Any) -> tuple[int, int, int]:
    return int((predicted & labelled).sum()), int(predicted.sum()), int(labelled.sum())


def _dice_values(
    classes: tuple[str, ...],
    shared: dict[int, int],
    plain: list[dict[int, tuple[int, int, int]]],
    second: SecondPass,
    overlaps: list[dict[int, tuple[int, int, int]]],
) -> dict[str, NDArray[np.float64]]:
    """Dice by score name, (n,) each: mean over the classes that the case or its prediction has.

    EEP-Dice of a class that fewer than two cases have is unknown, as its threshold is.
    """
    foreground = range(1, len(classes))
    unknown = np.full(len(plain), math.nan)
    many = len(overlaps) > 0
    shared_by = {k: sum(case[k][2] > 0 for case in overlaps) for k in foreground}
    eep = {k: _case_dice(overlaps, k) if shared_by[k] > 1 else unknown for k in foreground}
    argmax = {k: _case_dice(second.argmax, k) if many else unknown for k in foreground}
    result = {
        "eep_dice": mean_known(np.stack(list(eep.values()))),
        "eep_dice_argmax": mean_known(np.stack(list(argmax.values()))),
        "dice": mean_known(np.stack([_case_dice(plain, k) for k in shared])) if shared else unknown,
    }
    return result | {f"eep_dice[{classes[k]}]": values for k, values in eep.items()}


def _case_dice(overlaps: list[dict[int, tuple[int, int, int]]], k: int) -> NDArray[np.float64]:
    counts = np.array([case[k] for case in overlaps], dtype=np.float64)
    return dice(counts[:, 0], counts[:, 1], counts[:, 2])


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
        yield case, "leep_loo", "", float(tables.held_out[c].sum() / pixels[c].sum())
        for k, name in enumerate(classes):
            if pixels[c, k]:
                yield case, "leep", name, float(tables.transferability[c, k] / pixels[c, k])
        for score_name, numbers in values.items():
            base, _, rest = score_name.partition("[")
            yield case, base, rest.rstrip("]"), float(numbers[c])


def _warnings(source: Source, task: Task, cases: tuple[str, ...]) -> Iterator[str]:
    """What a reader of the scores should know."""
    if seen := source.seen(task, cases):
        yield f"source {source.name} was trained on {len(seen)} of the {len(cases)} scored cases"
    if note := channel_note(source, task.channels):
        yield note
    if len(cases) == 1:
        yield f"source {source.name}: one case; no interval, nothing left out"
