"""From what a network returns to logits and probabilities at the input's resolution. Pure torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 1e-7
"""Probability below which a log-probability is not followed further, so that gradients stay finite."""


def head(outputs: Any, shape: Sequence[int], channels: Sequence[int]) -> Tensor:
    """The tensor (B, Z, *S) among a network's outputs that is the segmentation, at the size of its input.

    Of several (deep supervision in lists, tuples or dictionaries, or stacked as (B, heads, Z, *S)) the first of the
    highest resolution; a lower resolution than the input's is interpolated linearly.

    Args:
        outputs: What the network returned.
        shape: Spatial shape *S of the images.
        channels: Numbers of channels that the segmentation may have.

    Raises:
        ValueError: saying what was returned, if there is no such tensor.
    """
    tensors = [t for t in _tensors(outputs) if t.is_floating_point()]
    stacked = [t[:, 0] for t in tensors if t.ndim == len(shape) + 3]
    fitting = [
        t for t in (*tensors, *stacked) if t.ndim == len(shape) + 2 and t.shape[1] in channels
    ]
    if not fitting:
        wanted = " or ".join(str(c) for c in channels)
        raise ValueError(
            f"must return logits (B, {wanted}, *S) for images with *S = {tuple(shape)}; it returned {described(outputs)}"
        )
    best = max(fitting, key=lambda t: t[0, 0].numel())  # of equal ones the first
    if tuple(best.shape[2:]) == tuple(shape):
        return best
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return functional.interpolate(best, tuple(shape), mode=mode, align_corners=False)


def described(outputs: Any) -> str:
    """Types and shapes of what a network returned, on one line."""
    if isinstance(outputs, Tensor):
        return f"a tensor {tuple(outputs.shape)} of {str(outputs.dtype).removeprefix('torch.')}"
    if isinstance(outputs, Mapping):
        parts = [f"{key}: {described(value)}" for key, value in outputs.items()]
        return f"a {type(outputs).__name__} with {'; '.join(parts[:6]) or 'nothing'}"
    if isinstance(outputs, list | tuple):
        parts = [described(value) for value in outputs]
        return f"a {type(outputs).__name__} of {'; '.join(parts[:6]) or 'nothing'}"
    return f"a {type(outputs).__name__}"


def activate(outputs: Tensor, activation: str) -> Tensor:
    """Probabilities (B, Z, *S) that sum to 1, from raw outputs.

    `sigmoid`, one channel p: (1-p, p); several: class k = p_k prod_{j>k} (1-p_j), background prod (1-p_j).
    `regions`: nested, outermost first: p_k <- min(p_k, p_{k-1}); class k = p_k - p_{k+1}; background 1 - p_1.
    `none`: the outputs are probabilities; one channel p: (1-p, p).
    """
    if activation == "softmax":
        return outputs.softmax(1)
    if activation == "none":
        return torch.cat([1 - outputs, outputs], 1) if outputs.shape[1] == 1 else outputs
    p = outputs.sigmoid()
    if activation == "regions":
        p = torch.cummin(p, 1).values
        inner = torch.cat([p[:, 1:], torch.zeros_like(p[:, :1])], 1)
        return torch.cat([1 - p[:, :1], p - inner], 1)
    no = (-outputs).sigmoid()  # 1 - p, exact also where p is close to 1
    free = torch.flip(torch.cumprod(torch.flip(no, (1,)), 1), (1,))  # prod_{j>=k} (1-p_j)
    later = torch.cat([free[:, 1:], torch.ones_like(p[:, :1])], 1)
    return torch.cat([free[:, :1], p * later], 1)


def activated(outputs: Tensor, activation: str) -> Tensor:
    """As `activate`, a slab at a time; in the memory of the outputs where the number of channels stays."""
    channels = activate(outputs[:, :, :1], activation).shape[1]
    same = channels == outputs.shape[1]
    shape = (len(outputs), channels, *outputs.shape[2:])
    result = outputs if same else outputs.new_empty(shape)
    for slab, made in zip(torch.split(outputs, 16, 2), torch.split(result, 16, 2), strict=True):
        made.copy_(activate(slab, activation))
    return result


def class_logits(outputs: Tensor, activation: str) -> Tensor:
    """Logits (B, Z, *S) whose softmax is `activate(outputs, activation)`, with gradients.

    `softmax`: the outputs; `sigmoid` of one channel x: (0, x); else the log of the probabilities, at least SMALLEST.

    >>> x = torch.tensor([[[0.0, 2.0]]])
    >>> torch.allclose(class_logits(x, "sigmoid").softmax(1), activate(x, "sigmoid"))
    True
    """
    if activation == "softmax":
        return outputs
    if activation == "sigmoid" and outputs.shape[1] == 1:
        return torch.cat([torch.zeros_like(outputs), outputs], 1)
    return activate(outputs, activation).clamp(min=SMALLEST).log()


def check_meaning(outputs: Tensor, activation: str) -> None:
    """Raise ValueError where outputs contradict the declared activation: NaN, probabilities taken for logits, or not.

    Probabilities are recognised only where no logits could look alike: channels that sum to 1 everywhere, or a single
    channel that fills [0, 1] and never leaves it.
    """
    if not bool(torch.isfinite(outputs).all()):
        raise ValueError(
            "predicts NaN or infinity; check its weights and the intensities it expects"
        )
    low, high = (float(v) for v in outputs.aminmax())
    sums = outputs.sum(1)
    distributed = low >= 0 and float((sums - 1).abs().max()) < 1e-3
    filled = outputs.shape[1] == 1 and 0 <= low < 0.01 and 0.99 < high <= 1
    if activation == "none":
        if not (distributed or (outputs.shape[1] == 1 and low >= 0 and high <= 1)):
            raise ValueError(
                f'must return probabilities that sum to 1 for activation = "none"; its outputs lie in [{low:.3g}, '
                f'{high:.3g}] with sums in [{float(sums.min()):.3g}, {float(sums.max()):.3g}]; set activation = "softmax", '
                '"sigmoid" or "regions"'
            )
    elif (distributed and outputs.shape[1] > 1) or filled:
        raise ValueError(
            f'must return logits for activation = "{activation}"; its outputs already are probabilities (in '
            f'[{low:.3g}, {high:.3g}]); set activation = "none"'
        )


def num_channels(activation: str, num_classes: int) -> tuple[int, ...]:
    """Numbers of output channels that a network for so many classes may have."""
    if activation == "softmax":
        return (num_classes,)
    if activation == "none":
        return (num_classes, 1) if num_classes == 2 else (num_classes,)
    return (num_classes - 1,)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    """All tensors, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for value in outputs.values():
            yield from _tensors(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _tensors(value)
