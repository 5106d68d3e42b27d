"""One pass after another of a source over a task's cases, each with one forward pass at most where memory allows.

Probabilities of the voxels that count are kept in float32, in an unnamed temporary file up to a budget; a case that does
not fit is predicted again in each of the passes that follow (at most two). One case at a time is in memory.
"""

from __future__ import annotations

import io
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import torch
from torch import Tensor

from transfer_risk.channels import in_order
from transfer_risk.prediction import give_back_memory, predict_case, predict_volume, reason
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import Volume, nothing_counts, read

CACHE = 2**30
Progress = Callable[[str], None]


def _unbuffered() -> IO[bytes]:
    """A temporary file whose closing has nothing left to write, that a full folder would refuse."""
    return tempfile.TemporaryFile(buffering=0)


@dataclass(eq=False)
class Predictions:
    """Valid voxels of each case: probabilities (1, Z, n) and labels (1, n); can be gone through again and again.

    Whoever goes through them lets go of a case (`del theta, labels`) before the next, or two are in memory.
    """

    source: Source
    task: Task
    cases: Sequence[Case]
    budget: int = CACHE
    progress: Progress | None = None
    every_slice: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    _kept: dict[str, int] = field(default_factory=dict)  # where in the file
    _file: IO[bytes] = field(default_factory=_unbuffered)

    def __post_init__(self) -> None:
        """Close the file when the predictions are no longer needed."""
        weakref.finalize(self, self._file.close)

    def __iter__(self) -> Iterator[tuple[Case, Tensor, Tensor]]:
        """Case, probabilities, labels.

        Left out are cases that cannot be read or predicted, noted in `failed`, and those without a voxel that counts, in
        `empty`.
        """
        for case in self.cases:
            if case.id in self.failed or case.id in self.empty:
                continue
            give_back_memory()
            if case.id not in self._kept:
                try:
                    found = self._predicted(case)
                except ValueError as error:
                    self.failed[case.id] = reason(case.id, error)
                    continue
                if found is None:
                    self.empty.append(case.id)
                    continue
                theta, labels = found
                del found
                self._keep(case.id, theta, labels)
            else:
                self._file.seek(self._kept[case.id])
                theta, labels = (torch.from_numpy(np.load(self._file)) for _ in range(2))
            yield case, theta, labels
            del theta, labels

    @property
    def nothing(self) -> str:
        """Why no case has given anything."""
        empty = [nothing_counts(case) for case in self.empty]
        return next(iter([*self.failed.values(), *empty]), "no case was given")

    def _keep(self, case: str, theta: Tensor, labels: Tensor) -> None:
        """Write a case to the file if the budget and the disk hold it; else it is predicted again."""
        size = theta.nbytes + labels.nbytes
        if size > self.budget:
            return
        place = self._file.seek(0, io.SEEK_END)
        try:
            for tensor in (theta, labels):
                np.save(self._file, tensor.numpy())
        except OSError:  # the folder of temporary files is full
            self._file.truncate(place)
            self.budget = 0
            return
        self._kept[case] = place
        self.budget -= size

    def _predicted(self, case: Case) -> tuple[Tensor, Tensor] | None:
        """Probabilities and labels of the voxels that count; None where none does."""
        if self.progress:
            self.progress(f"{self.source.name}: {case.id}")
        volume = [read_for(self.source, case, self.task, every_slice=self.every_slice)]
        labels = volume[0].labels
        assert labels is not None
        if not (labels >= 0).any():
            return None
        if self.source.stored is None:  # the image is let go of as soon as the network has its own
            theta = predict_volume(self.source, volume.pop(), every_slice=False)
        else:
            theta = predict_case(self.source, case, volume.pop())
        give_back_memory()
        valid = labels >= 0
        kept = np.empty((len(theta), int(valid.sum())), dtype=theta.dtype)
        for plane, row in zip(theta, kept, strict=True):
            row[:] = plane[valid]
        return torch.from_numpy(kept)[None], torch.from_numpy(labels[valid])[None]


def read_for(source: Source, case: Case, task: Task, *, every_slice: bool = False) -> Volume:
    """The case's volume with its channels in the source's order."""
    if case.label is None:
        raise ValueError(f"case {case.id}: has no label file")
    return in_order(source, read(case, task, every_slice=every_slice), task.channels)
