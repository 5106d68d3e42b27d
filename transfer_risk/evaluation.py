"""How well a source segments labelled cases: Dice, HD95, recall and precision for each case and class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.channels import channel_order, in_order, read_for
from transfer_risk.classes import class_numbers, matched_classes
from transfer_risk.intervals import SHARE, Estimate
from transfer_risk.prediction import check_size, decide, predict_case, reason
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import Volume, nothing_counts, read_labelled, spacing_of


@dataclass(frozen=True)
class Measure:
    """One class of one case; NaN where the class is absent from what the measure needs.

    Args:
        case: Id.
        name: Class.
        dice: 2 |A n B| / (|A| + |B|).
        hd95: 95th percentile of the distances from one surface to the other, the larger of the two ways (MONAI's), mm.
        recall: Share of the labelled voxels that was found.
        precision: Share of the predicted voxels that is right.
    """

    case: str
    name: str
    dice: float
    hd95: float
    recall: float
    precision: float


@dataclass(frozen=True, eq=False)
class Segmented:
    """A labelled case, all its slices, and what a source makes of it.

    Args:
        case: The case.
        labels: Classes (X, Y, Z), -1 where a voxel does not count.
        predicted: The source's classes (X, Y, Z), see `predicted_classes`.
        affine: Voxel to world, (4, 4), millimetres.
    """

    case: Case
    labels: NDArray[Any]
    predicted: NDArray[Any]
    affine: NDArray[Any]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres per voxel along each array axis."""
        return spacing_of(self.affine)


def evaluate(
    source: Source,
    task: Task,
    *,
    cases: Sequence[Case] | None = None,
    distances: bool = True,
    progress: Tell | None = None,
) -> list[Measure]:
    """Measures on all slices of the test cases (or of the given ones), by the source's stored decision.

    Classes count as the task's by `classes.matched_classes`; those that the source does not have are unknown (NaN).

    Raises:
        ValueError: if no class of the source counts as one of the task's, or a case cannot be read.
    """
    if not matched_classes(source.classes, task.classes):
        raise ValueError(
            f"source {source.name} has the classes {list(source.classes)}, task {task.name} has "
            f"{list(task.classes)}; only a source of some of the task's classes can be evaluated"
        )
    used = task.split("test") if cases is None else cases
    return [
        measure
        for found in segmented(source, task, used, progress=progress)
        for measure in measured(source, task, found, distances=distances)
    ]


def segmented(
    source: Source, task: Task, cases: Sequence[Case], *, progress: Tell | None = None
) -> Iterator[Segmented]:
    """Each case, and what the source makes of it by its stored decision.

    Raises:
        ValueError: if channels do not fit, or a case cannot be read or has no label file.
    """
    channel_order(source, task.channels)
    for case in cases:
        if progress:
            progress(f"{source.name}: {case.id}")
        volume, labels = read_for(source, case, task, every_slice=True)
        predicted = predicted_classes(source, task, case, volume)
        yield Segmented(case, labels, predicted, volume.affine)


def predicted_classes(source: Source, task: Task, case: Case, volume: Volume) -> NDArray[Any]:
    """The source's classes (X, Y, Z) by its stored decision, int16, numbered as `classes.class_numbers` says.

    Those that count as the task's have its numbers, others come after; `predicted_names` has the name of each number.

    Args:
        source: The model.
        task: Of the case.
        case: What is predicted.
        volume: Its images, in the order of the source's channels.
    """
    return decided_classes(source, task, predict_case(source, case, volume))


def decided_classes(source: Source, task: Task, probabilities: NDArray[Any]) -> NDArray[Any]:
    """`predicted_classes` of a case from its probabilities (Z, X, Y, Z')."""
    numbers, _ = class_numbers(source.classes, task.classes)
    return np.asarray(numbers, dtype=np.int16)[decide(source, probabilities)]


def predicted_names(source: Source, task: Task) -> tuple[str, ...]:
    """Class name of each number in `predicted_classes`, background first."""
    return class_numbers(source.classes, task.classes)[1]


def mean_dice(rows: Sequence[Measure], cases: Sequence[Case] = ()) -> Estimate:
    """Dice averaged over the foreground classes of each case, then over cases.

    `pooled_mean` gives each class of each case the same weight instead; the two differ where a case lacks a class.

    Args:
        rows: Of any cases.
        cases: Those of the rows, perhaps among others: their groups (patients) are the units of the interval; without
            them each case is one.
    """
    measured = list(dict.fromkeys(m.case for m in rows))
    by_case = [[m.dice for m in rows if m.case == c and not math.isnan(m.dice)] for c in measured]
    means = [sum(d) / len(d) if d else math.nan for d in by_case]
    units = {case.id: case.unit for case in cases}
    return Estimate.mean(means, bounds=SHARE, groups=[units.get(c, c) for c in measured])


def pooled_mean(rows: Sequence[Measure], name: str = "dice") -> float:
    """A measure averaged over the foreground classes of all cases together, NaN left out.

    `mean_dice` averages within each case first; the two differ where a case lacks a class.
    """
    return Estimate.mean([getattr(m, name) for m in rows]).value


def measured(
    source: Source, task: Task, found: Segmented, *, distances: bool = True
) -> Iterator[Measure]:
    """`measures` of what a source makes of a task's case; NaN for the classes that it does not have."""
    known = {task.classes[k] for k in matched_classes(source.classes, task.classes)}
    for row in measures(task.classes, found, distances=distances):
        yield row if row.name in known else Measure(row.case, row.name, *[math.nan] * 4)


def measures(
    classes: Sequence[str], found: Segmented, *, distances: bool = True
) -> Iterator[Measure]:
    """Measures of each foreground class of a case; HD95 only with `distances`."""
    valid = found.labels >= 0
    for k, name in enumerate(classes[1:], start=1):
        a, b = (found.predicted == k) & valid, found.labels == k
        both, taken, wanted = int((a & b).sum()), int(a.sum()), int(b.sum())
        yield Measure(
            found.case.id,
            name,
            2 * both / (taken + wanted) if taken + wanted else math.nan,
            _hd95(a, b, found.spacing) if distances and taken and wanted else math.nan,
            both / wanted if wanted else math.nan,
            both / taken if taken else math.nan,
        )


def check_cases(
    task: Task, cases: Sequence[Case], source: Source | None = None, *, every_slice: bool = True
) -> None:
    """Raise ValueError, before anything is trained, for cases that could not be measured afterwards.

    Args:
        task: Of the cases.
        cases: Each must be readable and have a label file, and some voxel of one of them must count.
        source: Its network, trained or not, must be able to work on each shape of their images, where given.
        every_slice: Whether voxels count on every slice, or on those alone that the task selects.
    """
    counts, done = not cases, set[tuple[int, ...]]()
    for case in cases:
        volume, labels = read_labelled(case, task, every_slice=every_slice)
        counts = counts or bool((labels >= 0).any())
        if source is not None and source.stored is None:
            seen = in_order(source, Volume(volume.image, volume.affine), task.channels)
            try:
                check_size(source, seen, done)
            except ValueError as error:
                raise ValueError(reason(case.id, error)) from error
    if not counts:
        raise ValueError(nothing_counts(cases[0].id))


def _hd95(a: NDArray[Any], b: NDArray[Any], spacing: tuple[float, ...]) -> float:
    """In the units of spacing; a volume of one slice is an image, in which the surface is the outline."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    if 1 in a.shape:
        flat = a.shape.index(1)
        a, b = a.squeeze(flat), b.squeeze(flat)
        spacing = spacing[:flat] + spacing[flat + 1 :]
    pair = [torch.from_numpy(np.ascontiguousarray(m))[None, None].float() for m in (a, b)]
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes to itself
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        distance = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing)
        )
    return float(distance[0, 0])
