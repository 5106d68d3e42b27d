"""Every number of finished runs about one case: measures of the segmentation and statistics of the maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from transfer_risk.evaluation import Measure
from transfer_risk.mapstats import distance_to_boundary, map_statistics
from transfer_risk.quantities import MEASURES
from transfer_risk.riskmap import Span
from transfer_risk.runs import Run
from transfer_risk.runtables import Stage
from transfer_risk.tasks import Case

Cell = tuple[str, Stage, str]  # run, stage, quantity


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
            for name, value in (_measures(run, stage, case.id) | statistics).items():
                yield (run.name, stage, name), value


def _measures(run: Run, stage: Stage, case: str) -> dict[str, float]:
    """Each measure's mean over the foreground classes that are known, and by class where there are several.

    Before training the mean is unknown where the source lacks a class: it would be over other classes than after.
    """
    own = [m for m in run.measures[stage] if m.case == case]
    several = len(run.task.classes) > 2
    result = {}
    for measure in MEASURES:
        by_class = {name: _of(own, name, measure) for name in run.task.classes[1:]}
        known = [v for v in by_class.values() if not math.isnan(v)]
        whole = known and not (stage == "before" and run.lacking)
        result[measure] = sum(known) / len(known) if whole else math.nan
        if several:
            result |= {f"{measure}[{name}]": value for name, value in by_class.items()}
    return result


def _of(measures: Sequence[Measure], name: str, measure: str) -> float:
    """A measure of one class; NaN where it was not taken."""
    return next((float(getattr(m, measure)) for m in measures if m.name == name), math.nan)
