"""Pairs of source and target, ready for studies: cohorts of pseudo-subjects or real data, task files, pretrained sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transfer_risk.adapters import load_source, save_source
from transfer_risk.callbacks import Tell
from transfer_risk.layouts import load_task, write_tasks
from transfer_risk.phantom import (
    load_template,
    template_from_t1,
    write_source_and_target,
    write_tumour_cohort,
)
from transfer_risk.pretraining import pretrain
from transfer_risk.sources import Source
from transfer_risk.tasks import Task

PARTITIONS = (13, 14, 17, 18)
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
    "partitions": (
        ("13-t1", "17-t2"),
        ("14-t1", "14-t2"),
        ("14-flair", "18-flair"),
        ("17-t2", "13-t1"),
        ("18-flair", "14-t1"),
        ("14-t2", "14-flair"),
    ),
}
"""Six pairs (source, target) of tasks by anatomy, for `cohort_task`."""


TISSUE_TASKS = ("csf-t1", "csf-t2", "gm-t1", "gm-t2", "wm-t1", "wm-t2")
"""The paper's six tasks on iSeg-2019 (Table I)."""
PARTITION_TASKS = ("13-t1", "14-t1", "14-t2", "14-flair", "17-t2", "18-flair")
"""The paper's six tasks on FeTS 2021 (Table II): institution and modality."""
TASKS = {"tissue": TISSUE_TASKS, "partitions": PARTITION_TASKS}
"""Both, by anatomy."""


def write_cohorts(
    folder: str | Path,
    *,
    anatomy: str,
    seed: int,
    spacing: float = 3.0,
    cases: int = 10,
    t1: str | Path | None = None,
    data: str | Path | None = None,
    partitions: str | Path | None = None,
    allow_missing: bool = False,
    note: Tell | None = None,
) -> None:
    """Write the cohorts of one anatomy and their tasks; what is there is kept.

    Args:
        folder: Where it all goes.
        anatomy: `tissue` or `tumour` (a source and a target cohort, which share neither subjects nor scanner), or
            `partitions` (institutions 13, 14, 17 and 18 with tumours; the tasks of one share its subjects).
        seed: Of subjects; 100 apart, so that studies with different seeds share none.
        spacing: Voxel size in mm.
        cases: Subjects of each cohort.
        t1: Skull-stripped T1 of a brain to deform instead of the embedded one.
        data: Folder of iSeg-2019 or FeTS: nothing is simulated, its tasks are source and target alike.
        partitions: Partitioning csv of FeTS.
        allow_missing: Go on with the complete cases of `data`.
        note: Called with a sentence for each case of `data` that is left out.

    Raises:
        ValueError: if `data` is incomplete or has another layout.
    """
    place = Path(folder)
    if data is not None:
        write_tasks(
            data,
            place / "tasks",
            partitions=partitions,
            allow_missing=allow_missing,
            note=note,
        )
        return
    template = template_from_t1(t1, spacing=spacing) if t1 else load_template(spacing=spacing)
    first = 100 * (seed + 1)
    if anatomy == "partitions":
        for k in PARTITIONS:
            if not (place / f"Dataset{k:03d}_Partition{k}").exists():
                write_tumour_cohort(
                    place,
                    cases=cases,
                    seed=first + k,
                    template=template,
                    institution=k,
                    name=f"Dataset{k:03d}_Partition{k}",
                    prefix=f"partition{k}",
                )
    else:
        write_source_and_target(place, anatomy=anatomy, cases=cases, seed=first, template=template)
    write_tasks(place, place / "tasks", binary=anatomy == "tissue")


def pretrain_source(
    folder: str | Path, name: str, *, seed: int, iterations: int, width: int = 8, depth: int = 4
) -> tuple[Source, Task]:
    """The source `sources/<name>` of a folder of cohorts, trained where it is not there yet, and its own task."""
    task, path = cohort_task(folder, "source", name), _source_path(folder, name)
    if not (path / "source.toml").exists():
        made = pretrain(task, width=width, depth=depth, iterations=iterations, seed=seed)
        save_source(made, path)
    return replace(load_source(path), name=name), task


def cohort_source(folder: str | Path, name: str) -> Source:
    """The source that was pretrained on the task `name` of a folder of cohorts."""
    return load_source(_source_path(folder, name))


def cohort_task(folder: str | Path, role: str, name: str) -> Task:
    """Task of the `source` or `target` cohort: `gm-t1` is grey matter on T1, `t1` all tumour classes on T1.

    `14-t2` is all tumour classes on T2 of institution 14, source and target alike; so are tasks of real data.

    Raises:
        ValueError: if there is no such task.
    """
    tasks = Path(folder) / "tasks"
    for own in (f"{role}-{name}", name):
        if (tasks / f"{own}.toml").exists():
            return load_task(tasks / f"{own}.toml")
    number, _, channel = name.rpartition("-")
    path = tasks / (f"partition{number}.toml" if number else f"{role}.toml")
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in tasks.glob("*.toml"))) or "none"
        raise ValueError(f"{tasks}: must hold a task {name} or {role}-{name}; it holds {there}")
    whole = load_task(path)
    return replace(whole.on_channels(channel.upper()), name=name if number else f"{role}-{name}")


def _source_path(folder: str | Path, name: str) -> Path:
    return Path(folder) / "sources" / name
