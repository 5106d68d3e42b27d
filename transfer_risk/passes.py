"""One pass after another of a source over a task's cases, each with one forward pass at most where memory allows.

Probabilities of the voxels that count are kept in float32, in an unnamed temporary file up to a budget; a case that does
not fit is predicted again in each of the passes that follow: one for maps, one or two for scores, one for each coordinate
and round of the search for a tuned decision. One case at a time is in memory.
"""

from __future__ import annotations

import io
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.callbacks import Tell
from transfer_risk.channels import in_order
from transfer_risk.evaluation import Segmented, decided_classes
from transfer_risk.prediction import give_back_memory, predict_case, predict_volume, reason
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import Array, Volume, nothing_counts, read_labelled, restrict

CACHE = 2**30


def _unbuffered() -> IO[bytes]:
    """A temporary file whose closing has nothing left to write, that a full folder would refuse."""
    return tempfile.TemporaryFile(buffering=0)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the voxels of a case lie that count, in few bytes: a mask of that shape, packed."""

    shape: tuple[int, ...]
    packed: bytes

    @classmethod
    def of(cls, mask: NDArray[Any]) -> Places:
        """Those of a mask (X, Y, Z)."""
        return cls(mask.shape, zlib.compress(np.packbits(mask).tobytes(), 1))

    def scattered(self, values: Tensor) -> Tensor:
        """Values (n,) of these voxels as a map (1, X, Y, Z) float32, NaN elsewhere."""
        bits = np.frombuffer(zlib.decompress(self.packed), dtype=np.uint8)
        mask = np.unpackbits(bits, count=prod(self.shape)).view(bool).reshape(self.shape)
        result = np.full((1, *self.shape), np.nan, dtype=np.float32)
        result[0][mask] = values.numpy()
        return torch.from_numpy(result)


@dataclass(eq=False)
class Predictions:
    """Valid voxels of each case: probabilities (1, Z, n) and labels (1, n); can be gone through again and again.

    Whoever goes through them lets go of a case (`del theta, labels`) before the next, or two are in memory.

    Args:
        source: The model.
        task: Of the cases.
        cases: In this order.
        budget: Bytes of probabilities and labels that are kept.
        progress: Called with what is predicted.
        every_slice: Whether voxels count on every slice, or on those alone that the task selects.
        seen: Called once for each case that can be predicted, with all its slices: of the same forward pass.
        failed: Reason by case, for those that could not be used.
        empty: Those without a voxel that counts.
    """

    source: Source
    task: Task
    cases: Sequence[Case]
    budget: int = CACHE
    progress: Tell | None = None
    every_slice: bool = False
    seen: Callable[[Segmented], None] | None = None
    failed: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    _gone_through: set[str] = field(default_factory=set)
    _places: dict[str, Places] = field(default_factory=dict)
    _kept: dict[str, int] = field(default_factory=dict)  # where in the file
    _file: IO[bytes] = field(default_factory=_unbuffered)

    def __post_init__(self) -> None:
        """Close the file when the predictions are no longer needed."""
        weakref.finalize(self, self._file.close)

    def __iter__(self) -> Iterator[tuple[Case, Tensor, Tensor]]:
        """Case, probabilities, labels.

        Left out are cases that cannot be read or predicted, noted in `failed`, and those without a voxel that counts, in
        `empty`.

        Raises:
            ValueError: naming a case that was gone through before and can no longer be read or predicted.
        """
        for case in self.cases:
            if case.id in self.failed or case.id in self.empty:
                continue
            give_back_memory()
            if case.id not in self._kept:
                try:
                    found = self._predicted(case)
                except ValueError as error:
                    self.refuse(case, error)
                    if case.id in self._gone_through:  # what was counted before would go to others
                        raise ValueError(
                            f"{self.failed[case.id]}; it could be predicted before: keep files and memory free until the end"
                        ) from error
                    continue
                if found is None:
                    self.empty.append(case.id)
                    continue
                self._gone_through.add(case.id)
                theta, labels = found
                del found
                self._keep(case.id, theta, labels)
            else:
                self._file.seek(self._kept[case.id])
                theta, labels = (torch.from_numpy(np.load(self._file)) for _ in range(2))
            yield case, theta, labels
            del theta, labels

    def refuse(self, case: Case, error: ValueError) -> None:
        """Leave a case out from now on, and note why."""
        self.failed[case.id] = reason(case.id, error)

    def scattered(self, case: Case, values: Tensor) -> Tensor:
        """Values (n,) of the voxels that count, of a case that was gone through, as a map (1, X, Y, Z); NaN elsewhere."""
        return self._places[case.id].scattered(values)

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
        """Probabilities and labels of the voxels that count; None where none does. The first time, `seen` is told."""
        if self.progress:
            self.progress(f"{self.source.name}: {case.id}")
        tell = None if case.id in self._places else self.seen
        volume, every, labels = self._read(case, whole=tell is not None)
        valid, affine, given = labels >= 0, volume.affine, [volume]
        del volume
        self._places[case.id] = Places.of(valid)
        if tell is None and not valid.any():
            return None
        theta = self._probabilities(case, given, whole=tell is not None)
        kept = np.empty((len(theta), int(valid.sum())), dtype=theta.dtype)
        for plane, row in zip(theta, kept, strict=True):
            row[:] = plane[valid]
        if tell is not None:
            predicted = decided_classes(self.source, self.task, theta)
            del theta
            tell(Segmented(case, every, predicted, affine))
        if not valid.any():
            return None
        return torch.from_numpy(kept)[None], torch.from_numpy(labels[valid])[None]

    def _read(self, case: Case, *, whole: bool) -> tuple[Volume, Array, Array]:
        """The case in the order of the source's channels, labels of all its slices, and those of the voxels that count.

        Without `whole` both are the latter.
        """
        volume, every = read_labelled(case, self.task, every_slice=self.every_slice or whole)
        labels = every
        if whole and not self.every_slice:
            labels = every.copy()
            restrict(labels, volume.image, case, self.task)
        counted = Volume(volume.image, volume.affine, labels)
        return in_order(self.source, counted, self.task.channels), every, labels

    def _probabilities(self, case: Case, given: list[Volume], *, whole: bool) -> Array:
        """Probabilities (Z, X, Y, Z') of a case, on all slices or on those with a voxel that counts."""
        if self.source.stored is None:  # the image is let go of as soon as the network has its own
            theta = predict_volume(self.source, given.pop(), every_slice=whole)
        else:
            theta = predict_case(self.source, case, given.pop())
        give_back_memory()
        return theta
