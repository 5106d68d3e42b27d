"""Decisions beyond argmax: offsets of the log-probabilities, tuned on labelled cases or derived from the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.callbacks import Tell
from transfer_risk.passes import Predictions
from transfer_risk.sources import Source
from transfer_risk.tables import dice, mean_known
from transfer_risk.tasks import Case, Decision, Task

STEPS = np.arange(-16, 17) / 4
"""Offsets that are tried: -4 to 4 in steps of 0.25."""
ROUNDS = 4
ROUNDING = 1e-6
"""More than a product and a quotient of float32 are off by, relatively."""


def adjusted(weights: Tensor) -> Decision:
    """Offsets -log of each class's mean weight (Y,) in training, that of background 0 (Menon et al., ICLR 2021).

    Exact for class weights, an approximation for maps; it lowers Dice where the target is faint. A class that was
    absent in training (NaN) is treated like background.
    """
    present = weights > 0
    reference = weights[0] if present[0] else weights[present].mean()
    offsets = -torch.log(torch.where(present, weights, reference) / reference)
    return Decision("adjusted", tuple(round(float(v), 6) + 0.0 for v in offsets))


def tune_decision(
    source: Source,
    task: Task,
    *,
    cases: Sequence[Case] | None = None,
    progress: Tell | None = None,
) -> Decision:
    """Offsets with the best mean foreground Dice of a source of the task on its training cases, or on the given ones.

    Raises:
        ValueError: if the source has not the task's classes in their order, a case cannot be used, or there is none.
    """
    if tuple(source.classes) != tuple(task.classes):
        raise ValueError(
            f"source {source.name} must have the classes of task {task.name} in their order, {list(task.classes)}, to have "
            f"its decision tuned; got {list(source.classes)}"
        )
    used = task.split("train") if cases is None else cases
    return tuned(Predictions(source, task, used, progress=progress, every_slice=True))


def tuned(predictions: Predictions) -> Decision:
    """Offsets with the best mean foreground Dice over the cases, by coordinate search over `STEPS`, background 0.

    One pass over the cases for each coordinate: the margin at which a voxel falls to class k, as a histogram by label
    and by the class that it falls from, tells the Dice of every step at once.

    Raises:
        ValueError: if a case cannot be used, or there is none.
    """
    classes = len(predictions.task.classes)
    offsets = np.zeros(classes)
    best = -np.inf
    for _ in range(ROUNDS):
        before = offsets.copy()
        for k in range(1, classes):
            scores = _scores(predictions, offsets, k)
            scores[np.isnan(scores)] = 0  # all empty: no reason to move
            now = int(np.flatnonzero(offsets[k] == STEPS)[0])
            choice = int(np.lexsort((np.abs(STEPS), -scores))[0])  # of equal ones the smallest
            if scores[choice] > max(scores[now], best) + 1e-12:
                offsets[k] = STEPS[choice]
                best = float(scores[choice])
            else:
                best = max(best, float(scores[now]))
        if (before == offsets).all():
            break
    return Decision("tuned", tuple(float(v) for v in offsets))


def _scores(predictions: Predictions, offsets: NDArray[Any], k: int) -> NDArray[Any]:
    """Mean Dice over cases and foreground classes at each step of class k's offset, (steps,)."""
    rows = [_case_scores(theta[0], labels[0], offsets, k) for _, theta, labels in predictions]
    if predictions.failed or not rows:
        raise ValueError(predictions.nothing)
    return mean_known(np.stack(rows))


def _case_scores(theta: Tensor, labels: Tensor, offsets: NDArray[Any], k: int) -> NDArray[Any]:
    """Mean foreground Dice of one case at each step; probabilities (Y, n), labels (n,)."""
    classes = len(theta)
    shift = torch.from_numpy(np.exp(offsets.astype(np.float32)))[:, None]
    shifted = theta * shift
    shifted[k] = -1
    rest, winner = shifted.max(0)
    taken = _not_reaching(theta[k], rest, k < winner)
    cell = (winner * classes + labels) * (len(STEPS) + 1) + taken
    counts = torch.bincount(cell, minlength=classes * classes * (len(STEPS) + 1))
    table = counts.reshape(classes, classes, -1).numpy().astype(np.float64)
    stays = np.cumsum(table[..., ::-1], -1)[..., ::-1][
        ..., 1:
    ]  # (winner, label, step): kept by the winner
    goes = table.sum(-1, keepdims=True) - stays
    predicted = stays.copy()
    predicted[k] = goes.sum(0)
    labelled = table.sum((0, 2))
    scores = [
        dice(predicted[c, c], predicted[c].sum(0), np.full(len(STEPS), labelled[c]))
        for c in range(1, classes)
    ]
    return mean_known(np.stack(scores))


def _not_reaching(own: Tensor, rest: Tensor, first: Tensor) -> Tensor:
    """How many of the steps leave a voxel of probability `own` below `rest`, or level with it and not `first`, (n,).

    The quotient tells, but where its rounding matters: there the product of the decision itself does.
    """
    steps = torch.from_numpy(np.exp(STEPS.astype(np.float32)))
    quotient = torch.where(own > 0, rest / own, torch.inf)
    count = torch.bucketize(quotient * (1 - ROUNDING), steps)
    close = (count != torch.bucketize(quotient * (1 + ROUNDING), steps)).nonzero()[:, 0]
    value = own[close] * steps[count[close]]
    reached = (value > rest[close]) | ((value == rest[close]) & first[close])
    count[close] += ~reached
    return count
