"""A source on whole examinations: from the image's grid to the network and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transfer_risk.tasks import Case, Source
from transfer_risk.volumes import Prepared, Volume, prepared, read_images, write

Array = NDArray[Any]
BATCH = 8


def channel_order(source: Source, channels: Sequence[str]) -> list[int]:
    """Where each of the source's channels stands among those of a task: by name, else by position.

    Raises:
        ValueError: if neither names nor number agree.
    """
    if set(source.channels) <= set(channels):
        return [list(channels).index(c) for c in source.channels]
    if len(source.channels) == len(channels):
        return list(range(len(channels)))
    raise ValueError(
        f"source {source.name} wants the channels {list(source.channels)}; the task has {list(channels)}"
    )


def prepare(source: Source, volume: Volume) -> Prepared:
    """The examination as the source's network sees it: channels in the source's order."""
    if source.prepare is not None:
        return source.prepare(volume)
    return prepared(volume, source.preprocessing, source.spatial_dims)


def predict_case(source: Source, case: Case, volume: Volume, *, every_slice: bool = True) -> Array:
    """Probabilities (Z, X, Y, Z') of a task's case, from the network or from where they are stored."""
    if source.stored is None:
        return predict_volume(source, volume, every_slice=every_slice)
    theta = source.stored(case.id)
    wanted = (len(source.classes), *volume.image.shape[1:])
    if theta.shape != wanted:
        raise ValueError(
            f"source {source.name}: probabilities of {case.id} must be {wanted} on the image's grid; got {theta.shape}"
        )
    return theta


def predict_volume(source: Source, volume: Volume, *, every_slice: bool = True) -> Array:
    """Probabilities (Z, X, Y, Z') float32 of the source on the volume's own grid.

    Args:
        source: 2D sources run slice by slice.
        volume: Image channels in the source's order.
        every_slice: Otherwise slices without a voxel that counts are left at 0.
    """
    ready = prepare(source, volume)
    wanted = torch.ones_like(ready.counts) if every_slice else ready.counts
    result = torch.zeros((len(ready.images), len(source.classes), *ready.images.shape[2:]))
    for places in torch.split(wanted.nonzero()[:, 0], BATCH):
        result[places] = predict_images(source, ready.images[places])
    return ready.back(result)


def predict_images(source: Source, images: Tensor) -> Tensor:
    """Probabilities of preprocessed images (B, C, *S): padded to the source's size, or in windows where larger."""
    size, shape = source.preprocessing.size, tuple(images.shape[2:])
    if not size:
        return source.predict(_channels_last(images))
    if len(size) != len(shape):
        raise ValueError(
            f"source {source.name}: size must have {len(shape)} numbers; got {list(size)}"
        )
    air = float(images.min()) if source.preprocessing.normalise == "zscore" else 0.0
    padded, crop = pad_to(images, size, value=air)
    if any(n > s for n, s in zip(padded.shape[2:], size, strict=True)):
        from monai.inferers.utils import sliding_window_inference

        windows = sliding_window_inference(
            padded, size, BATCH, source.predict, overlap=0.25, mode="gaussian"
        )
        probabilities = torch.as_tensor(windows)
    else:
        probabilities = source.predict(_channels_last(padded))
    return probabilities[(slice(None), slice(None), *crop)]


def pad_to(
    images: Tensor, size: Sequence[int], *, value: float = 0.0
) -> tuple[Tensor, tuple[slice, ...]]:
    """Images (B, C, *S) padded at both sides to at least the size, and where the originals lie.

    The padding is `value`.
    """
    shape = images.shape[-len(size) :]
    before = [max(0, s - n) // 2 for n, s in zip(shape, size, strict=True)]
    after = [max(0, s - n) - b for n, s, b in zip(shape, size, before, strict=True)]
    widths = [w for pair in zip(before[::-1], after[::-1], strict=True) for w in pair]
    crop = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    return functional.pad(images, widths, value=value), crop


def decide(source: Source, probabilities: Array) -> Array:
    """Class indices by the source's stored decision: argmax over axis 0 of log-probability plus offset."""
    offsets = source.decision.offsets
    if source.decision.kind == "argmax" or not offsets:
        return np.asarray(probabilities.argmax(0))
    shift = np.exp(np.asarray(offsets, dtype=np.float32)).reshape(
        -1, *[1] * (probabilities.ndim - 1)
    )
    return np.asarray((probabilities * shift).argmax(0))


def predict(source: Source, images: Sequence[str | Path]) -> tuple[Array, Array, Array]:
    """Raw label map (X, Y, Z), probabilities (Z, X, Y, Z') and affine for one examination's channel files."""
    if source.stored is not None:
        raise ValueError(
            f"source {source.name} is nothing but saved probabilities; it cannot predict a new image"
        )
    if len(images) != len(source.channels):
        raise ValueError(
            f"source {source.name} wants one file for each of the channels {list(source.channels)}; got {len(images)}"
        )
    volume = read_images(tuple(str(p) for p in images))
    probabilities = predict_volume(source, volume)
    values = [0] + [source.labels.get(name, k) for k, name in enumerate(source.classes) if k]
    raw = np.asarray(values, dtype=np.int16)[decide(source, probabilities)]
    return raw, probabilities, volume.affine


def write_predictions(
    source: Source, images: Sequence[str | Path], out: str | Path, *, probabilities: bool = False
) -> tuple[list[Path], list[str]]:
    """Predict each examination; the label maps written, and a sentence for each that failed.

    Args:
        source: The model.
        images: One file per examination, or nnU-Net style `<case>_0000.nii.gz` for several channels.
        out: Folder for `<case>.nii.gz`.
        probabilities: Write `<case>_probabilities.nii.gz` (X, Y, Z, classes) too.
    """
    paths, failed = [], []
    for name, files in _examinations(images, len(source.channels)).items():
        try:
            raw, theta, affine = predict(source, files)
            paths.append(Path(out) / f"{name}.nii.gz")
            write(
                paths[-1], raw, affine, note=f"transfer-risk {source.name} {source.decision.kind}"
            )
            if probabilities:
                volume = np.ascontiguousarray(np.moveaxis(theta, 0, -1))
                write(Path(out) / f"{name}_probabilities.nii.gz", volume, affine)
        except ValueError as error:
            failed.append(str(error))
    return paths, failed


def _examinations(images: Sequence[str | Path], channels: int) -> dict[str, list[Path]]:
    """Files by examination: `<case>_0000` and so on together where the source has several channels."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(Path(p) for p in images):
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        groups.setdefault(name[:-5] if channels > 1 or name[-5:] == "_0000" else name, []).append(
            path
        )
    return groups


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
