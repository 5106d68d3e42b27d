"""Risk maps of whole cases: in memory, or written as NIfTI in each image's own geometry."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from operator import add, or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfer_risk.channels import channel_order
from transfer_risk.imagefiles import as_stored, note_of, write
from transfer_risk.passes import CACHE, Predictions, Progress
from transfer_risk.riskmap import RiskMap, Span, check_base
from transfer_risk.scales import common_span
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transferability import Joint, log_expected_prediction, others_of
from transfer_risk.volumes import read, read_images

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
    progress: Progress | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """Write `<case>_risk.nii.gz` and `<case>_transferability.nii.gz`; the paths and the cases that failed.

    Risk is int16 with a step of base / 30000 (float32 for a base above 300; 0 = ignored, else at least 1),
    transferability float32 nats (NaN = ignored), both on the image's own grid, in the shape in which it is stored, and on
    one span over all cases. An older hardness map goes where none is written. One case at a time is in memory.
    `in_sample` is that of `risk_maps`; the files' headers say which joint they were made with. `only` names the cases
    whose maps are written; joint and span are those of all cases.

    Raises:
        ValueError: if base is not from 1 to 1e6, channels or dimensions do not fit, or no case can be used.
    """
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
    progress: Progress | None = None,
) -> tuple[list[Path], dict[str, str]]:
    """As `write_maps`, of several sources by folder, on one span over all sources and cases.

    A case that one of them cannot predict is left out of all.
    """
    check_base(base)
    used = list(task.split("test") if cases is None else cases)
    wanted = {case.id for case in used} if only is None else set(only)
    failed: dict[str, str] = {}
    spans: dict[tuple[Path, str], Span] = {}
    notes = []
    with (
        tempfile.TemporaryDirectory() as scratch
    ):  # T waits here until the span of all cases is known
        for number, (folder, source) in enumerate(stages.items()):
            predictions = Predictions(source, task, used, cache, progress)
            for case, values in transferability_maps(predictions, in_sample):
                spans[folder, case.id] = Span.of(values)
                if clip or case.id in wanted:  # a percentile is that of all voxels
                    np.save(Path(scratch) / f"{number}_{case.id}.npy", values.numpy())
                del values  # before the next case is predicted
            left = len(used) - len(predictions.failed) - len(predictions.empty)
            notes.append(_joint_note(left, in_sample))
            failed |= predictions.failed
        if not (common := [s for (_, case_id), s in spans.items() if case_id not in failed]):
            raise ValueError("; ".join(failed.values()))
        if clip:
            kept = [p for p in Path(scratch).iterdir() if p.stem.partition("_")[2] not in failed]
            span = common_span([np.load(p, mmap_mode="r") for p in kept], clip=clip)
        else:
            span = reduce(or_, common)
        paths: list[Path] = []
        for number, (folder, source) in enumerate(stages.items()):
            for case in (c for c in used if c.id in wanted and c.id not in failed):
                values = torch.from_numpy(np.load(Path(scratch) / f"{number}_{case.id}.npy"))
                layers = _layers(RiskMap(values, span, base), hardness)
                note = f"{source.name}: {notes[number]}"
                paths += _written(layers, folder, case, note)
    return paths, failed


def _joint_note(cases: int, in_sample: bool) -> str:
    if cases == 1:
        return f"in-sample {JOINT} (one case)"
    return f"in-sample {JOINT} of {cases} cases" if in_sample else f"{JOINT} of the other cases"


def _written(
    layers: dict[str, tuple[Any, float | None]], folder: Path, case: Case, note: str
) -> Iterator[Path]:
    """Write the maps of one case; their paths."""
    affine = read_images(case.images[:1]).affine
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


def transferability_maps(
    predictions: Predictions, in_sample: bool = False
) -> Iterator[tuple[Case, Tensor]]:
    """Transferability (1, X, Y, Z) of each case in nats, NaN where ignored, on the joint of the other groups or of all.

    Cases without a voxel that counts come last.
    """
    task = predictions.task
    channel_order(predictions.source, task.channels)
    joints, groups = {}, []
    for case, theta, labels in predictions:
        joints[case.id] = Joint.of(theta, labels, len(task.classes))
        groups.append(case.unit)
        del theta, labels
    if not joints:
        raise ValueError(predictions.nothing)
    total = reduce(add, joints.values())
    others = dict(zip(joints, others_of(list(joints.values()), groups), strict=True))
    own = in_sample or len(set(groups)) == 1
    for case, theta, labels in predictions:
        joint = total if own else others[case.id]
        values = log_expected_prediction(theta, labels, joint, smoothed=not own)[0]
        del theta, labels
        target = read(case, task).labels
        assert target is not None
        volume = np.full((1, *target.shape), np.nan, dtype=np.float32)
        volume[0][target >= 0] = values.numpy()
        del target, values
        yield case, torch.from_numpy(volume)
        del volume
    for case in (c for c in predictions.cases if c.id in predictions.empty):
        shape = read_images(case.images[:1]).image.shape
        yield case, torch.full(shape, torch.nan)


def leak_note(task: Task, cases: Sequence[Case]) -> str:
    """What a reader should know of in-sample maps of these cases: which are test cases; empty where none is."""
    leaks = [c.id for c in cases if c.id in task.test]
    if not leaks:
        return ""
    return (
        f"in-sample maps of the test cases {', '.join(leaks)}: weights made from test labels leak; "
        "give --split train"
    )
