"""Overlap of decisions and labels by class, and the decisions of EEP-Dice: thresholds fitted on the other cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.tables import dice, group_sums

BINS = 256
Floats = NDArray[np.float64]


def overlaps(chosen: Any, labels: Any, num_classes: int) -> Floats:
    """Pixels by class (Y, 3): chosen and labelled, chosen, labelled. Classes (n,) each; sums over parts of a case add up."""
    chosen, labels = np.asarray(chosen), np.asarray(labels)
    columns = (labels[labels == chosen], chosen, labels)
    counts = [np.bincount(column, minlength=num_classes) for column in columns]
    return np.stack(counts, axis=1).astype(np.float64)


def overlap_dice(counts: Floats) -> Floats:
    """Dice of overlaps (..., 3); NaN where a class is neither chosen nor labelled."""
    return dice(counts[..., 0], counts[..., 1], counts[..., 2])


def eep_bins(eep: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Bin (Y, n) of EEP (Y, n) among `BINS` equal ones over the range that P(y|z) spans for each class, (Y,) each."""
    width = torch.where(high > low, high - low, 1.0)
    scaled = (eep - low[:, None].to(eep)) * (BINS / width)[:, None].to(eep)
    return scaled.floor().clamp(0, BINS - 1).to(torch.int64)


def eep_histogram(bins: Tensor, labels: Tensor) -> Floats:
    """Pixels by class, whether labelled as it, and bin: (Y, 2, BINS)."""
    rows = [
        torch.bincount(row + BINS * (labels == k), minlength=2 * BINS).reshape(2, BINS)
        for k, row in enumerate(bins)
    ]
    return np.asarray(torch.stack(rows).numpy(), dtype=np.float64)


def best_threshold_bins(histograms: Floats, groups: Sequence[str] = ()) -> NDArray[np.int64]:
    """First bin that counts as foreground, fitted for each case and class on the pooled Dice of the *other* groups' cases.

    A class that fewer than two groups have has no threshold: the one that has it is predicted without it, so that its own
    histogram says nothing.

    Args:
        histograms: Pixels by case, class, whether labelled as that class, and bin of EEP: (n, Y, 2, bins).
        groups: Of the cases, such as their patients; each case is one of its own where it is empty.

    Returns:
        (n, Y) bins; one past the last where there is no threshold.
    """
    others = histograms.sum(0) - group_sums(histograms, groups)
    above = others[..., ::-1].cumsum(-1)[..., ::-1]
    scores = dice(above[:, :, 1], above.sum(2), others[:, :, 1].sum(-1)[..., None])
    shared = shared_by_groups(histograms[:, :, 1].sum(-1), groups)
    best = np.where(np.isnan(scores), -1.0, scores).argmax(
        -1
    )  # unknown is worse than all that is known
    return np.asarray(np.where(shared, best, histograms.shape[-1]))


def shared_by_groups(labelled: Floats, groups: Sequence[str]) -> NDArray[np.bool_]:
    """Whether the cases of more than one group have each class (Y,), from pixels by case and class (n, Y)."""
    own = group_sums(labelled, groups)
    return np.asarray(((own > 0) & (own < labelled.sum(0))).any(0))


def binary_overlaps(histograms: Floats, first: NDArray[np.int64]) -> Floats:
    """Overlaps (n, 2, 3) of two classes from histograms (n, 2, 2, bins) and thresholds (n, 2): no pixel is needed again.

    Background is left at 0.
    """
    above = np.arange(histograms.shape[-1]) >= first[:, 1, None, None]
    taken = (histograms[:, 1] * above).sum(-1)
    counts = np.zeros((len(histograms), 2, 3))
    counts[:, 1] = np.stack([taken[:, 1], taken.sum(1), histograms[:, 1, 1].sum(-1)], axis=1)
    return counts


def thresholded(eep: Tensor, bins: Tensor, first: Tensor, threshold: Tensor) -> Tensor:
    """Classes (n,): of those whose EEP passes its threshold the one with the largest ratio to it, else background.

    Args:
        eep: (Y, n).
        bins: Of EEP, (Y, n).
        first: First bin that counts, (Y,).
        threshold: Its lower edge, (Y,), positive.
    """
    passed = bins >= first[:, None]
    ratio = torch.where(passed, eep / threshold[:, None], 0.0)
    ratio[0] = 0
    return torch.where(passed[1:].any(0), ratio.argmax(0), 0)
