"""Checks over all cases of a task: label values, classes, intensities between cases, geometry."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from nibabel import aff2axcodes
from nibabel.affines import voxel_sizes

from transfer_risk.doctor.examination import Examined, undeclared
from transfer_risk.doctor.finding import Finding
from transfer_risk.tables import leep_floor
from transfer_risk.tasks import Task
from transfer_risk.textrows import listed

OUTLIER = 10.0  # factor between a case's level and the median level of the others


def check_cohort(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Findings that need more than one case, or count over all of them."""
    yield from _label_values(task, cases)
    yield from _classes(task, cases)
    for place, name in enumerate(task.channels):
        yield from _levels(place, name, cases)
        yield from _clipping(place, name, cases)
    remedy = (
        'write normalise = "zscore" (CT: or "window") in [training], unless 0 is background alone'
    )
    yield from check_zeros("training.normalise", task.training.normalise, task, cases, remedy)
    yield from _grids(task, cases)


def _label_values(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    voxels: Counter[float] = Counter()
    having: dict[float, list[Examined]] = defaultdict(list)
    for made in cases:
        voxels.update(made.values)
        for value in made.values:
            having[value].append(made)
    for value in sorted(undeclared(voxels, task)):
        first = having[value][0].case.label or ""
        found = (
            f"label value {value:g} ({voxels[value]:,} voxels in {len(having[value])} of {len(cases)} "
            "cases) is declared nowhere"
        )
        remedy = "declare it in [labels], background or ignore of the task"
        yield Finding("error", "labels", first, found, remedy)
    for name, values in task.labels.items():
        missing = [str(v) for v in values if v not in voxels]
        if missing and len(missing) < len(values):  # a class without any voxel is found by _classes
            found = f"value {listed(missing)} of class {name} is in no label file"
            remedy = "correct the raw values, or drop those that do not occur"
            yield Finding("warning", "labels", f"labels.{name}", found, remedy)
    names: dict[float, str] = {v: name for name, values in task.labels.items() for v in values}
    names |= {float(v): "background" for v in task.background}
    names |= {float(v): "ignore" for v in task.ignore}
    parts = (
        f"{v:g} = {names.get(v, 'undeclared')} ({voxels[v]:,} voxels, {len(having[v])} cases)"
        for v in sorted(voxels)
    )
    if voxels:
        yield Finding("note", "labels", "[labels]", f"label values: {'; '.join(parts)}")


def _classes(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Pixels per class in training and test cases; classes that are absent or rare."""
    for part in ("train", "test"):
        pixels = [c.pixels for c in cases if c.pixels is not None and c.part(task) == part]
        if not pixels:
            continue
        table = np.stack(pixels)
        for k, name in enumerate(task.classes):
            having = int((table[:, k] > 0).sum())
            if finding := _rare(name, part, having, len(table)):
                yield finding
        if part == "train":
            yield Finding("note", "classes", "classes", _shares(task, table.sum(0), len(table)))


def _rare(name: str, part: str, having: int, cases: int) -> Finding | None:
    """A class in no training case is an error, in one a warning; in no test case a warning."""
    if having >= 2 or (part == "test" and having):
        return None
    where = f"labels.{name}" if name != "background" else "background"
    found = f"class {name} is in {'none' if not having else 'only one'} of the {cases} {part} cases"
    if part == "test":
        remedy = "choose other test cases in [split]; its Dice is unknown there"
        return Finding("warning", "classes", where, found, remedy)
    remedy = "correct its raw values in [labels], or label more cases"
    return Finding("warning" if having else "error", "classes", where, found, remedy)


def _shares(task: Task, counts: np.ndarray, cases: int) -> str:
    share = counts / max(counts.sum(), 1)
    parts = (
        f"{name} {n:,} ({100 * s:.2f} %)"
        for name, n, s in zip(task.classes, counts, share, strict=True)
    )
    return (
        f"voxels that count in {cases} training cases: {', '.join(parts)}; a source that knows nothing has LEEP -H(Y) = "
        f"{leep_floor(counts):.4f} nats"
    )


def _levels(place: int, name: str, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Cases whose intensities are far from the others'."""
    known = [c for c in cases if place in c.channels and not math.isnan(c.channels[place].level)]
    levels = np.array([c.channels[place].level for c in known])
    if not len(levels):
        return
    for k, made in enumerate(known if len(levels) > 2 else ()):
        others = float(np.median(np.delete(levels, k)))
        if not 1 / OUTLIER < levels[k] / others < OUTLIER:
            found = (
                f"median intensity of {name} is {levels[k]:g}, that of the other cases {others:g}"
            )
            remedy = "look for another unit or a wrong channel; a source with normalise zscore does not mind a factor"
            yield Finding("warning", "intensity", made.channels[place].path, found, remedy)
    low = min(c.channels[place].low for c in known)
    high = max(c.channels[place].high for c in known)
    found = (
        f"{name}: intensities {low:g} to {high:g}, medians {levels.min():g} to {levels.max():g} "
        f"over {len(known)} cases"
    )
    yield Finding("note", "intensity", f"channels.{name}", found)


def check_zeros(
    where: str, normalise: str, task: Task, cases: Sequence[Examined], remedy: str
) -> Iterator[Finding]:
    """Channels with intensities below 0, where 0 may be tissue, under a normalisation that takes 0 for background."""
    for place, name in enumerate(task.channels if normalise == "zscore-nonzero" else ()):
        below = [
            c.channels[place] for c in cases if place in c.channels and c.channels[place].low < 0
        ]
        if below:
            found = (
                f"zscore-nonzero takes voxels of 0 for background, but {name} goes below 0 in {len(below)} of {len(cases)} "
                f"cases (to {min(channel.low for channel in below):g})"
            )
            yield Finding("warning", "intensity", where, found, remedy)


def _clipping(place: int, name: str, cases: Sequence[Examined]) -> Iterator[Finding]:
    hit = [c.channels[place] for c in cases if place in c.channels and c.channels[place].clipped]
    if hit:
        worst = max(hit, key=lambda channel: channel.clipped)
        found = (
            f"integers of {name} are clipped in {len(hit)} of {len(cases)} cases: {100 * worst.clipped:.1f} % of the "
            f"non-zero voxels here are exactly {worst.high:g}"
        )
        remedy = (
            "convert the original again with a larger type, or accept that bright tissue is flat"
        )
        yield Finding("warning", "intensity", worst.path, found, remedy)


def _grids(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Orientation and spacing over the cases."""
    axes: dict[str, list[str]] = defaultdict(list)
    sizes = []
    for made in cases:
        if made.affine is None:
            continue
        pairs = {"R": "LR", "L": "LR", "A": "PA", "P": "PA", "S": "IS", "I": "IS"}
        axes[pairs[aff2axcodes(made.affine)[task.slices.axis]]].append(made.case.id)
        sizes.append(voxel_sizes(made.affine))
    if analyze := [made.case.id for made in cases if made.analyze]:
        found = f"{len(analyze)} cases are in Analyze format, which stores no orientation ({listed(analyze)})"
        remedy = "check on one image that left and right and the slice axis are as you expect"
        yield Finding("note", "geometry", "root", found, remedy)
    if len(axes) > 1:
        groups = "; ".join(f"{axis}: {listed(ids)}" for axis, ids in axes.items())
        found = f"slices along array axis {task.slices.axis} are anatomically different ({groups})"
        remedy = "bring the images to one orientation, or the 2D slices will not be comparable"
        yield Finding("warning", "geometry", "slices.axis", found, remedy)
    if sizes:
        low, high = np.min(sizes, 0), np.max(sizes, 0)
        spans = (
            f"{a:g}" if b - a < 1e-3 else f"{a:g}-{b:g}" for a, b in zip(low, high, strict=True)
        )
        yield Finding("note", "geometry", "root", f"voxels of {' x '.join(spans)} mm")
