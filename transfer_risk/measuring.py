"""What a run folder holds of its test cases: measures, predictions and maps of the models before and after training."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from transfer_risk.evaluation import Measure, measured, segmented
from transfer_risk.imagefiles import as_stored, write
from transfer_risk.mapping import write_stages
from transfer_risk.recipes import Recipe
from transfer_risk.runfolder import RunFolder
from transfer_risk.runtables import Stage
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task


def stages_of(source: Source, student: Source, recipe: Recipe) -> dict[Stage, Source]:
    """The models that are measured; random weights say nothing before training."""
    if recipe.init == "source":
        return {"before": source, "after": student}
    return {"after": student}


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
    tell: Callable[[str], None] | None,
) -> None:
    """Write metrics, predictions and maps of the test cases at each stage."""
    rows = {stage: _evaluate(folder.path, stage, s, task, tell) for stage, s in stages.items()}
    folder.write_metrics(rows)
    maps = {folder.path / "maps" / stage: s for stage, s in stages.items()}
    _, failed = write_stages(maps, task, base=recipe.base, progress=tell)
    if failed:
        raise ValueError("; ".join(failed.values()))


def _evaluate(
    path: Path, stage: Stage, source: Source, task: Task, tell: Callable[[str], None] | None
) -> list[Measure]:
    """Measures of the test cases; the predictions are written beside the maps.

    Those of classes that the source does not have are unknown.
    """
    found: list[Measure] = []
    cases: tuple[Case, ...] = task.split("test")
    for case, volume, predicted in segmented(source, task, cases, progress=tell):
        goal = path / "maps" / stage / f"{case.id}_prediction.nii.gz"
        stored = as_stored(predicted.astype(np.uint8), case.images[0])
        write(goal, stored, volume.affine, note=f"{source.name}: classes")
        found += measured(source, task, case, volume, predicted)
    return found
