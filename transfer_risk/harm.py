"""Negative transfer, voxel by voxel: what a model trained from scratch gets right and a fine-tuned one gets wrong.

And whether the source's transferability told so: the claim of the paper's title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_risk.classes import same_classes
from transfer_risk.evaluation import Measure, Segmented, mean_dice, measures, segmented
from transfer_risk.intervals import Estimate
from transfer_risk.lineage import seen_cases
from transfer_risk.mapstats import distance_to_boundary
from transfer_risk.outcomes import GAINED, LOST, WRONG, Outcomes
from transfer_risk.passes import Predictions
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transfermaps import transferability_maps

BANDS = 8
"""Bands of distance to the label's boundary, one voxel wide; the last one holds all that is farther."""


@dataclass(frozen=True, eq=False)
class NegativeTransfer:
    """What a fine-tuned model (student) lost and gained against one trained from scratch, over the test cases.

    Args:
        classes: Of the task.
        transferability: Outcomes (student first) by -T; strata are class * `BANDS` + band of distance.
        distance: Outcomes by distance to the label's boundary in mm; strata are classes.
        student: Dice of the student, mean over foreground classes, by case.
        scratch: That of the model from scratch.
    """

    classes: tuple[str, ...]
    transferability: Outcomes
    distance: Outcomes
    student: Estimate
    scratch: Estimate

    @property
    def difference(self) -> Estimate:
        """Dice of the student minus that from scratch, paired by case: negative transfer where below 0."""
        return self.student - self.scratch

    def rows(self) -> list[dict[str, Any]]:
        """One row per scope: all voxels, background, foreground, and each foreground class where there are several.

        `voxels`; `lost`, `gained` and `wrong` (student), shares of them; AUROC of -T: `auroc` for lost against all other
        voxels, `auroc_wrong` for wrong, `auroc_gained` for gained, `auroc_lost_gained` for lost against gained,
        `auroc_matched` for lost against others of the same class and distance to the boundary; `auroc_boundary` for
        lost by nearness to the label's boundary, without any source; `decile_1` to `decile_10`, the share of lost
        voxels by tenth of hardness, 10 = riskiest. NaN where there is nothing to tell.
        """
        foreground = range(1, len(self.classes))
        scopes = [
            ("all", range(len(self.classes))),
            ("background", range(1)),
            ("foreground", foreground),
        ]
        if len(self.classes) > 2:
            scopes += [(self.classes[k], range(k, k + 1)) for k in foreground]
        return [{"scope": name} | self._numbers(chosen) for name, chosen in scopes]

    def _numbers(self, classes: Sequence[int]) -> dict[str, float]:
        risk = self.transferability.within([k * BANDS + b for k in classes for b in range(BANDS)])
        numbers: dict[str, float] = {
            "voxels": risk.voxels,
            "lost": risk.share([LOST]),
            "gained": risk.share([GAINED]),
            "wrong": risk.share(WRONG),
            "auroc": risk.auroc([LOST]),
            "auroc_wrong": risk.auroc(WRONG),
            "auroc_gained": risk.auroc([GAINED]),
            "auroc_lost_gained": risk.auroc([LOST], [GAINED]),
            "auroc_matched": risk.auroc_matched([LOST]),
            "auroc_boundary": 1 - self.distance.within(classes).auroc([LOST]),
        }
        deciles = risk.deciles([LOST])
        return numbers | {f"decile_{k}": float(v) for k, v in enumerate(deciles, start=1)}


def negative_transfer(
    source: Source,
    task: Task,
    *,
    student: Source,
    scratch: Source,
    cases: Sequence[Case] | None = None,
) -> NegativeTransfer:
    """Where a fine-tuned model is worse than one from scratch, beside the source's risk; one case in memory at a time.

    Voxels are those of the task's selected slices, as for maps; T is on the smoothed joint of the other patients' cases
    (those of a single patient have their own). Both models count by their stored decisions. Dice is over all slices.

    Args:
        source: What the student was fine-tuned from; of any classes.
        task: Target.
        student: Fine-tuned; a source of the task.
        scratch: Trained on the same task from random weights.
        cases: Instead of the test cases.

    Raises:
        ValueError: if a model has other classes than the task or was trained on a measured case, `scratch` had a source,
            or a case cannot be used.
    """
    used = list(task.split("test") if cases is None else cases)
    _check(task, student, scratch, used)
    predictions = Predictions(source, task, used)
    by_risk = by_distance = Outcomes.none()
    dice: tuple[list[Measure], list[Measure]] = ([], [])
    for case, values in transferability_maps(predictions):
        wrong = []
        for model, rows in zip((student, scratch), dice, strict=True):
            found = next(segmented(model, task, [case]))
            rows += measures(task.classes, found, distances=False)
            wrong.append(found.predicted != found.labels)
        own, far = _outcomes(values[0].numpy(), found, 2 * wrong[0] + wrong[1])
        by_risk, by_distance = by_risk + own, by_distance + far
    if predictions.failed:
        raise ValueError("; ".join(predictions.failed.values()))
    student_dice, scratch_dice = (mean_dice(rows, used) for rows in dice)
    return NegativeTransfer(task.classes, by_risk, by_distance, student_dice, scratch_dice)


def _outcomes(
    transferability: NDArray[Any], found: Segmented, outcomes: NDArray[Any]
) -> tuple[Outcomes, Outcomes]:
    """Outcomes (X, Y, Z) of one case by -T, which is NaN where ignored, and by distance: infinite without a boundary."""
    valid = ~np.isnan(transferability)
    labels, what = found.labels[valid].astype(np.int64), outcomes[valid]
    distance = distance_to_boundary(found.labels, found.spacing)
    far = np.full(len(labels), np.inf) if distance is None else distance[valid]
    band = np.clip(np.ceil(far / min(found.spacing) - 1e-6), 0, BANDS - 1).astype(np.int64)
    own = Outcomes.of(-transferability[valid], labels * BANDS + band, what)
    return own, Outcomes.of(far, labels, what)


def _check(task: Task, student: Source, scratch: Source, cases: Sequence[Case]) -> None:
    for role, model in (("student", student), ("scratch", scratch)):
        if not same_classes(model.classes, task.classes):
            raise ValueError(
                f"{role} must have the classes of task {task.name}, {list(task.classes)}; {model.name} has "
                f"{list(model.classes)}; train it on this task"
            )
        if seen := seen_cases(model, task, [c.id for c in cases]):
            raise ValueError(
                f"{role} must not have been trained on a measured case; {model.name} was on "
                f"{', '.join(seen)}; measure test cases"
            )
    if origin := scratch.trained.get("source"):
        raise ValueError(
            f"scratch must have been trained from random weights; {scratch.name} was fine-tuned from {origin}; "
            "fine-tune with --init random, or pretrain on the task"
        )
