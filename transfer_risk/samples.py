"""What training draws from: slices or volumes as a network sees them, with labels and transferability, on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transfer_risk.passes import read_for
from transfer_risk.prediction import BATCH, pad_to, predict_images, prepare
from transfer_risk.riskmap import Span
from transfer_risk.scales import common_span
from transfer_risk.tasks import Case, Source, Task
from transfer_risk.transferability import Joint, log_expected_prediction

Progress = Callable[[str], None]
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

        Every other patch is centred on a foreground voxel of its sample.
        """
        chosen = np.sort(rng.choice(len(self), size, replace=len(self) < size))
        return self.batch(chosen, rng)

    def batch(self, places: Array, rng: np.random.Generator | None = None) -> Batch:
        """The samples at some places; of larger ones a patch each, at random with `rng`, else the middle."""
        windows = [
            self._window(self._labels(place), rng, foreground=number % 2 == 0)
            for number, place in enumerate(places)
        ]
        return self._stacked(places, windows)

    def covering(self) -> Iterator[Batch]:
        """Batches of one patch each that together cover all samples; pixels where two overlap come twice."""
        for place in range(len(self)):
            starts = [
                sorted({min(start, n - p) for start in range(0, n, p)})
                for n, p in zip(self._labels(place).shape, self.patch, strict=True)
            ]
            for corner in product(*starts):
                yield self._stacked(np.array([place]), [self._at(corner)])

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


def collect(
    source: Source,
    cases: Sequence[Case],
    task: Task,
    *,
    mapped: bool,
    progress: Progress | None = None,
) -> Samples:
    """Training samples of the cases as the source sees them; with the source's transferability where `mapped`.

    The joint is that of all given voxels on the images' own grids; T is taken on the grid that the network sees, with
    that joint, and is at least -log(Z^2 N), the bound that holds on the joint's own voxels.

    Raises:
        ValueError: if a case cannot be read or predicted, or nothing is selected.
    """
    images: list[Array] = []
    labels: list[Array] = []
    thetas: list[Array] = []
    joints: list[Joint] = []
    for case in cases:
        if progress:
            progress(f"preparing {case.id}")
        volume = read_for(source, case, task)
        ready = prepare(source, volume)
        assert ready.labels is not None and volume.labels is not None
        used, target = ready.images[ready.counts], ready.labels[ready.counts]
        images.append(_stored(used.numpy()))
        labels.append(_stored(target.numpy().astype(np.int16)))
        if mapped and len(used):
            theta = torch.cat([predict_images(source, part) for part in torch.split(used, BATCH)])
            whole = torch.zeros((len(ready.images), *theta.shape[1:]))
            whole[ready.counts] = theta
            valid = volume.labels >= 0
            native = torch.from_numpy(ready.back(whole)[:, valid])[None]
            own = torch.from_numpy(volume.labels[valid])[None].long()
            joints.append(Joint.of(native, own, len(task.classes)))
            thetas.append(_stored(theta.numpy()))
    if not sum(len(a) for a in labels):
        raise ValueError(f"task {task.name}: selects no training slice; look at [slices]")
    joint = reduce(add, joints) if joints else None
    maps = [] if joint is None else list(_maps(thetas, [a for a in labels if len(a)], joint))
    return _equal_sizes(images, labels, maps, source, tuple(c.id for c in cases), joint)


def _maps(thetas: list[Array], labels: list[Array], joint: Joint) -> Iterator[Array]:
    """Transferability (N_c, *S) of each case, one slice or volume at a time."""
    least = -float(np.log(joint.counts.shape[1] ** 2 * max(joint.num_pixels, 1.0)))
    for theta, target in zip(thetas, labels, strict=True):
        rows = []
        for p, y in zip(theta, target, strict=True):
            values = log_expected_prediction(
                torch.from_numpy(np.array(p))[None],
                torch.from_numpy(y.astype(np.int64))[None],
                joint,
            )
            rows.append(values.clamp(min=least)[0].numpy())
        yield _stored(np.stack(rows))


def _equal_sizes(
    images: list[Array],
    labels: list[Array],
    maps: list[Array],
    source: Source,
    ids: tuple[str, ...],
    joint: Joint | None,
) -> Samples:
    """Everything padded to what the network sees at once; what is larger stays so, for patches."""
    full = [k for k, a in enumerate(labels) if len(a)]
    size = source.preprocessing.size or tuple(
        max(labels[k].shape[axis] for k in full) for axis in range(1, labels[full[0]].ndim)
    )
    air = [
        float(images[k].min()) if source.preprocessing.normalise == "zscore" else 0.0 for k in full
    ]
    return Samples(
        tuple(_padded(images[k], size, v) for k, v in zip(full, air, strict=True)),
        tuple(_padded(labels[k], size, -1) for k in full),
        tuple(_padded(m, size, np.nan) for m in maps),
        tuple(ids[k] for k in full),
        tuple(size),
        joint,
    )


def _padded(data: Array, size: Sequence[int], value: float) -> Array:
    """Data (N, ..., *S) padded with `value` to at least the size."""
    shape = data.shape[-len(size) :]
    if all(n >= s for n, s in zip(shape, size, strict=True)):
        return data
    flat = torch.from_numpy(np.array(data)).reshape(len(data), -1, *shape)
    padded, _ = pad_to(flat.float(), size, value=value)
    result = padded.reshape(*data.shape[: -len(size)], *padded.shape[2:])
    return _stored(result.numpy().astype(data.dtype))


def _stored(data: Array) -> Array:
    """The same array in an unnamed temporary file, paged in when it is read.

    Raises:
        OSError: naming the folder of temporary files, if it is full.
    """
    if not data.size:
        return data
    with tempfile.TemporaryFile() as file:
        try:
            file.write(np.ascontiguousarray(data).tobytes())
            file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"{tempfile.gettempdir()}: the training data could not be kept there ({error.strerror or error}); set "
                "TMPDIR to a folder with more space",
            ) from error
        return np.memmap(file, data.dtype, "r", shape=data.shape)
