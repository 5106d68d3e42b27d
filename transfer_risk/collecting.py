"""From a task's cases to training samples: images as a network sees them, labels, and the source's transferability."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.channels import read_for
from transfer_risk.prediction import BATCH, air_of, pad_to, predict_images, prepare
from transfer_risk.samples import Samples
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transferability import Joint, log_expected_prediction

Array = NDArray[Any]


def collect(
    source: Source,
    cases: Sequence[Case],
    task: Task,
    *,
    mapped: bool,
    progress: Tell | None = None,
) -> Samples:
    """Training samples of the cases as the source sees them; with the source's transferability where `mapped`.

    The joint is that of all given voxels on the images' own grids; T is taken on the grid that the network sees, with
    that joint, and is at least -log(Z^2 N), the bound that holds on the joint's own voxels.

    Raises:
        ValueError: if a case cannot be read or predicted, or nothing is selected.
    """
    air: list[tuple[float, ...]] = []
    images: list[Array] = []
    labels: list[Array] = []
    thetas: list[Array] = []
    joints: list[Joint] = []
    for case in cases:
        if progress:
            progress(f"preparing {case.id}")
        volume, given = read_for(source, case, task)
        ready = prepare(source, volume)
        assert ready.labels is not None
        air.append(air_of(source, ready.images))
        used, target = ready.images[ready.counts], ready.labels[ready.counts]
        images.append(_stored(used.numpy()))
        labels.append(_stored(target.numpy().astype(np.int16)))
        if mapped and len(used):
            parts = torch.split(used, BATCH)
            theta = torch.cat([predict_images(source, part, air=air[-1]) for part in parts])
            whole = torch.zeros((len(ready.images), *theta.shape[1:]))
            whole[ready.counts] = theta
            valid = given >= 0
            native = torch.from_numpy(ready.back(whole)[:, valid])[None]
            own = torch.from_numpy(given[valid])[None].long()
            joints.append(Joint.of(native, own, len(task.classes)))
            thetas.append(_stored(theta.numpy()))
    if not sum(len(a) for a in labels):
        raise ValueError(f"task {task.name}: selects no training slice; look at [slices]")
    joint = reduce(add, joints) if joints else None
    maps = [] if joint is None else list(_maps(thetas, [a for a in labels if len(a)], joint))
    return _equal_sizes(images, labels, maps, air, source, tuple(c.id for c in cases), joint)


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
    air: list[tuple[float, ...]],
    source: Source,
    ids: tuple[str, ...],
    joint: Joint | None,
) -> Samples:
    """Everything padded to what the network sees at once; what is larger stays so, for patches."""
    full = [k for k, a in enumerate(labels) if len(a)]
    size = source.preprocessing.size or tuple(
        max(labels[k].shape[axis] for k in full) for axis in range(1, labels[full[0]].ndim)
    )
    return Samples(
        tuple(_padded(images[k], size, air[k]) for k in full),
        tuple(_padded(labels[k], size, (-1,)) for k in full),
        tuple(_padded(m, size, (np.nan,)) for m in maps),
        tuple(ids[k] for k in full),
        tuple(size),
        joint,
    )


def _padded(data: Array, size: Sequence[int], values: Sequence[float]) -> Array:
    """Data (N, *S) or (N, C, *S) padded to at least the size with the value of each channel, or the one for all."""
    shape = data.shape[-len(size) :]
    if all(n >= s for n, s in zip(shape, size, strict=True)):
        return data
    flat = torch.from_numpy(np.array(data)).reshape(len(data), -1, *shape)
    padded, _ = pad_to(flat.float(), size, values=values)
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
