"""What a run folder holds of its test cases: measures, predictions and maps of the models before and after training."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from transfer_risk.callbacks import Tell
from transfer_risk.evaluation import Measure, Segmented, measured
from transfer_risk.imagefiles import as_stored, write
from transfer_risk.mapping import write_stages
from transfer_risk.recipes import Recipe
from transfer_risk.runfolder import RunFolder
from transfer_risk.runtables import Stage, stages_of
from transfer_risk.sources import Source
from transfer_risk.tasks import Task


def models_of(source: Source, student: Source, recipe: Recipe) -> dict[Stage, Source]:
    """The models that are measured, by stage."""
    models: dict[Stage, Source] = {"before": source, "after": student}
    return {stage: models[stage] for stage in stages_of(recipe.init)}


def results_of(path: Path, stages: Collection[Stage], task: Task) -> list[Path]:
    """The files that `measure_run` writes."""
    names = [
        f"{case.id}_{what}.nii.gz"
        for case in task.split("test")
        for what in ("risk", "transferability", "prediction")
    ]
    return [path / "metrics.csv", *(path / "maps" / s / name for s in stages for name in names)]


def measure_run(
    folder: RunFolder,
    stages: dict[Stage, Source],
    task: Task,
    recipe: Recipe,
    tell: Tell | None,
) -> None:
    """Write metrics, predictions and maps of the test cases at each stage, each case predicted once.

    Measures of classes that a source does not have are unknown.
    """
    rows: dict[Stage, list[Measure]] = {stage: [] for stage in stages}
    places = {folder.path / "maps" / stage: stage for stage in stages}

    def measure(place: Path, found: Segmented) -> None:
        stage = places[place]
        goal = place / f"{found.case.id}_prediction.nii.gz"
        # classes that the task does not have come after its own
        kind = np.uint8 if found.predicted.max() <= 255 else np.int16
        stored = as_stored(found.predicted.astype(kind), found.case.images[0])
        write(goal, stored, found.affine, note=f"{stages[stage].name}: classes")
        rows[stage] += measured(stages[stage], task, found)

    sources = {place: stages[stage] for place, stage in places.items()}
    _, failed = write_stages(sources, task, base=recipe.base, progress=tell, seen=measure)
    if failed:
        raise ValueError("; ".join(failed.values()))
    folder.write_metrics(rows)
