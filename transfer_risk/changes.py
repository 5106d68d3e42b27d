"""What fine-tuning does to the map, without a run folder: a source's maps beside those of models made from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

import numpy as np
from torch import Tensor

from transfer_risk.classes import matched_classes
from transfer_risk.comparison import Change
from transfer_risk.evaluation import mean_dice, measures, segmented
from transfer_risk.mapping import transferability_maps
from transfer_risk.mapstats import distance_to_boundary, map_statistics
from transfer_risk.passes import Predictions
from transfer_risk.riskmap import Span
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task


def map_changes(
    source: Source,
    task: Task,
    students: Mapping[str, Source],
    *,
    cases: Sequence[Case] | None = None,
    base: float = 10.0,
) -> list[Change]:
    """Every quantity of the maps before (source) and after (each student), as `compare` has it of finished runs.

    All maps are on one span, each case on the joint of the others; one case at a time is in memory. Quantities are those
    of `mapstats.map_statistics`, where the boundary `source` is that of the source's own prediction, and `dice`, mean over
    the foreground classes, unknown where a model does not have all of the task's.

    Args:
        source: What the students were fine-tuned from.
        task: Target.
        students: Fine-tuned models by name.
        cases: Instead of the test cases.
        base: R = base ** H, for the risk mass.

    Raises:
        ValueError: if no student is given, or a case cannot be used.
    """
    if not students:
        raise ValueError("students must name at least one fine-tuned model; got none")
    models = [source, *students.values()]
    used = list(task.split("test") if cases is None else cases)
    passes = [Predictions(model, task, used) for model in models]
    spans = [Span.of(values) for p in passes for _, values in transferability_maps(p)]
    if failed := {case: why for p in passes for case, why in p.failed.items()}:
        raise ValueError("; ".join(failed.values()))
    span = reduce(or_, spans)
    rows: list[list[dict[str, float]]] = []
    for maps in zip(*(transferability_maps(p) for p in passes), strict=True):
        values = [v for _, v in maps]
        rows.append(_case_rows(models, values, task, maps[0][0], span=span, base=base))
    before, *after = ([row[k] for row in rows] for k in range(len(models)))
    return [
        _change(name, quantity, before, own)
        for name, own in zip(students, after, strict=True)
        for quantity in own[0]
    ]


def _case_rows(
    models: Sequence[Source],
    maps: Sequence[Tensor],
    task: Task,
    case: Case,
    *,
    span: Span,
    base: float,
) -> list[dict[str, float]]:
    """All numbers of one case by model, the source first; maps (1, X, Y, Z)."""
    rows: list[dict[str, float]] = []
    distances = {}
    for model, values in zip(models, maps, strict=True):
        _, volume, predicted = next(segmented(model, task, [case]))
        assert volume.labels is not None
        if not rows:
            distances["source"] = distance_to_boundary(predicted, volume.spacing)
            distances["target"] = distance_to_boundary(volume.labels, volume.spacing)
        dice = math.nan
        if len(matched_classes(model.classes, task.classes)) == len(task.classes) - 1:
            found = measures(case.id, task.classes, volume, predicted, distances=False)
            dice = mean_dice(list(found)).value
        statistics = map_statistics(
            values[0].numpy(),
            volume.labels,
            span=span,
            spacing=volume.spacing,
            classes=task.classes,
            distances=distances,
            base=base,
        )
        rows.append({"dice": dice} | statistics)
    return rows


def _change(
    name: str,
    quantity: str,
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
) -> Change:
    first, last = (np.array([row[quantity] for row in rows]) for rows in (before, after))
    return Change.of(name, quantity, first, last)
