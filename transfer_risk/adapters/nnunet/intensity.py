"""nnU-Net's normalisation schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def normalised(
    image: Array,
    mask: Array,
    schemes: Sequence[str],
    masked: Sequence[bool],
    intensities: Sequence[Mapping[str, float]],
) -> Array:
    """Channels (C, a, b, c) float32 by their schemes.

    Args:
        image: Cropped channels.
        mask: The non-zero region with its holes filled (a, b, c).
        schemes: Name for each channel.
        masked: Whether only the non-zero region of a channel is normalised.
        intensities: Statistics of each channel's foreground, for CT.
    """
    rows = zip(image.astype(np.float32), schemes, masked, intensities, strict=True)
    return np.stack([SCHEMES[name](c, mask if use else None, v) for c, name, use, v in rows])


def _zscore(channel: Array, mask: Array | None, _: Mapping[str, float]) -> Array:
    inside = np.ones(channel.shape, dtype=bool) if mask is None else mask
    values = channel[inside]
    channel[inside] = (values - values.mean()) / max(float(values.std()), 1e-8)
    return channel


def _ct(channel: Array, _: Array | None, values: Mapping[str, float]) -> Array:
    clipped = np.clip(channel, values["percentile_00_5"], values["percentile_99_5"])
    return np.asarray((clipped - values["mean"]) / max(values["std"], 1e-8))


def _none(channel: Array, _: Array | None, __: Mapping[str, float]) -> Array:
    return channel


def _rescale(channel: Array, _: Array | None, __: Mapping[str, float]) -> Array:
    raised = channel - channel.min()
    return np.asarray(raised / max(float(raised.max()), 1e-8))


def _rgb(channel: Array, _: Array | None, __: Mapping[str, float]) -> Array:
    if channel.min() < 0 or channel.max() > 255:
        raise ValueError(
            f"image must have intensities in [0, 255] for RGBTo01Normalization; they lie in "
            f"[{channel.min():g}, {channel.max():g}]"
        )
    return np.asarray(channel / 255)


SCHEMES: dict[str, Callable[[Array, Array | None, Mapping[str, float]], Array]] = {
    "ZScoreNormalization": _zscore,
    "CTNormalization": _ct,
    "NoNormalization": _none,
    "RescaleTo01Normalization": _rescale,
    "RGBTo01Normalization": _rgb,
}
