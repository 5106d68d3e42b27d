"""One case of a task, each of its volumes read once: what later checks need to know, and what is wrong with the files."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from transfer_risk.doctor.finding import Finding, from_error
from transfer_risk.imagefiles import is_analyze, load, same_geometry
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import encode_labels, restrict, whole_numbers

Array = NDArray[Any]
SPIKE = 1e-3  # share of the non-zero voxels at the highest value that is taken for clipping
LEVELS = 100  # grey levels below which no clipping is looked for


@dataclass(frozen=True)
class Channel:
    """One image file.

    Args:
        path: File, or `file#k`.
        level: Median of |intensity| over the non-zero voxels; NaN if there are none.
        low: Lowest intensity.
        high: Highest intensity.
        clipped: Share of the non-zero voxels that pile up at the highest value of an integer image; 0 if none do.
        digest: Hash of shape and voxels as float32.
    """

    path: str
    level: float
    low: float
    high: float
    clipped: float
    digest: str


@dataclass(eq=False)
class Examined:
    """A case after one reading.

    Args:
        case: The case.
        findings: What is wrong with its files.
        channels: By place among the task's channels; without those that cannot be read.
        shape: Of the first readable image.
        affine: Of the first readable image, (4, 4).
        analyze: Whether an image is in Analyze format.
        values: Voxels by raw label value; empty without a readable label.
        label_digest: Hash of the raw label; empty without foreground.
        pixels: Voxels that count, by class (Y,); None where images or label do not allow counting.
    """

    case: Case
    findings: list[Finding] = field(default_factory=list)
    channels: dict[int, Channel] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    affine: Array | None = None
    analyze: bool = False
    values: dict[float, int] = field(default_factory=dict)
    label_digest: str = ""
    pixels: Array | None = None

    def part(self, task: Task) -> str:
        """`train` or `test`."""
        return "test" if self.case.id in task.test else "train"


def examine(case: Case, task: Task) -> Examined:
    """Read a case; a file that is broken becomes a finding."""
    made = Examined(case)
    inside: Array | None = None
    for place, path in enumerate(case.images):
        try:
            data, affine = load(path)
        except ValueError as error:
            made.findings.append(from_error(error, "reading", path))
            continue
        made.channels[place] = _channel(path, data)
        made.findings += _intensities(path, data, made.channels[place])
        made.analyze = made.analyze or _analyze(path)
        if made.affine is None:
            made.shape, made.affine, inside = data.shape, affine, data != 0
        elif _same_grid(made, path, data.shape, affine):
            inside |= data != 0
    if case.label is None:
        made.findings.append(
            Finding("error", "reading", case.id, "has no label file", "add it or remove the case")
        )
    else:
        _examine_label(made, case.label, task, inside)
    return made


def _examine_label(made: Examined, path: str, task: Task, inside: Array | None) -> None:
    try:
        raw, affine = load(path)
    except ValueError as error:
        made.findings.append(from_error(error, "reading", path))
        return
    raw = whole_numbers(raw)
    values, counts = np.unique(raw, return_counts=True)
    made.values = {float(v): int(n) for v, n in zip(values, counts, strict=True)}
    made.label_digest = _digest(raw) if len(values) > 1 else ""
    if inside is None or not _same_grid(made, path, raw.shape, affine):
        return
    if undeclared(made.values, task):
        return
    labels = encode_labels(raw, task, path)
    restrict(labels, inside[None], made.case, task)
    made.pixels = np.bincount(labels[labels >= 0], minlength=len(task.classes))
    if not made.pixels.sum():
        problem = "no voxel counts"
        remedy = "it is not scored; look at region, ignore and [slices] of the task if it should be"
        made.findings.append(Finding("warning", "labels", path, problem, remedy))


def undeclared(values: dict[float, int], task: Task) -> list[float]:
    """Raw label values that the task does not declare."""
    declared = {v for own in task.labels.values() for v in own}
    return [v for v in values if v not in declared | {*task.background, *task.ignore}]


def _same_grid(made: Examined, path: str, shape: tuple[int, ...], affine: Array) -> bool:
    """Whether a file lies on the grid of the case's first readable image; a finding if not."""
    first = made.channels[min(made.channels)].path
    assert made.affine is not None
    try:
        same_geometry(first, made.shape, made.affine, path, shape, affine)
    except ValueError as error:
        made.findings.append(from_error(error, "geometry", path))
        return False
    return True


def _channel(path: str, data: Array) -> Channel:
    finite = data[np.isfinite(data)]
    inside = finite[finite != 0]
    return Channel(
        path,
        float(np.median(np.abs(inside.astype(np.float64)))) if inside.size else math.nan,
        float(finite.min()) if finite.size else math.nan,
        float(finite.max()) if finite.size else math.nan,
        _clipped(inside) if data.dtype.kind in "iu" else 0.0,
        _digest(data),
    )


def _clipped(inside: Array) -> float:
    """Share at the highest value, where that is a spike: more voxels than in the 2 % of the range below it."""
    if not inside.size:
        return 0.0
    top, span = float(inside.max()), float(inside.max()) - float(inside.min())
    at_top = int((inside == top).sum())
    below = int((inside >= top - 0.02 * span).sum()) - at_top
    spike = span >= LEVELS and at_top > max(below, SPIKE * inside.size)
    return at_top / inside.size if spike else 0.0


def _intensities(path: str, data: Array, channel: Channel) -> Iterator[Finding]:
    bad = int((~np.isfinite(data)).sum())
    if bad:
        found = f"{bad} of {data.size} voxels are NaN or infinite"
        yield Finding(
            "error", "intensity", path, found, "repair the image (for example set them to 0)"
        )
    if channel.low == channel.high:
        found = f"every voxel is {channel.low:g}"
        yield Finding(
            "warning", "intensity", path, found, "copy the image again, or leave the case out"
        )


def _analyze(path: str) -> bool:
    return path.lower().endswith(".img") and is_analyze(nib.load(path))


def _digest(data: Array) -> str:
    made = hashlib.blake2b(str(data.shape).encode(), digest_size=16)
    made.update(np.ascontiguousarray(data, dtype=np.float32).tobytes())
    return made.hexdigest()
