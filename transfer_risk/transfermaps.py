"""Transferability of whole cases: from passes over predictions, of several sources on one scale in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import add, or_
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transfer_risk.channels import channel_order
from transfer_risk.passes import Predictions
from transfer_risk.riskmap import Span
from transfer_risk.scales import common_span
from transfer_risk.tasks import Case
from transfer_risk.transferability import Joint, log_expected_prediction, others_of


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
        volume = predictions.scattered(case, values)
        del values
        yield case, volume
        del volume
    for case in (c for c in predictions.cases if c.id in predictions.empty):
        yield case, predictions.scattered(case, torch.empty(0))


@dataclass(frozen=True, eq=False)
class WaitingMaps:
    """Maps of several sources on one scale, in a folder of temporary files until they are asked for.

    Args:
        folder: Of the files.
        span: Over all sources and cases.
        joined: How many cases each source's joint is made of, in the order of the sources.
        in_sample: Whether that is the joint of all of them; it always is where they are of one group.
        failed: Reason by case, for those that some source cannot predict; they have no map, and no part in the span.
    """

    folder: Path
    span: Span
    joined: tuple[int, ...]
    in_sample: tuple[bool, ...]
    failed: dict[str, str]

    def transferability(self, source: int, case: Case) -> Tensor:
        """T (1, X, Y, Z) in nats, NaN where ignored, of a case on the source of this number."""
        return torch.from_numpy(np.load(_file(self.folder, source, case)))


@contextmanager
def waiting_maps(
    passes: Iterable[Predictions],
    *,
    only: Collection[str] | None = None,
    clip: float = 0.0,
    in_sample: bool = False,
) -> Iterator[WaitingMaps]:
    """Maps of each source, made in one pass after another over its predictions; one case at a time is in memory.

    Args:
        passes: Of each source over the same cases; the next is asked for when the one before is done with.
        only: Ids of the cases whose maps will be asked for; span and joints are those of all.
        clip: Percentile of all values that takes the place of their minimum.
        in_sample: That of `mapping.risk_maps`.

    Raises:
        ValueError: if channels do not fit, or there is no case that all sources can predict.
    """
    failed: dict[str, str] = {}
    spans: list[tuple[str, Span]] = []
    joined, own = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for number, predictions in enumerate(passes):
            for case, values in transferability_maps(predictions, in_sample):
                spans.append((case.id, Span.of(values)))
                if clip or only is None or case.id in only:  # a percentile is that of all voxels
                    np.save(_file(folder, number, case), values.numpy())
                del values  # before the next case is predicted
            without = {*predictions.failed, *predictions.empty}
            left = [c.unit for c in predictions.cases if c.id not in without]
            joined.append(len(left))
            own.append(in_sample or len(set(left)) == 1)
            failed |= predictions.failed
        if not (common := [span for case_id, span in spans if case_id not in failed]):
            raise ValueError("; ".join(failed.values()))
        if clip:
            kept = [p for p in folder.iterdir() if p.stem.partition("_")[2] not in failed]
            span = common_span([np.load(p, mmap_mode="r") for p in kept], clip=clip)
        else:
            span = reduce(or_, common)
        yield WaitingMaps(folder, span, tuple(joined), tuple(own), failed)


def _file(folder: Path, source: int, case: Case) -> Path:
    return folder / f"{source}_{case.id}.npy"
