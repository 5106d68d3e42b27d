"""From a task's cases to training samples: images as a network sees them, labels, and the source's transferability."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.channels import read_for
from transfer_risk.drawers import drawer
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
    joints: list[Joint] = []
    with drawer(np.float32) as images, drawer(np.int16) as labels, drawer(np.float32) as thetas:
        for case in cases:
            if progress:
                progress(f"preparing {case.id}")
            volume, given = read_for(source, case, task)
            ready = prepare(source, volume)
            assert ready.labels is not None
            air.append(air_of(source, ready.images))
            kept = ready.counts & (ready.labels >= 0).flatten(1).any(1)
            if ready.counts.any() and not kept.any():
                warnings.warn(
                    f"case {case.id}: is left out of training: source {source.name} sees it at a coarser spacing, where no "
                    "labelled voxel is left; label more slices of it",
                    stacklevel=2,
                )
            images.add(ready.images[kept].numpy())
            labels.add(ready.labels[kept].numpy())
            if mapped and ready.counts.any():
                parts = torch.split(ready.images[ready.counts], BATCH)
                theta = torch.cat([predict_images(source, part, air=air[-1]) for part in parts])
                whole = torch.zeros((len(ready.images), *theta.shape[1:]))
                whole[ready.counts] = theta
                valid = given >= 0
                native = torch.from_numpy(ready.back(whole)[:, valid])[None]
                own = torch.from_numpy(given[valid])[None].long()
                joints.append(Joint.of(native, own, len(task.classes)))
                if kept.any():
                    thetas.add(whole[kept].numpy())
        every = labels.arrays()
        full = [k for k, a in enumerate(every) if len(a)]
        if not full:
            raise ValueError(f"task {task.name}: selects no training slice; look at [slices]")
        shown, targets = images.arrays(), [every[k] for k in full]
        joint = reduce(add, joints) if joints else None
        maps = [] if joint is None else _maps(thetas.arrays(), targets, joint)
    size = source.preprocessing.size or tuple(
        max(a.shape[axis] for a in targets) for axis in range(1, targets[0].ndim)
    )
    return Samples(
        _padded([shown[k] for k in full], size, [air[k] for k in full]),
        _padded(targets, size, [(-1,)] * len(full)),
        _padded(maps, size, [(np.nan,)] * len(maps)),
        tuple(cases[k].id for k in full),
        tuple(size),
        joint,
    )


def _maps(thetas: Sequence[Array], labels: Sequence[Array], joint: Joint) -> list[Array]:
    """Transferability (N_c, *S) of each case, made one slice or volume at a time."""
    least = -float(np.log(joint.counts.shape[1] ** 2 * max(joint.num_pixels, 1.0)))
    with drawer(np.float32) as kept:
        for theta, target in zip(thetas, labels, strict=True):
            rows = []
            for p, y in zip(theta, target, strict=True):
                values = log_expected_prediction(
                    torch.from_numpy(np.array(p))[None],
                    torch.from_numpy(y.astype(np.int64))[None],
                    joint,
                )
                rows.append(values.clamp(min=least)[0].numpy())
            kept.add(np.stack(rows))
        return kept.arrays()


def _padded(
    arrays: Sequence[Array], size: Sequence[int], values: Sequence[Sequence[float]]
) -> tuple[Array, ...]:
    """Data (N, *S) or (N, C, *S), each padded to what the network sees at once; what is larger stays so, for patches.

    Args:
        arrays: Of one type.
        size: At least this.
        values: For each array what it is padded with, in each channel or in all.
    """
    short = [any(n < s for n, s in zip(a.shape[-len(size) :], size, strict=True)) for a in arrays]
    if not any(short):
        return tuple(arrays)
    with drawer(arrays[0].dtype) as kept:
        for data, value, change in zip(arrays, values, short, strict=True):
            kept.add(_pad(data, size, value) if change else data)
        return tuple(kept.arrays())


def _pad(data: Array, size: Sequence[int], values: Sequence[float]) -> Array:
    """Data padded to at least the size with the value of each channel, or the one for all."""
    inner = data.shape[-len(size) :]
    flat = torch.from_numpy(np.array(data)).reshape(len(data), -1, *inner)
    padded, _ = pad_to(flat.float(), size, values=values)
    return padded.reshape(*data.shape[: -len(size)], *padded.shape[2:]).numpy()
