"""What training draws from: slices or volumes as a network sees them, with labels and transferability, on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.riskmap import Span
from transfer_risk.scales import common_span
from transfer_risk.transferability import Joint

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step sees.

    Args:
        images: (B, C, *S).
        labels: (B, *S) int64, -1 where ignored.
        transferability: T (B, *S) in nats, NaN where ignored; None for methods that need no map.
        cases: Number of each sample's case, (B,).
        places: Number of each sample, (B,).
    """

    images: Tensor
    labels: Tensor
    transferability: Tensor | None
    cases: Tensor
    places: Tensor


@dataclass(frozen=True, eq=False)
class Samples:
    """Prepared training data in unnamed temporary files that the system pages in and out; memory stays bounded.

    Args:
        images: One array (N_c, C, *S) for each case.
        labels: (N_c, *S) int16 for each case.
        transferability: (N_c, *S) float32 for each case; empty without a map.
        ids: Of the cases.
        patch: What the network sees at once: the source's size, or the size of the largest sample.
        joint: Of source and labels on the training voxels; None without a map.
    """

    images: tuple[Array, ...]
    labels: tuple[Array, ...]
    transferability: tuple[Array, ...]
    ids: tuple[str, ...]
    patch: tuple[int, ...]
    joint: Joint | None = None

    @property
    def owners(self) -> NDArray[np.int64]:
        """Number of the case of each sample (N,)."""
        return np.repeat(np.arange(len(self.ids)), [len(a) for a in self.labels])

    def __len__(self) -> int:
        """Number of slices, or of volumes."""
        return sum(len(a) for a in self.labels)

    def class_counts(self, classes: int) -> Tensor:
        """Pixels of each class, (Y,) float64."""
        counts = [np.bincount(a[a >= 0].ravel(), minlength=classes) for a in self.labels]
        return torch.from_numpy(np.sum(counts, axis=0).astype(np.float64))

    @property
    def whole(self) -> bool:
        """Whether each sample is seen at once, none in patches."""
        return all(tuple(a.shape[1:]) == self.patch for a in self.labels)

    def spans(self, extent: str, clip: float) -> Span | None:
        """Span of each sample's transferability, (N,) or (); None where it depends on the patch that is drawn."""
        if extent == "image" and not self.whole:
            return None
        if extent == "set":
            return common_span(self.transferability, clip=clip)
        own = []
        for values in self.transferability:  # one case in memory
            case = torch.from_numpy(np.array(values))
            span = Span.of(case, per_image=extent == "image", clip=clip)
            own.append([end.expand(len(case)) for end in (span.low, span.high)])
        return Span(*(torch.cat(ends) for ends in zip(*own, strict=True)))

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """A random batch without repetition where there are enough; a patch each where samples are larger.

        Half of the patches, at random which, are centred on a foreground voxel of their samples.
        """
        chosen = np.sort(rng.choice(len(self), size, replace=len(self) < size))
        return self.batch(chosen, rng)

    def batch(self, places: Array, rng: np.random.Generator | None = None) -> Batch:
        """The samples at some places; of larger ones a patch each, at random with `rng`, else the middle."""
        centred = np.zeros(len(places), dtype=bool)
        if rng is not None and not self.whole:  # by chance: samples are in the order of the cases
            centred = rng.permutation((np.arange(len(places)) + rng.integers(2)) % 2 == 0)
        windows = [
            self._window(self._labels(place), rng, foreground=bool(own))
            for place, own in zip(places, centred, strict=True)
        ]
        return self._stacked(places, windows)

    def covering(self, size: int = 1) -> Iterator[Batch]:
        """Batches of `size` patches that together hold each pixel once; in the later of two that overlap its label is -1."""
        tiles = [(place, tile) for place in range(len(self)) for tile in self._tiles(place)]
        for first in range(0, len(tiles), size):
            places, parts = zip(*tiles[first : first + size], strict=True)
            batch = self._stacked(np.array(places), [self._at([s for s, _ in t]) for t in parts])
            for labels, tile in zip(batch.labels, parts, strict=True):
                for axis, (_, seen) in enumerate(tile):
                    labels.narrow(axis, 0, seen).fill_(-1)
            yield batch

    def _tiles(self, place: int) -> Iterator[tuple[tuple[int, int], ...]]:
        """Patches that cover a sample: along each axis the start, and how much of it the patch before has shown."""
        axes = []
        for n, p in zip(self._labels(place).shape, self.patch, strict=True):
            starts = sorted({min(start, n - p) for start in range(0, n, p)})
            ends = [0, *(s + p for s in starts)]
            axes.append([(s, end - s) for s, end in zip(starts, ends, strict=False)])
        return product(*axes)

    def _stacked(self, places: Array, windows: Sequence[tuple[slice, ...]]) -> Batch:
        owners = self.owners
        images, labels, maps = [], [], []
        for place, window in zip(places, windows, strict=True):
            case, row = self._row(place)
            images.append(self.images[case][row][(slice(None), *window)])
            labels.append(self.labels[case][row][window])
            if self.transferability:
                maps.append(self.transferability[case][row][window])
        batch = torch.from_numpy(np.stack(images))
        return Batch(
            batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch,
            torch.from_numpy(np.stack(labels)).long(),
            torch.from_numpy(np.stack(maps)) if maps else None,
            torch.from_numpy(owners[places]),
            torch.from_numpy(np.asarray(places)),
        )

    def _row(self, place: int) -> tuple[int, int]:
        """Number of the case, and of the sample within it."""
        first = np.cumsum([0, *(len(a) for a in self.labels)])
        case = int(np.searchsorted(first, place, side="right")) - 1
        return case, int(place - first[case])

    def _labels(self, place: int) -> Array:
        case, row = self._row(place)
        return np.asarray(self.labels[case][row])

    def _at(self, corner: Sequence[int]) -> tuple[slice, ...]:
        return tuple(slice(s, s + p) for s, p in zip(corner, self.patch, strict=True))

    def _window(
        self, labels: Array, rng: np.random.Generator | None, *, foreground: bool
    ) -> tuple[slice, ...]:
        room = [n - p for n, p in zip(labels.shape, self.patch, strict=True)]
        if not any(room):
            return self._at([0] * len(room))
        if rng is None:
            start = [r // 2 for r in room]
        else:
            start = [int(rng.integers(r + 1)) for r in room]
            inside = np.flatnonzero(labels.ravel() > 0) if foreground else ()
            if len(inside):
                centre = np.unravel_index(int(rng.choice(inside)), labels.shape)
                start = [
                    min(max(int(c) - p // 2, 0), r)
                    for c, p, r in zip(centre, self.patch, room, strict=True)
                ]
        return self._at(start)
