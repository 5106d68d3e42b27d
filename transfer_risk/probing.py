"""The score `probe_dice`: what a linear classifier on a source's last features reaches on cases it was not fitted to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.collecting import collect
from transfer_risk.intervals import LOGARITHM, SHARE, Estimate
from transfer_risk.overlaps import overlap_dice, overlaps
from transfer_risk.prediction import at_once
from transfer_risk.probes import features_of, fitted, pixels_of, probed_layer
from transfer_risk.samples import Samples
from transfer_risk.scoring import Score
from transfer_risk.sources import Source, evaluating, out_of_memory
from transfer_risk.tables import mean_known
from transfer_risk.tasks import Case, Task


@dataclass(frozen=True, eq=False)
class ProbeScores:
    """Values by case, in the order of the cases; NaN where unknown.

    Args:
        dice: Mean over the foreground classes that the case or its prediction has, (n,).
        log_likelihood: Mean log-probability of the labels in nats, (n,): tells sources of equal Dice apart.
    """

    dice: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]


def probed(score: Score, source: Source, task: Task) -> Score:
    """The score with `probe_dice` and `probe_log_likelihood` on its cases; unknown, with a warning, where not possible."""
    start = time.perf_counter()
    cases = [c for c in task.cases if c.id in score.cases]
    try:
        found = probe_scores(source, task, cases)
        warnings = score.warnings
    except (ValueError, OSError, RuntimeError, MemoryError) as error:  # OSError: a full disk
        if out_of_memory(error):
            why = "its features need more memory than there is"
        elif isinstance(error, ValueError | OSError):
            why = str(getattr(error, "strerror", None) or error)
        else:
            raise
        unknown = np.full(len(cases), np.nan)
        found, warnings = ProbeScores(unknown, unknown), (*score.warnings, f"no probe: {why}")
    values = {"probe_dice": found.dice, "probe_log_likelihood": found.log_likelihood}
    rows = tuple(
        (case.id, name, "", float(value))
        for name, numbers in values.items()
        for case, value in zip(cases, numbers, strict=True)
    )
    return replace(
        score,
        estimates=score.estimates
        | {
            name: Estimate.mean(
                v,
                bounds=SHARE if name == "probe_dice" else LOGARITHM,
                groups=[c.unit for c in cases],
            )
            for name, v in values.items()
        },
        per_case=score.per_case + rows,
        seconds=score.seconds + time.perf_counter() - start,
        warnings=warnings,
    )


def layer_to_probe(source: Source) -> Any:
    """The last layer of a source's network, whose inputs are classified.

    Raises:
        ValueError: if the source has no network, or no 1x1 convolution as last layer.
    """
    if source.stored is not None:
        raise ValueError(f"source {source.name} has no network to probe")
    return probed_layer(source)


def probe_scores(source: Source, task: Task, cases: Sequence[Case]) -> ProbeScores:
    """The probe of `--head probe`, without recalibration, fitted on half of the cases and measured on the other, both ways.

    No group of cases (patient) is divided between the halves.

    Measured on the grid that the network sees, over the slices that count; a source that sees a part of an image at once
    is measured on all its parts, side by side.

    Raises:
        ValueError: if there are fewer than two groups, or the source has no network or no 1x1 convolution as last layer.
    """
    layer = layer_to_probe(source)
    by_id = sorted(range(len(cases)), key=lambda k: cases[k].id)
    groups = list(dict.fromkeys(cases[k].unit for k in by_id))
    if len(groups) < 2:
        what = "cases" if len(cases) < 2 else "groups of cases"
        raise ValueError(f"probe_dice needs at least 2 {what}; got {len(groups)}")
    rng = np.random.default_rng([0, 4])
    first = {groups[k] for k in rng.permutation(len(groups))[::2]}
    halves = [[k for k in by_id if (cases[k].unit in first) == w] for w in (True, False)]
    samples = [collect(source, [cases[k] for k in half], task, mapped=False) for half in halves]
    values = np.full((2, len(cases)), np.nan)
    classes = len(task.classes)
    for own, other in ((0, 1), (1, 0)):
        with evaluating(source.network):
            pixels = pixels_of(source, samples[own], layer, rng)
            weight, bias = fitted(pixels, classes, torch.ones(classes))
            measured = _measured(source, samples[other], layer, weight, bias)
        ids = [cases[k].id for k in halves[other]]
        for id_, pair in zip(samples[other].ids, measured.T, strict=True):
            values[:, halves[other][ids.index(id_)]] = pair
    return ProbeScores(values[0], values[1])


def _measured(
    source: Source, samples: Samples, layer: Any, weight: torch.Tensor, bias: torch.Tensor
) -> NDArray[np.float64]:
    """Dice and log-likelihood of each case of the samples under a linear classifier, (2, n)."""
    counts = np.zeros((len(samples.ids), len(bias), 3))
    likelihood = np.zeros(len(counts))
    for batch in samples.covering(at_once(len(samples.patch))):
        features = features_of(source, layer, batch)
        logs = (features @ weight.T + bias).log_softmax(-1)
        for row, labels, case in zip(logs, batch.labels, batch.cases.tolist(), strict=True):
            valid = labels >= 0
            target = labels[valid]
            likelihood[case] += float(row[valid].gather(-1, target[:, None]).sum())
            counts[case] += overlaps(row[valid].argmax(-1), target, len(bias))
    means = mean_known(overlap_dice(counts)[:, 1:].T)
    pixels = counts[..., 2].sum(1)
    return np.stack([means, likelihood / np.where(pixels > 0, pixels, np.nan)])
