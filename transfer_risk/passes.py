"""One pass after another of a source over a task's cases, each with one forward pass at most where memory allows.

Probabilities of the voxels that count are kept in float32 up to a budget; a case that does not fit is predicted again in
each of the passes that follow (at most two), so memory stays bounded.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from transfer_risk.prediction import in_order, predict_case
from transfer_risk.tasks import Case, Source, Task
from transfer_risk.volumes import Volume, read

CACHE = 2**30
WORKING = 4  # copies of a case that are in memory while it is predicted: the budget holds them too
Progress = Callable[[str], None]


@dataclass(eq=False)
class Predictions:
    """Valid voxels of each case: probabilities (1, Z, n) and labels (1, n); can be gone through again and again."""

    source: Source
    task: Task
    cases: Sequence[Case]
    budget: int = CACHE
    progress: Progress | None = None
    every_slice: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    _kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Case, Tensor, Tensor]]:
        """Case, probabilities, labels; a case that cannot be read or predicted is noted in `failed` and left out."""
        for case in self.cases:
            if case.id in self.failed:
                continue
            _give_back_memory()
            if case.id not in self._kept:
                try:
                    theta, labels = self._predicted(case)
                except ValueError as error:
                    self.failed[case.id] = str(error)
                    continue
                size = theta.nbytes + labels.nbytes
                if (1 + WORKING) * size <= self.budget:
                    self._kept[case.id] = theta, labels
                    self.budget -= size
            else:
                theta, labels = self._kept[case.id]
            yield case, theta, labels.long()

    def _predicted(self, case: Case) -> tuple[Tensor, Tensor]:
        if self.progress:
            self.progress(f"{self.source.name}: {case.id}")
        volume = read_for(self.source, case, self.task, every_slice=self.every_slice)
        assert volume.labels is not None
        valid = volume.labels >= 0
        if not valid.any():
            raise ValueError(
                f"case {case.id}: no voxel counts; look at region, ignore and [slices] of the task"
            )
        theta = predict_case(self.source, case, volume, every_slice=False)[:, valid]
        return torch.from_numpy(theta)[None], torch.from_numpy(volume.labels[valid])[None]


def _give_back_memory() -> None:
    """Return what is free to the system: glibc keeps it, and kept tensors among short-lived ones fragment its heap."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def read_for(source: Source, case: Case, task: Task, *, every_slice: bool = False) -> Volume:
    """The case's volume with its channels in the source's order."""
    if case.label is None:
        raise ValueError(f"case {case.id}: has no label file")
    return in_order(source, read(case, task, every_slice=every_slice), task.channels)
