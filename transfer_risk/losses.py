"""The paper's loss (eq. 7) and those that it is compared with; logits (B, Y, *S), labels (B, *S), -1 = ignored.

Every loss returns a scalar, in float32 where the logits have 16 bits. Ignored pixels carry no weight and no gradient.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer_risk.options import Divisor, check_word


def vanilla_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over all valid pixels."""
    return _cross_entropy(logits, labels).sum() / _count(labels >= 0)


def class_weighted_loss(logits: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
    """Cross-entropy weighted by the class of the pixel: sum(w CE) / sum(w), class_weights (Y,)."""
    return weighted_mean_loss(logits, labels, weights_of_classes(class_weights, labels))


def weighted_mean_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy averaged with the weights of the pixels (B, *S): sum(w CE) / sum(w) over the valid pixels."""
    entropy = _cross_entropy(logits, labels)
    used = torch.where(labels >= 0, weights, 0.0).to(entropy)
    return (used * entropy).sum() / _positive(used.sum())


def inverse_frequency(counts: Tensor) -> Tensor:
    """Class weights N / (Y N_y) from pixel counts (Y,) of the training cases; 0 for a class that is absent.

    >>> inverse_frequency(torch.tensor([90, 10, 0]))
    tensor([0.3704, 3.3333, 0.0000], dtype=torch.float64)
    """
    totals = counts.to(torch.float64)
    return torch.where(totals > 0, totals.sum() / (len(totals) * totals.clamp(min=1)), 0.0)


def weights_of_classes(class_weights: Tensor, labels: Tensor) -> Tensor:
    """Weight of each pixel by its class, (B, *S) from (Y,); that of background where ignored."""
    return class_weights.to(labels.device)[labels.clamp(min=0).long()]


def linear_weights(hardness: Tensor) -> Tensor:
    """1 + H, in [1, 2]."""
    return 1 + hardness


def exponential_weights(transferability: Tensor, power: float = 1.0) -> Tensor:
    """exp(-power T): the likelihood of the label, from T in nats, to minus a power."""
    return torch.exp(-power * transferability)


def transferability_weighted_loss(
    logits: Tensor,
    labels: Tensor,
    hardness: Tensor | None = None,
    *,
    transferability: Tensor | None = None,
) -> Tensor:
    """Mean over all valid pixels of (1 + H) CE: the linear map of Tan et al. (ICIP 2023), as far as its abstract tells.

    Args:
        logits: (B, Y, *S).
        labels: (B, *S).
        hardness: H (B, *S) in [0, 1]; `RiskMap.hardness`. Not read where there is transferability.
        transferability: T (B, *S) in nats, already clipped: then the weight is exp(-T) instead, as in that group's
            public code, which clips T at its 1st percentile.
    """
    if transferability is not None:
        weights = exponential_weights(transferability)
    elif hardness is not None:
        weights = linear_weights(hardness)
    else:
        raise ValueError("hardness must be given, or transferability; got neither")
    return risk_weighted_loss(logits, labels, weights, divisor="pixels")


def risk_weighted_loss(
    logits: Tensor,
    labels: Tensor,
    risk: Tensor,
    *,
    divisor: Divisor = "batch",
    min_foreground: float = 0.0,
) -> Tensor:
    """Risk-weighted cross-entropy, eq. 7: summed over all valid pixels, divided by the number of foreground pixels.

    Args:
        logits: (B, Y, *S).
        labels: (B, *S), 0 = background, -1 = ignored.
        risk: R (B, *S) from `RiskMap.risk`; must be 0 or more.
        divisor: What N_f counts: foreground of the `batch` (our reading), of each `image` (then the mean over images that
            have valid pixels), or all valid `pixels` (a plain mean). Without foreground: the valid pixels.
        min_foreground: N_f is at least this share of the valid pixels; 0 is the paper.

    >>> logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]])
    >>> round(risk_weighted_loss(logits, labels, torch.ones(1, 4)).item(), 4)     # 4 log 2 / 1
    2.7726
    """
    check_word("divisor", divisor, get_args(Divisor))
    if not 0 <= min_foreground <= 1:
        raise ValueError(f"min_foreground must be a share in [0, 1]; got {min_foreground}")
    if risk.shape != labels.shape:
        raise ValueError(
            f"risk must have the shape of labels; got {tuple(risk.shape)} for {tuple(labels.shape)}"
        )
    valid = labels >= 0
    entropy = _cross_entropy(logits, labels)
    totals = (torch.where(valid, risk, 0.0).to(entropy) * entropy).flatten(1).sum(1)
    pixels = valid.flatten(1).sum(1)
    foreground = (labels > 0).flatten(1).sum(1)
    if divisor == "image":
        return (totals / _share(foreground, pixels, min_foreground)).sum() / _count(pixels > 0)
    counted = pixels if divisor == "pixels" else foreground
    return totals.sum() / _share(counted.sum(), pixels.sum(), min_foreground)


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice, averaged over the foreground classes that the batch holds; 0 for a batch without foreground."""
    overlap, size, count = soft_overlap(_precise(logits).softmax(1), labels)[:, 1:]
    dice = 2 * overlap / _positive(size)
    return torch.where(count > 0, 1 - dice, 0.0).sum() / _count(count > 0)


def soft_overlap(probabilities: Tensor, labels: Tensor, importance: Tensor | None = None) -> Tensor:
    """Sums of p t, of p + t and of t over the valid pixels, by class: (3, Y), t being 1 in the class and 0 elsewhere.

    Args:
        probabilities: p (B, Y, *S).
        labels: (B, *S), -1 = ignored.
        importance: How many pixels each stands for, (B, *S); one where not given.
    """
    valid = (labels >= 0).unsqueeze(1)
    hot = functional.one_hot(labels.clamp(min=0).long(), probabilities.shape[1])
    t, p = hot.movedim(-1, 1) * valid, probabilities * valid
    terms: tuple[Tensor, ...] = (p * t, p + t, t)
    if importance is not None:
        terms = tuple(importance.unsqueeze(1) * term for term in terms)
    axes = [0, *range(2, probabilities.ndim)]
    return torch.stack([term.sum(axes).to(p) for term in terms])


class RiskWeightedLoss(nn.Module):
    """`risk_weighted_loss` as a module, for training loops that expect one; called with logits, labels, risk."""

    def __init__(self, *, divisor: Divisor = "batch", min_foreground: float = 0.0) -> None:
        super().__init__()
        self.divisor: Divisor = divisor
        self.min_foreground = min_foreground

    def forward(self, logits: Tensor, labels: Tensor, risk: Tensor) -> Tensor:
        """Scalar loss; see `risk_weighted_loss`."""
        options = {"divisor": self.divisor, "min_foreground": self.min_foreground}
        return risk_weighted_loss(logits, labels, risk, **options)  # type: ignore[arg-type]


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each pixel (B, *S); 0 where ignored."""
    if (len(logits), *logits.shape[2:]) != tuple(labels.shape):
        raise ValueError(
            f"labels must be (B, *S) for logits (B, Y, *S); got {tuple(labels.shape)} for {tuple(logits.shape)}"
        )
    return functional.cross_entropy(
        _precise(logits), labels.long(), reduction="none", ignore_index=-1
    )


def _precise(logits: Tensor) -> Tensor:
    """At least float32: sums over the pixels of a batch overflow in 16 bits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _share(counted: Tensor, pixels: Tensor, least: float) -> Tensor:
    """The divisor: what was counted, at least a share of the valid pixels, and these where nothing was counted."""
    return _positive(torch.where(counted > 0, torch.maximum(counted, least * pixels), pixels))


def _count(mask: Tensor) -> Tensor:
    return mask.sum().clamp(min=1)


def _positive(value: Tensor) -> Tensor:
    return torch.where(value > 0, value, 1)
