"""Risk maps of whole cases: in memory, or written as NIfTI in each image's own geometry."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from transfer_risk.callbacks import Tell
from transfer_risk.evaluation import Segmented
from transfer_risk.imagefiles import NOTE, as_stored, grid_of, note_of, write
from transfer_risk.outfolders import check_apart, check_replaceable, check_results
from transfer_risk.passes import CACHE, Predictions
from transfer_risk.riskmap import RiskMap, Span, check_base
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transfermaps import transferability_maps, waiting_maps

JOINT = "joint"  # in the header of every map
COARSEST = 0.01
"""Largest step of a risk map in whole numbers."""


def risk_maps(
    source: Source,
    task: Task,
    *,
    cases: Sequence[Case] | None = None,
    span: Span | None = None,
    base: float = 10.0,
    in_sample: bool = False,
) -> dict[str, RiskMap]:
    """Risk maps of the test cases (or the given ones) on one span, by case id; T (1, X, Y, Z) float32.

    Each case is mapped with the smoothed joint of the other cases; a single case with its own joint. The map of a case
    without a voxel that counts is NaN. All maps are held in memory: `write_maps` is for many cases.

    Args:
        source: The model.
        task: Its test cases are mapped where none are given.
        cases: Instead of these.
        span: Scale; where not given that of all maps.
        base: R = base ** H.
        in_sample: One joint of all mapped cases, their own labels included, as fine-tuning weighs its training cases.
            Give `cases=task.split("train")`: weights made from test labels would leak.

    Raises:
        ValueError: if base is not from 1 to 1e6, channels or dimensions do not fit, or a case cannot be used.
    """
    check_base(base)
    used = task.split("test") if cases is None else cases
    predictions = Predictions(source, task, used)
    maps = {case.id: values for case, values in transferability_maps(predictions, in_sample)}
    if predictions.failed:
        raise ValueError("; ".join(predictions.failed.values()))
    common = span or reduce(or_, (Span.of(values) for values in maps.values()))
    return {case.id: RiskMap(maps[case.id], common, base) for case in used}


def write_maps(
    source: Source,
    task: Task,
    out: str | Path,
    *,
    cases: Sequence[Case] | None = None,
    only: Collection[str] | None = None,
    hardness: bool = False,
    base: float = 10.0,
    clip: float = 0.0,
    in_sample: bool = False,
    cache: int = CACHE,
    progress: Tell | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """Write `<case>_risk.nii.gz` and `<case>_transferability.nii.gz`; the paths and the cases that failed.

    Risk is int16 with a step of base / 30000 (float32 for a base above 300; 0 = ignored, else at least 1),
    transferability float32 nats (NaN = ignored), both on the image's own grid, in the shape in which it is stored, and on
    one span over all cases. An older hardness map goes where none is written. One case at a time is in memory.
    `in_sample` is that of `risk_maps`; the files' headers say which joint they were made with. `only` names the cases
    whose maps are written; joint and span are those of all cases.

    Raises:
        ValueError: if base is not from 1 to 1e6, channels or dimensions do not fit, or no case can be used; or, before
            anything is predicted, if the folder holds data of the task or lies in a run folder, or if a file that is no map
            would be written over.
        OSError: likewise, if the folder cannot be written.
    """
    names = ["risk", "transferability", *(["hardness"] if hardness else [])]
    used = [c.id for c in (task.split("test") if cases is None else cases)]
    goals = [
        Path(out) / f"{i}_{n}.nii.gz" for i in used if only is None or i in only for n in names
    ]
    check_results(out)
    check_apart(out, _data_files(task), f"task {task.name}")
    check_replaceable(goals, lambda note: JOINT in note, "map")
    stages = {Path(out): source}
    return write_stages(
        stages,
        task,
        cases=cases,
        only=only,
        hardness=hardness,
        base=base,
        clip=clip,
        in_sample=in_sample,
        cache=cache,
        progress=progress,
    )


def write_stages(
    stages: Mapping[Path, Source],
    task: Task,
    *,
    cases: Sequence[Case] | None = None,
    only: Collection[str] | None = None,
    hardness: bool = False,
    base: float = 10.0,
    clip: float = 0.0,
    in_sample: bool = False,
    cache: int = CACHE,
    progress: Tell | None = None,
    seen: Callable[[Path, Segmented], None] | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """As `write_maps`, of several sources by folder, on one span over all sources and cases.

    A case that one of them cannot predict is left out of all. `seen` is called once for each folder and case, with what
    the source makes of all slices: of the same forward pass.
    """
    check_base(base)
    used = list(task.split("test") if cases is None else cases)
    passes = (
        Predictions(source, task, used, cache, progress, seen=seen and partial(seen, folder))
        for folder, source in stages.items()
    )
    paths: list[Path] = []
    with waiting_maps(passes, only=only, clip=clip, in_sample=in_sample) as waiting:
        for number, (folder, source) in enumerate(stages.items()):
            joint = _joint_note(waiting.joined[number], waiting.in_sample[number])
            note = _note(source.name, joint)
            for case in used:
                if case.id in waiting.failed or not (only is None or case.id in only):
                    continue
                values = waiting.transferability(number, case)
                layers = _layers(RiskMap(values, waiting.span, base), hardness)
                paths += _written(layers, folder, case, note)
    return paths, waiting.failed


def _data_files(task: Task) -> Iterator[str]:
    """Images and labels of all cases."""
    for case in task.cases:
        yield from case.images
        if case.label:
            yield case.label


def _note(name: str, joint: str) -> str:
    """Header description: the joint is what a map is known by, so a long name is cut and not the joint."""
    end = f": {joint}"
    return name.encode()[: NOTE - len(end)].decode(errors="ignore") + end


def _joint_note(cases: int, in_sample: bool) -> str:
    if cases == 1:
        return f"in-sample {JOINT} (one case)"
    return f"in-sample {JOINT} of {cases} cases" if in_sample else f"{JOINT} of the other cases"


def _written(
    layers: dict[str, tuple[Any, float | None]], folder: Path, case: Case, note: str
) -> Iterator[Path]:
    """Write the maps of one case; their paths."""
    _, affine = grid_of(case.images[0])
    for name, (data, step) in layers.items():
        path = folder / f"{case.id}_{name}.nii.gz"
        write(path, as_stored(data, case.images[0]), affine, note=note, scaled=step)
        yield path
    old = folder / f"{case.id}_hardness.nii.gz"
    if "hardness" not in layers and JOINT in note_of(old):
        old.unlink()


def _layers(risk_map: RiskMap, hardness: bool) -> dict[str, tuple[Any, float | None]]:
    """Array (X, Y, Z) and integer step of each map that is written; no step where it would be coarse."""
    step = risk_map.base / 30_000
    risk = risk_map.risk[0].numpy()
    lifted = np.where(
        risk > 0, np.maximum(risk, step * math.ceil(1 / step)), 0
    )  # never below 1 by rounding
    coarse = step > COARSEST
    layers: dict[str, tuple[Any, float | None]] = {
        "risk": (risk.astype(np.float32), None) if coarse else (lifted, step),
        "transferability": (risk_map.transferability[0].numpy(), None),
    }
    return layers | ({"hardness": (risk_map.hardness[0].numpy(), None)} if hardness else {})


def lone_note(cases: Sequence[Case]) -> str:
    """What a reader should know of maps of these cases where no other patient's joint can be had; empty otherwise."""
    if len({c.unit for c in cases}) > 1:
        return ""
    return (
        f"{', '.join(c.id for c in cases)}: there is no other patient: the maps are in-sample, made with the joint of their "
        "own labels, and show less risk than those of new cases; map other patients too, where there are some (--split all)"
    )


def leak_note(task: Task, cases: Sequence[Case]) -> str:
    """What a reader should know of in-sample maps of these cases: which are test cases; empty where none is."""
    leaks = [c.id for c in cases if c.id in task.test]
    if not leaks:
        return ""
    return (
        f"in-sample maps of the test cases {', '.join(leaks)}: weights made from test labels leak; "
        "give --split train"
    )
