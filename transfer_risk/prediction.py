"""A source on whole examinations: from the image's grid to the network and back."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from transfer_risk.channels import expected_channels, in_order
from transfer_risk.grids import Prepared, prepared
from transfer_risk.imagefiles import same_geometry
from transfer_risk.outputs import activated
from transfer_risk.sources import Source, out_of_memory
from transfer_risk.tasks import Case
from transfer_risk.volumes import Volume, read_images
from transfer_risk.windows import blended

Array = NDArray[Any]
BATCH = 8


def at_once(dims: int) -> int:
    """Images that go through a network together: slices in batches, volumes or parts of them one by one."""
    return BATCH if dims == 2 else 1


def prepare(source: Source, volume: Volume) -> Prepared:
    """The examination as the source's network sees it: channels in the source's order."""
    if source.prepare is not None:
        return source.prepare(volume)
    return prepared(volume, source.preprocessing, source.spatial_dims)


def predict_case(source: Source, case: Case, volume: Volume) -> Array:
    """Probabilities (Z, X, Y, Z') of a task's case, from the network or from where they are stored."""
    if source.stored is None:
        return predict_volume(source, Volume(volume.image, volume.affine))
    theta = source.stored(case.id)
    wanted = (len(source.classes), *volume.image.shape[1:])
    if theta.shape != wanted:
        raise ValueError(
            f"source {source.name}: probabilities of {case.id} must be {wanted} on the image's grid; got {theta.shape}"
        )
    affine = source.stored_affine(case.id) if source.stored_affine else None
    if affine is not None:
        shape = theta.shape[1:]
        where = f"source {source.name}: probabilities of {case.id}"
        same_geometry(case.images[0], shape, volume.affine, where, shape, affine)
    return theta


def predict_volume(source: Source, volume: Volume, *, every_slice: bool = True) -> Array:
    """Probabilities (Z, X, Y, Z') float32 of the source on the volume's own grid.

    Args:
        source: 2D sources run slice by slice.
        volume: Image channels in the source's order.
        every_slice: Otherwise slices without a voxel that counts are left at 0. Those with one come first in either case,
            in the same batches, so that their probabilities are the same bits.

    Raises:
        ValueError: naming the source, if it cannot work on the volume, or there is not enough memory for it.
    """
    labels = None if source.spatial_dims == 3 else volume.labels
    seen = Volume(volume.image, volume.affine, labels)
    del volume, labels  # whoever called may have let go of it too: memory is what 3D is short of
    with _enough_memory(source):
        ready = prepare(source, seen)
        del seen
        images, counts, back = ready.images, ready.counts, ready.back
        del ready
        give_back_memory()
        air = air_of(source, images)
        if len(images) == 1:
            result = predict_images(source, images, air=air)
        else:
            result = torch.zeros((len(images), len(source.classes), *images.shape[2:]))
            for chosen in (counts, ~counts) if every_slice else (counts,):
                for places in torch.split(chosen.nonzero()[:, 0], BATCH):
                    if len(places):
                        result[places] = predict_images(source, images[places], air=air)
        del images
        return back(result)


@contextmanager
def _enough_memory(source: Source) -> Iterator[None]:
    """Running out of memory as a ValueError with a remedy."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ValueError(
            f"source {source.name}: its probabilities of the image, {len(source.classes)} classes, need more memory than "
            "there is; take a machine with more, or a part or a coarser grid of the image"
        ) from error


def give_back_memory() -> None:
    """Return what is free to the system: glibc keeps it otherwise."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def air_of(source: Source, images: Tensor) -> tuple[float, ...]:
    """What pads each channel of an examination (B, C, *S): its smallest value where a z-score has moved 0, else 0."""
    if source.preprocessing.normalise != "zscore":
        return (0.0,) * images.shape[1]
    return tuple(float(channel.min()) for channel in images.unbind(1))


def predict_images(source: Source, images: Tensor, *, air: Sequence[float] | None = None) -> Tensor:
    """Probabilities of preprocessed images (B, C, *S): padded to the source's size, or in windows where larger.

    Raw outputs of overlapping windows are blended with Gaussian weights before they become probabilities, as MONAI and
    nnU-Net do; windows of 3D sources run one at a time. Padding is `air` of each channel, by default that of these images.
    """
    size, shape = source.preprocessing.size, tuple(images.shape[2:])
    if not size:
        return activated(source.outputs(_channels_last(images)), source.activation)
    if len(size) != len(shape):
        raise ValueError(
            f"source {source.name}: size must have {len(shape)} numbers; got {list(size)}"
        )
    padded, crop = pad_to(images, size, values=air_of(source, images) if air is None else air)
    if any(n > s for n, s in zip(padded.shape[2:], size, strict=True)):
        outputs = _windows(source, padded, size)
    else:
        outputs = source.outputs(_channels_last(padded))
    return activated(outputs[(slice(None), slice(None), *crop)], source.activation)


def check_size(source: Source, volume: Volume, done: set[tuple[int, ...]]) -> None:
    """Run the network on one image of a volume, or on one window of it, unless `done` has its shape, which is added.

    Raises:
        ValueError: if the network cannot work on it.
    """
    size = source.preprocessing.size
    if size and done:  # every window is as large
        return
    images = prepare(source, volume).images[:1]
    if len(size) == source.spatial_dims:
        images = images[(slice(None), slice(None), *map(slice, size))]
    shape = tuple(size or images.shape[2:])
    if shape not in done:
        predict_images(source, images)
        done.add(shape)


def _windows(source: Source, images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Blended raw outputs of images that are larger than the window somewhere and nowhere smaller."""

    def outputs(window: Tensor) -> Tensor:
        if window.ndim == 5:  # what the last window left behind is not added to what this one takes
            give_back_memory()
        return source.outputs(window)

    overlap = source.preprocessing.overlap
    if source.preprocessing.tiling == "even":
        return blended(images, size, overlap, outputs)
    from monai.inferers.utils import sliding_window_inference

    number = at_once(len(size))
    return torch.as_tensor(
        sliding_window_inference(images, size, number, outputs, overlap=overlap, mode="gaussian")
    )


def pad_to(
    images: Tensor, size: Sequence[int], *, values: Sequence[float] = (0.0,)
) -> tuple[Tensor, tuple[slice, ...]]:
    """Images (B, C, *S) padded at both sides to at least the size, and where the originals lie.

    The padding is that of `values` for each channel, or the one for all.
    """
    shape = images.shape[-len(size) :]
    before = [max(0, s - n) // 2 for n, s in zip(shape, size, strict=True)]
    after = [max(0, s - n) - b for n, s, b in zip(shape, size, before, strict=True)]
    widths = [w for pair in zip(before[::-1], after[::-1], strict=True) for w in pair]
    crop = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
    if not any(widths):
        return images, crop
    if len(set(values)) == 1:
        return functional.pad(images, widths, value=values[0]), crop
    padded = [
        functional.pad(channel, widths, value=value)
        for channel, value in zip(torch.split(images, 1, 1), values, strict=True)
    ]
    return torch.cat(padded, 1), crop


def decide(source: Source, probabilities: Array) -> Array:
    """Class indices (int16) by the source's stored decision: argmax over axis 0 of log-probability plus offset.

    Without offsets, regions that overwrite each other (`sigmoid`) are decided as nnU-Net does: the last above one half.
    """
    offsets = source.decision.offsets if source.decision.kind != "argmax" else ()
    if source.activation == "sigmoid" and not offsets:
        return _last_region(probabilities)
    factors = np.exp(np.asarray(offsets or [0.0] * len(probabilities), dtype=np.float32))
    best = probabilities[0] * factors[0]
    winner = np.zeros(best.shape, dtype=np.int16)
    for k in range(1, len(probabilities)):  # numpy's argmax over the first axis copies everything
        value = probabilities[k] * factors[k]
        winner[value > best] = k
        np.maximum(best, value, out=best)
    return winner


def _last_region(probabilities: Array) -> Array:
    """Of classes p_k prod_{j>k} (1 - p_j): the last with p_k above 1/2, which is its share of itself and those before."""
    total = probabilities[0].copy()
    winner = np.zeros(total.shape, dtype=np.int16)
    for k in range(1, len(probabilities)):
        total += probabilities[k]
        winner[probabilities[k] > total / 2] = k
    return winner


def refuse_stored(source: Source, what: str) -> None:
    """Raise ValueError for a source without a network, which cannot do what is asked, such as `be fine-tuned`."""
    if source.stored is not None:
        raise ValueError(
            f"source {source.name} is nothing but saved probabilities; it cannot {what}"
        )


def predict(
    source: Source, images: Sequence[str | Path], *, channels: Sequence[str] | None = None
) -> tuple[Array, Array, Array]:
    """Raw label map (X, Y, Z), probabilities (Z, X, Y, Z') and affine for one examination's channel files.

    Args:
        source: The model.
        images: A file for each channel.
        channels: Their names; `expected_channels` in order where not given. Those that lack are stood in for where the
            source says how (`missing_channels`).

    Raises:
        ValueError: if a channel that the source wants has no file, or a file cannot be read.
    """
    refuse_stored(source, "predict a new image")
    expected = expected_channels(source)
    given = tuple(expected[: len(images)] if channels is None else channels)
    stands_in = bool(source.missing_channels) and expected == source.channels
    if len(images) != len(given) or not (set(given) == set(expected) or stands_in):
        end = (
            ""
            if expected != source.channels
            else ", or stand in for others with --missing-channels zero or repeat"
        )
        raise ValueError(
            f"source {source.name} wants one file for each of the channels {list(expected)}; got {len(images)} "
            f"({', '.join(map(str, images))}); name those of one examination <case>_0000.nii.gz and so on{end}"
        )
    volume = [in_order(source, read_images(tuple(str(p) for p in images)), given)]
    affine = volume[0].affine
    probabilities = predict_volume(source, volume.pop())
    raw = np.asarray(source.values, dtype=np.int16)[decide(source, probabilities)]
    return raw, probabilities, affine


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images


def reason(name: str, error: ValueError) -> str:
    """Why a case or a file cannot be used, with its name.

    >>> reason("1", ValueError("image must have 3 axes; got 11"))
    '1: image must have 3 axes; got 11'
    """
    named = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error))
    return str(error) if named else f"{name}: {error}"
