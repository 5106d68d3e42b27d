"""Pairs of source and target on the embedded cohort, ready for studies: data, task files and pretrained sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transfer_risk.adapters import save_source
from transfer_risk.layouts import load_task, write_tasks
from transfer_risk.phantom import load_template, write_source_and_target
from transfer_risk.tasks import Task
from transfer_risk.training import pretrain

PAIRS = {
    "tissue": (
        ("csf-t1", "gm-t1"),
        ("gm-t1", "wm-t1"),
        ("wm-t1", "csf-t1"),
        ("csf-t2", "gm-t2"),
        ("gm-t1", "gm-t2"),
        ("wm-t2", "wm-t1"),
    ),
    "tumour": (
        ("t1", "t2"),
        ("t1", "flair"),
        ("t2", "t1"),
        ("t2", "flair"),
        ("flair", "t1"),
        ("flair", "t2"),
    ),
}
"""Six pairs (source, target) of tasks by anatomy, for `cohort_task`."""


def prepare_cohorts(
    folder: str | Path,
    sources: Sequence[str],
    *,
    anatomy: str,
    seed: int,
    spacing: float = 3.0,
    cases: int = 10,
    iterations: int = 400,
) -> None:
    """Write source and target cohort, their tasks, and `sources/<name>` for each source; what is there is kept.

    The sources are U-Nets of width 8 and depth 4.

    Args:
        folder: Where it all goes.
        sources: Names of source tasks, see `cohort_task`.
        anatomy: `tissue` or `tumour`.
        seed: Of subjects (100 apart, so that studies with different seeds share none) and of weights.
        spacing: Voxel size in mm.
        cases: Subjects of each cohort.
        iterations: Of pretraining.
    """
    place = Path(folder)
    write_source_and_target(
        place,
        anatomy=anatomy,
        cases=cases,
        seed=100 * (seed + 1),
        template=load_template(spacing=spacing),
    )
    write_tasks(place, place / "tasks", binary=anatomy == "tissue")
    for name in sources:
        if not (place / "sources" / name / "source.toml").exists():
            task = cohort_task(place, "source", name)
            made = pretrain(task, width=8, depth=4, iterations=iterations, seed=seed)
            save_source(made, place / "sources" / name)


def cohort_task(folder: str | Path, role: str, name: str) -> Task:
    """Task of the `source` or `target` cohort: `gm-t1` is grey matter on T1, `t1` all tumour classes on T1.

    Raises:
        ValueError: if there is no such task.
    """
    tasks = Path(folder) / "tasks"
    if (tasks / f"{role}-{name}.toml").exists():
        return load_task(tasks / f"{role}-{name}.toml")
    whole = load_task(tasks / f"{role}.toml")
    return replace(whole.on_channels(name.upper()), name=f"{role}-{name}")
