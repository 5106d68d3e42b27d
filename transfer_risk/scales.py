"""Scales of transferability over many maps, one map at a time in memory, exact to the last value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.riskmap import Span

Array = NDArray[Any]


def common_span(maps: Sequence[Array], *, clip: float = 0.0) -> Span:
    """Span over all maps together, float32 arrays that are NaN where ignored; what `Span.of` says of one array.

    Args:
        maps: T in nats; each is read at most five times.
        clip: Percentile of all values that takes the place of their minimum; 0 = off.
    """
    ends = [Span.of(torch.from_numpy(np.array(m))) for m in maps if not np.isnan(m).all()]
    if not ends:
        return Span(torch.zeros(()), torch.zeros(()))
    low = torch.stack([e.low for e in ends]).min()
    high = torch.stack([e.high for e in ends]).max()
    return Span(torch.tensor(percentile(maps, clip)).to(low) if clip else low, high)


def percentile(maps: Sequence[Array], percent: float) -> float:
    """Percentile of the values of all maps, NaN left out; as `np.percentile` of them in one float32 array."""
    count = sum(int((~np.isnan(m)).sum()) for m in maps)
    position = (count - 1) * percent / 100
    rank = int(position)
    low = _ranked(maps, rank)
    high = _ranked(maps, min(rank + 1, count - 1))
    return low + (high - low) * (position - rank)


def _ranked(maps: Sequence[Array], rank: int) -> float:
    """The value of that rank, 0 = smallest: two counts by halves of the bit pattern, which orders floats."""
    upper = sum(np.bincount(_keys(m) >> 16, minlength=2**16) for m in maps)
    top = int(np.searchsorted(np.cumsum(upper), rank, side="right"))
    rest = rank - int(np.sum(np.asarray(upper)[:top]))
    lower: Any = 0
    for values in maps:
        keys = _keys(values)
        lower = lower + np.bincount(keys[keys >> 16 == top] & 0xFFFF, minlength=2**16)
    key = np.uint32(top << 16 | int(np.searchsorted(np.cumsum(lower), rest, side="right")))
    bits = key ^ np.uint32(0x80000000) if key >> 31 else ~key
    return float(np.asarray(bits, np.uint32).reshape(1).view(np.float32)[0])


def _keys(values: Array) -> Array:
    """Unsigned integers in the order of the float32 values, NaN left out."""
    bits = np.asarray(values[~np.isnan(values)], np.float32).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
