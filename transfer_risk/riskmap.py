"""Risk maps: transferability (nats) -> hardness [0, 1] -> risk [1, base]; eq. 5-6 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from transfer_risk.options import LARGEST_BASE, Extent, check_word
from transfer_risk.transferability import Joint, as_tensor, given, log_expected_prediction


@dataclass(frozen=True, eq=False)
class Span:
    """Scale of a hardness map: transferability from `low` (hardness 1) to `high` (hardness 0), in nats.

    Two maps can be compared on one span only. The span of a map that is NaN throughout is NaN, and adds nothing to another
    (`|`). Tensors broadcast over the batch: shape () or (B,).
    """

    low: Tensor
    high: Tensor

    def __post_init__(self) -> None:
        """Check the order of the ends.

        Raises:
            ValueError: if low is above high.
        """
        if bool((self.low > self.high).any()):
            raise ValueError(f"span must have low <= high; got {self.low} and {self.high}")

    @classmethod
    def of(cls, transferability: Tensor, *, per_image: bool = False, clip: float = 0.0) -> Span:
        """Span of a map (B, *S) that is NaN where ignored.

        Args:
            transferability: Nats, at most 0.
            per_image: One span for each of the B images (2D: what the network sees at once) instead of one for all.
            clip: Percentile of the map, in [0, 100), that takes the place of its minimum; 0 is the paper.
        """
        if not 0 <= clip < 100:
            raise ValueError(f"clip must be a percentile in [0, 100); got {clip}")
        if per_image:
            ends = [cls.of(image[None], clip=clip) for image in transferability]
            return cls(torch.stack([e.low for e in ends]), torch.stack([e.high for e in ends]))
        ignored = transferability.isnan()
        if bool(ignored.all()):
            nothing = transferability.new_full((), torch.nan)
            return cls(nothing, nothing)
        low = transferability.masked_fill(ignored, torch.inf).amin()
        high = transferability.masked_fill(ignored, -torch.inf).amax()
        if clip:  # torch.quantile refuses more than 2^24 elements
            values = transferability[~ignored].cpu().numpy()
            low = torch.as_tensor(np.percentile(values, clip)).to(transferability)
        return cls(low, high)

    def __or__(self, other: Span) -> Span:
        """The span that covers both."""
        return Span(torch.fmin(self.low, other.low), torch.fmax(self.high, other.high))


@dataclass(frozen=True, eq=False)
class RiskMap:
    """Transferability of a batch with the scale on which it is read.

    Args:
        transferability: T (B, *S) in nats, NaN where ignored.
        span: Scale; `Span.of(T)` if all of this batch is one set.
        base: R = base ** H; 10 in the paper.
        min_range: Nats; an image whose T spans less has hardness 0, for min-max would stretch noise. 0 is the paper.

    >>> print(RiskMap(torch.tensor([[-2.0, -1.0, 0.0]]), Span(torch.tensor(-2.0), torch.tensor(0.0))).hardness)
    tensor([[1.0000, 0.5000, 0.0000]])
    """

    transferability: Tensor
    span: Span
    base: float = 10.0
    min_range: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if base is not from 1 to 1e6, or min_range negative.
        """
        check_base(self.base)
        if not self.min_range >= 0:
            raise ValueError(f"min_range must be at least 0 nats; got {self.min_range}")

    @property
    def hardness(self) -> Tensor:
        """H = (high - T) / (high - low) in [0, 1], 1 = hardest; 0 for a constant map, NaN where ignored (eq. 5)."""
        shape = (-1, *[1] * (self.transferability.ndim - 1))
        low, high = self.span.low.reshape(shape), self.span.high.reshape(shape)
        width = high - low
        hardness = (high - self.transferability) / torch.where(width > 0, width, 1.0)
        hardness = torch.where(self.transferability.isneginf(), 1.0, hardness)
        flat = (width <= 0) | (width < self.min_range)
        return torch.where(flat & ~hardness.isnan(), 0.0, hardness.clamp(0, 1))

    @property
    def risk(self) -> Tensor:
        """R = base ** H in [1, base], 0 where ignored (eq. 6)."""
        hardness = self.hardness
        return torch.where(hardness.isnan(), 0.0, self.base**hardness)


def check_base(base: float) -> None:
    """Raise ValueError unless a base is from 1 to 1e6: beyond, float32 and files would not hold the risk."""
    if not 1 <= base <= LARGEST_BASE:
        raise ValueError(f"base must be from 1 to {LARGEST_BASE:g}; got {base}")


def class_means(risk: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Risk (B, *S) with each pixel's value replaced by its class's mean in the same image; 0 where ignored.

    The control `class-mean`: what a risk map does beyond weighting the classes of an image.

    Args:
        risk: (B, *S).
        labels: (B, *S), -1 where ignored.
        num_classes: Y.
    """
    hot = torch.nn.functional.one_hot(labels.clamp(min=0).long(), num_classes).flatten(1, -2)
    hot = (hot * (labels >= 0).flatten(1).unsqueeze(-1)).to(risk)
    counts = hot.sum(1)
    means = (hot * risk.flatten(1).unsqueeze(-1)).sum(1) / torch.where(counts > 0, counts, 1.0)
    return (hot * means.unsqueeze(1)).sum(-1).reshape(risk.shape)


def class_shuffled(risk: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Risk (B, *S) with the values of each class permuted among its pixels of the same image; 0 where ignored.

    The control `class-shuffle`: the same weights in each class, at random places. Drawn from torch's generator.

    Args:
        risk: (B, *S).
        labels: (B, *S), -1 where ignored.
        num_classes: Y.
    """
    result = torch.zeros_like(risk)
    for image in range(len(risk)):
        for k in range(num_classes):
            own = labels[image] == k
            values = risk[image][own]
            result[image][own] = values[torch.randperm(len(values)).to(values.device)]
    return result


def risk_map(
    probabilities: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    *,
    num_classes: int | None = None,
    extent: Extent = "set",
    base: float = 10.0,
    clip: float = 0.0,
    min_range: float = 0.0,
) -> RiskMap:
    """Risk map of a batch on its own joint, from probabilities and labels alone.

    Args:
        probabilities: Source-class probabilities (B, Z, *S), array or tensor.
        labels: Target labels (B, *S), -1 where ignored.
        num_classes: Number of target classes; the largest label plus one (at least 2) where not given.
        extent: `image` or `case` scales each of the B images by itself, `set` all of them together.
        base: R = base ** H.
        clip: Low percentile of T that counts as the minimum.
        min_range: Nats below which a map counts as constant.

    Returns:
        The map; `.risk` is (B, *S), 0 where ignored.

    Raises:
        TypeError: if the probabilities are no floating-point numbers or the labels no integers.
        ValueError: if an option is none of the allowed, shapes disagree, or the probabilities do not sum to 1.

    >>> theta = torch.tensor([[[0.9, 0.8, 0.3], [0.1, 0.2, 0.7]]])
    >>> risk_map(theta, torch.tensor([[0, 0, 1]])).risk.argmax().item()
    2
    """
    check_word("extent", extent, get_args(Extent))
    target = as_tensor(labels)
    target = target if target.is_floating_point() else target.long()
    classes = num_classes or max(int(target.max()) + 1 if target.numel() else 0, 2)
    theta, target = given(probabilities, target, classes)
    joint = Joint.of(theta, target, classes)
    values = log_expected_prediction(theta, target, joint)
    return RiskMap(values, Span.of(values, per_image=extent != "set", clip=clip), base, min_range)
