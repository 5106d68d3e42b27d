"""The passes over a source's predictions that a score is made of: sums by case, then what needs those of all cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.overlaps import (
    BINS,
    best_threshold_bins,
    binary_overlaps,
    eep_bins,
    eep_histogram,
    overlaps,
    thresholded,
)
from transfer_risk.passes import Predictions
from transfer_risk.prediction import decide
from transfer_risk.transferability import (
    RUN,
    Joint,
    expected_prediction,
    hard_counts,
    likelihood_table,
    log_expected_prediction,
)

Floats = NDArray[np.float64]


def first_pass(
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
            predictions.refuse(case, error)
            del theta, labels
            continue
        hard.append(hard_counts(theta, labels, num_classes).numpy())
        if shared:
            chosen = decide(predictions.source, theta[0].numpy())
            parts = (slice(start, start + RUN) for start in range(0, len(chosen), RUN))
            counts = (overlaps(own_class[chosen[p]], labels[0, p], num_classes) for p in parts)
            plain.append(sum(counts, np.zeros((num_classes, 3))))
            del chosen
        del theta, labels
    return joints, hard, plain


@dataclass(frozen=True, eq=False)
class SecondPass:
    """What needs the joint of all cases, by case.

    Args:
        sums: Of T by class (n, Y), see `Tables`.
        held_out: The same on the joint of the other groups' cases (n, Y).
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


def second_pass(predictions: Predictions, total: Joint, others: Sequence[Joint]) -> SecondPass:
    """What the joint of all cases, and that of the others of each (see `others_of`), says of it."""
    num_classes = len(total.counts)
    low, high = total.smoothed.min(1).values, total.smoothed.max(1).values
    gradient = torch.zeros_like(total.counts)
    sums: list[Floats] = []
    held_out, histograms, argmax = [], [], []
    for _, theta, labels in predictions:
        rest = others[len(sums)]
        sums.append(_class_sums(log_expected_prediction(theta, labels, total), labels, num_classes))
        gradient += likelihood_table(theta, labels, total)
        values = log_expected_prediction(theta, labels, rest, smoothed=True)
        held_out.append(_class_sums(values, labels, num_classes))
        histogram, counts = np.zeros((num_classes, 2, BINS)), np.zeros((num_classes, 3))
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, rest.smoothed)[0]
            histogram += eep_histogram(eep_bins(eep, low, high), own_labels)
            counts += overlaps(eep.argmax(0), own_labels, num_classes)
        histograms.append(histogram)
        argmax.append(counts)
        del theta, labels, run, own_labels, values
    parts = (np.stack(histograms), np.stack(argmax), low, high)
    return SecondPass(np.stack(sums), np.stack(held_out), gradient.numpy(), *parts)


def third_pass(
    predictions: Predictions,
    others: Sequence[Joint],
    groups: Sequence[str],
    second: SecondPass,
) -> Floats:
    """Overlaps (n, Y, 3) of EEP against thresholds of the other groups' cases; two classes need no pixel again."""
    num_classes, low, high = len(second.low), second.low, second.high
    bins = best_threshold_bins(second.histograms, groups)
    if num_classes == 2:
        return binary_overlaps(second.histograms, bins)
    result: list[Floats] = []
    for _, theta, labels in predictions:
        k = len(result)
        rest = others[k].smoothed
        first = torch.from_numpy(bins[k])
        edge = low + (high - low) * first.clamp(max=BINS - 1) / BINS
        counts = np.zeros((num_classes, 3))
        for run, own_labels in _runs(theta, labels):
            eep = expected_prediction(run, rest)[0]
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
