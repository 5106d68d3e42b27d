"""What fine-tuning does to the map, without a run folder: a source's maps beside those of models made from it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_risk.classes import matched_classes
from transfer_risk.comparison import Change
from transfer_risk.evaluation import Segmented, mean_dice, measures
from transfer_risk.mapstats import distance_to_boundary, map_statistics
from transfer_risk.passes import Predictions
from transfer_risk.riskmap import Span
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transfermaps import waiting_maps


def map_changes(
    source: Source,
    task: Task,
    students: Mapping[str, Source],
    *,
    base: float = 10.0,
) -> list[Change]:
    """Every quantity of the maps before (source) and after (each student), as `compare` has it of finished runs.

    All maps are on one span, each test case on the joint of the others; each model predicts a case once, and one case at a
    time is in memory. Quantities are those of `mapstats.map_statistics`, where the boundary `source` is that of the
    source's own prediction, and `dice`, mean over the foreground classes, unknown where a model does not have all of the
    task's.

    Args:
        source: What the students were fine-tuned from.
        task: Target.
        students: Fine-tuned models by name.
        base: R = base ** H, for the risk mass.

    Raises:
        ValueError: if no student is given, or a case cannot be used.
    """
    if not students:
        raise ValueError("students must name at least one fine-tuned model; got none")
    models = [source, *students.values()]
    used = list(task.split("test"))
    dice: list[dict[str, float]] = [{} for _ in models]
    rows: list[list[dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as scratch:

        def seen(number: int, found: Segmented) -> None:
            dice[number][found.case.id] = _dice(models[number], task, found)
            if not number:
                _keep(Path(scratch), found)

        passes = (
            Predictions(model, task, used, seen=partial(seen, number))
            for number, model in enumerate(models)
        )
        with waiting_maps(passes) as waiting:
            if waiting.failed:
                raise ValueError("; ".join(waiting.failed.values()))
            for case in used:
                statistics = _statistics(_kept(Path(scratch), case), task, waiting.span, base)
                maps = (waiting.transferability(k, case) for k in range(len(models)))
                own = [statistics(values[0].numpy()) for values in maps]
                rows.append([{"dice": d[case.id]} | s for d, s in zip(dice, own, strict=True)])
    groups = [case.unit for case in used]
    before, *after = ([row[k] for row in rows] for k in range(len(models)))
    return [
        _change(name, quantity, before, own, groups)
        for name, own in zip(students, after, strict=True)
        for quantity in own[0]
    ]


def _dice(model: Source, task: Task, found: Segmented) -> float:
    if len(matched_classes(model.classes, task.classes)) < len(task.classes) - 1:
        return math.nan
    return mean_dice(list(measures(task.classes, found, distances=False))).value


def _keep(folder: Path, found: Segmented) -> None:
    """Write what the source makes of a case to a file, until the span of all maps is known."""
    path = folder / f"{found.case.id}.npz"
    np.savez(path, labels=found.labels, predicted=found.predicted, affine=found.affine)


def _kept(folder: Path, case: Case) -> Segmented:
    with np.load(folder / f"{case.id}.npz") as arrays:
        return Segmented(case, **arrays)


def _statistics(
    found: Segmented, task: Task, span: Span, base: float
) -> Callable[[NDArray[Any]], dict[str, float]]:
    """`map_statistics` of any map (X, Y, Z) of a case, of which `found` is what the source makes."""
    distances = {
        "source": distance_to_boundary(found.predicted, found.spacing),
        "target": distance_to_boundary(found.labels, found.spacing),
    }
    return partial(
        map_statistics,
        labels=found.labels,
        span=span,
        spacing=found.spacing,
        classes=task.classes,
        distances=distances,
        base=base,
    )


def _change(
    name: str,
    quantity: str,
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
    groups: Sequence[str],
) -> Change:
    first, last = (np.array([row[quantity] for row in rows]) for rows in (before, after))
    return Change.of(name, quantity, first, last, groups)
