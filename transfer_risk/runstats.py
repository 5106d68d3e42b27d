"""Every number of finished runs about one case: measures of the segmentation and statistics of the maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from transfer_risk.evaluation import Measure
from transfer_risk.mapstats import distance_to_boundary, map_statistics
from transfer_risk.quantities import MEASURES
from transfer_risk.riskmap import Span
from transfer_risk.runs import Run
from transfer_risk.runtables import Stage
from transfer_risk.tasks import Case

Cell = tuple[str, Stage, str]  # run, stage, quantity
PREDICTED = ("hd95", "precision")
"""Measures that a class has only where it is predicted."""


def check_maps(run: Run) -> None:
    """Raise ValueError where a map or prediction that `case_values` reads is missing or damaged, naming the first."""
    _ = run.span
    for case in run.cases if "before" in run.stages else ():
        run.prediction("before", case)


def case_values(
    runs: Sequence[Run], case: Case, span: Span, base: float
) -> Iterator[tuple[Cell, float]]:
    """Every number of one case, always in the same order."""
    task = runs[0].task
    volume = runs[0].volume(case)
    labels = volume.labels
    assert labels is not None
    target = distance_to_boundary(labels, volume.spacing)
    for run in runs:
        own = None
        if "before" in run.stages:
            own = distance_to_boundary(run.prediction("before", case), volume.spacing)
        measures = _measures(run, case.id)
        for stage in run.stages:
            values = run.transferability(stage, case)
            if values.shape != labels.shape:
                raise ValueError(
                    f"{run.path}: the map of {case.id} is {values.shape}, its label {labels.shape}; the data has "
                    "changed since the run, fine-tune again"
                )
            statistics = map_statistics(
                values,
                labels,
                span=span,
                spacing=volume.spacing,
                classes=task.classes,
                distances={"source": own, "target": target},
                base=base,
            )
            for name, value in (measures[stage] | statistics).items():
                yield (run.name, stage, name), value


def _measures(run: Run, case: str) -> dict[Stage, dict[str, float]]:
    """Each measure's mean over the foreground classes that are known, and by class where there are several, by stage.

    Where a stage does not predict a class, its HD95 and precision are unknown there: their means are over the classes that
    have them at every stage, as far as there are any. Before training a mean is unknown where the source lacks a class: it
    would be over other classes than after.
    """
    own = {s: {m.name: m for m in run.measures[s] if m.case == case} for s in run.stages}
    names = run.task.classes[1:]
    result: dict[Stage, dict[str, float]] = {stage: {} for stage in run.stages}
    for measure in MEASURES:
        values = {s: {n: _of(own[s], n, measure) for n in names} for s in run.stages}
        both = [n for n in names if not any(math.isnan(v[n]) for v in values.values())]
        shared = both if measure in PREDICTED and not run.lacking else []
        for stage, by_class in values.items():
            known = [by_class[n] for n in shared or names if not math.isnan(by_class[n])]
            whole = known and not (stage == "before" and run.lacking)
            result[stage][measure] = sum(known) / len(known) if whole else math.nan
            if len(names) > 1:
                result[stage] |= {f"{measure}[{name}]": v for name, v in by_class.items()}
    return result


def _of(measures: Mapping[str, Measure], name: str, measure: str) -> float:
    """A measure of one class; NaN where it was not taken."""
    return float(getattr(measures[name], measure)) if name in measures else math.nan
