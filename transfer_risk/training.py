"""Training on the slices of a task: one visible loop."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from torch import Tensor

from transfer_risk.losses import soft_dice_loss, vanilla_loss
from transfer_risk.networks import UNet
from transfer_risk.prediction import pad_to
from transfer_risk.tasks import Case, Preprocessing, Source, Task
from transfer_risk.volumes import Grid, Volume, prepared, read

Progress = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class SliceStore:
    """Preprocessed training slices of equal size: images (N, C, h, w) float32, labels (N, h, w) int16.

    They lie in unnamed temporary files that the system pages in and out, so memory stays bounded.
    """

    images: np.memmap
    labels: np.memmap

    @classmethod
    def of(cls, cases: Sequence[Case], task: Task, preprocessing: Preprocessing) -> SliceStore:
        """Slices of the cases that the task selects, on the source's grid.

        Raises:
            ValueError: if no slice is selected, or a case cannot be read.
        """
        size = preprocessing.size or common_size(cases, preprocessing)
        with tempfile.TemporaryFile() as images, tempfile.TemporaryFile() as labels:
            count = 0
            for case in cases:
                batch, target = training_slices(read(case, task), preprocessing, size)
                images.write(batch.numpy().astype(np.float32).tobytes())
                labels.write(target.numpy().astype(np.int16).tobytes())
                count += len(batch)
            if not count:
                raise ValueError(f"task {task.name}: selects no training slice; look at [slices]")
            images.flush()
            labels.flush()
            shape = (count, len(task.channels), *size)
            return cls(
                np.memmap(images, np.float32, "r", shape=shape),
                np.memmap(labels, np.int16, "r", shape=(count, *size)),
            )

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.labels)

    def batch(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images, channels last in memory, and labels (int64) of some slices."""
        images = torch.from_numpy(self.images[places])
        labels = torch.from_numpy(self.labels[places]).long()
        return images.contiguous(memory_format=torch.channels_last), labels


def common_size(cases: Sequence[Case], preprocessing: Preprocessing) -> tuple[int, ...]:
    """Smallest slice size that holds every case on the source's grid; only headers are read."""
    sizes = []
    for case in cases:
        try:
            header = nib.load(case.images[0].partition("#")[0])
        except (OSError, ImageFileError) as error:
            raise ValueError(f"{case.images[0]}: cannot be read as an image ({error})") from None
        shape = (1, *header.shape[:3])
        empty = np.broadcast_to(np.float32(0), shape)
        sizes.append(Grid.of(Volume(empty, header.affine), preprocessing, 2).resized)
    return tuple(max(column) for column in zip(*sizes, strict=True))


def training_slices(
    volume: Volume, preprocessing: Preprocessing, size: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Slices of a volume that count: images (n, C, h, w), labels (n, h, w), padded or centrally cropped to size."""
    ready = prepared(volume, preprocessing, 2)
    assert ready.labels is not None
    images, labels = ready.images[ready.counts], ready.labels[ready.counts]
    air = float(images.min()) if preprocessing.normalise == "zscore" and images.numel() else 0.0
    images, _ = pad_to(images, size, value=air)
    labels = pad_to(labels[:, None].float(), size, value=-1)[0][:, 0].long()
    crop = tuple(
        slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(images.shape[2:], size, strict=True)
    )
    return images[(slice(None), slice(None), *crop)], labels[(slice(None), *crop)]


def pretrain(
    task: Task,
    *,
    name: str | None = None,
    cases: Sequence[Case] | None = None,
    iterations: int = 2_000,
    batch: int = 8,
    lr: float = 1e-3,
    width: int = 32,
    depth: int = 5,
    seed: int = 0,
    licence: str = "",
    progress: Progress | None = None,
) -> Source:
    """A 2D U-Net trained from scratch on the training cases with cross-entropy + soft Dice, Adam.

    Args:
        task: Its `training` preprocessing becomes the source's.
        name: Of the source; the task's where not given.
        cases: Instead of the training cases.
        iterations: Steps.
        batch: Slices per step.
        lr: Learning rate, lowered to 0 along a half cosine.
        width: Features of the first level.
        depth: Levels.
        seed: Of weights and order.
        licence: SPDX name that the source is given.
        progress: Called with iteration and loss.

    Raises:
        ValueError: if a number is out of range, or no training slice has foreground.
        FloatingPointError: if the loss is no longer finite.
    """
    if min(iterations, batch) < 1 or lr <= 0:
        raise ValueError(
            f"iterations, batch and lr must be positive; got {iterations}, {batch} and {lr}"
        )
    used = task.split("train") if cases is None else cases
    preprocessing = _preprocessing(task, used)
    store = SliceStore.of(used, task, preprocessing)
    if not (store.labels > 0).any():
        raise ValueError(
            f"task {task.name}: no foreground in the training slices; look at [labels]"
        )
    torch.manual_seed(seed)
    network = UNet(len(task.channels), len(task.classes), width=width, depth=depth)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    order = np.random.default_rng(seed)
    for iteration in range(1, iterations + 1):
        images, labels = store.batch(
            np.sort(order.choice(len(store), batch, replace=len(store) < batch)).tolist()
        )
        logits = network(images)
        loss = vanilla_loss(logits, labels) + soft_dice_loss(logits, labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at iteration {iteration}; try a lower lr than {lr}"
            )
        if progress:
            progress(iteration, loss.item())
    network.eval()
    return Source(
        name=name or task.name,
        network=network,
        classes=task.classes,
        channels=task.channels,
        labels={c: values[0] for c, values in task.labels.items()},
        preprocessing=preprocessing,
        licence=licence,
        trained={
            "task": task.name,
            "dataset": Path(task.root).name,
            "cases": [c.id for c in used],
            "iterations": iterations,
            "seed": seed,
        },
        architecture={"target": "unet", "width": width, "depth": depth},
    )


def _preprocessing(task: Task, cases: Sequence[Case]) -> Preprocessing:
    """The task's, with the slice axis and the orientation of the first case filled in."""
    affine = nib.load(cases[0].images[0].partition("#")[0]).affine
    codes = "".join(str(c) for c in nib.aff2axcodes(affine))
    given = task.training
    return replace(given, orientation=given.orientation or codes, axis=task.slices.axis)
