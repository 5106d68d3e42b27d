"""From a batch to its loss: the weight of each pixel by method, and what the weighted sum is divided by."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfer_risk.losses import (
    exponential_weights,
    inverse_frequency,
    linear_weights,
    risk_weighted_loss,
    soft_dice_loss,
    soft_overlap,
    vanilla_loss,
    weighted_mean_loss,
    weights_of_classes,
)
from transfer_risk.methods import DIVIDED
from transfer_risk.recipes import Recipe
from transfer_risk.riskmap import RiskMap, Span, class_means, class_shuffled
from transfer_risk.samples import Batch, Samples
from transfer_risk.scales import percentile

CONTROLS = {"class-mean": class_means, "class-shuffle": class_shuffled}
GAMMA = 1 / 3
"""Exponent of `eep-risk`: weight EEP(y)^-gamma."""
LEAST_EEP = 1e-4
MEMORY = 0.95
"""Share of the running sums of `adaptive-risk` that a step keeps."""


@dataclass(eq=False)
class Objective:
    """Loss of one fine-tuning.

    Args:
        recipe: Method and its options.
        class_weights: (Y,) for `class-weight`.
        spans: Of each sample, where they are known before a batch is drawn.
        least: Nats; transferability below it counts as it (`trs-map` with exp(-T)).
        overlap: Running sums over p t and p + t of each class, (2, Y): the only state, of `adaptive-risk`.
    """

    recipe: Recipe
    class_weights: Tensor
    spans: Span | None = None
    least: float = -math.inf
    overlap: Tensor = field(default_factory=lambda: torch.zeros(0))

    @classmethod
    def of(cls, recipe: Recipe, samples: Samples, num_classes: int) -> Objective:
        """Objective for the training samples, on whose labels and transferability it depends."""
        spans, least = None, -math.inf
        if samples.transferability:
            spans = samples.spans(recipe.extent, recipe.clip)
            if recipe.method == "trs-map" and recipe.exponential:
                least = percentile(samples.transferability, 1)
        weights = inverse_frequency(samples.class_counts(num_classes))
        return cls(recipe, weights, spans, least, torch.zeros(2, num_classes, dtype=torch.float64))

    def weights(self, batch: Batch) -> Tensor:
        """Weight of each pixel (B, *S), 0 where ignored."""
        return torch.where(batch.labels >= 0, self._weights(batch), 0.0)

    def _weights(self, batch: Batch) -> Tensor:
        """Weight of each pixel (B, *S); any where ignored."""
        method, labels = self.recipe.method, batch.labels
        if method == "vanilla":
            return torch.ones_like(labels, dtype=torch.float32)
        if method == "class-weight":
            return weights_of_classes(self.class_weights.float(), labels)
        if method == "adaptive-risk":
            return weights_of_classes(self.class_risks().float(), labels)
        risk_map = self._risk_map(batch)
        if method in CONTROLS:
            return CONTROLS[method](risk_map.risk, labels, len(self.class_weights))
        if method == "risk-map":
            return risk_map.risk
        if method == "eep-risk":
            values = risk_map.transferability.clamp(min=math.log(LEAST_EEP))
            return exponential_weights(values, GAMMA)
        if self.recipe.exponential:
            return exponential_weights(risk_map.transferability.clamp(min=self.least))
        return linear_weights(risk_map.hardness)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""
        labels, recipe = batch.labels, self.recipe
        if recipe.method == "adaptive-risk":
            self._remember(logits.detach(), labels)
        if recipe.method == "vanilla":
            loss = vanilla_loss(logits, labels)
        elif recipe.method in (*DIVIDED, "trs-map"):
            loss = risk_weighted_loss(logits, labels, self.weights(batch), **self._divided())
        else:
            loss = weighted_mean_loss(logits, labels, self.weights(batch))
        if recipe.dice_weight:
            loss = loss + recipe.dice_weight * soft_dice_loss(logits, labels)
        return loss

    def _divided(self) -> dict[str, Any]:
        """What the weighted sum is divided by; of `trs-map` it is the plain mean."""
        if self.recipe.method not in DIVIDED:
            return {"divisor": "pixels"}
        return {"divisor": self.recipe.divisor, "min_foreground": self.recipe.min_foreground}

    def class_risks(self) -> Tensor:
        """Weights of `adaptive-risk` (Y,): 1 for background, (2 - D) / D for a class of running soft Dice D."""
        overlap, size = self.overlap
        dice = torch.where(size > 0, 2 * overlap / size.clamp(min=1e-12), 1.0).clamp(0.05, 0.98)
        weights = (2 - dice) / dice
        weights[0] = 1.0
        return weights

    def _remember(self, logits: Tensor, labels: Tensor) -> None:
        """Running sums with this batch's soft overlap; a class that the batch does not hold keeps its own."""
        *sums, count = soft_overlap(logits.float().softmax(1), labels).cpu().double()
        new = torch.stack(sums)
        mixed = MEMORY * self.overlap + (1 - MEMORY) * new
        first = self.overlap[1] == 0
        self.overlap = torch.where(count > 0, torch.where(first, new, mixed), self.overlap)

    def _risk_map(self, batch: Batch) -> RiskMap:
        recipe, values = self.recipe, batch.transferability
        if values is None:
            raise ValueError(
                f"method {recipe.method} needs the source's transferability on the training cases; collect the samples with "
                "mapped=True"
            )
        if self.spans is None:
            span = Span.of(values, per_image=True, clip=recipe.clip)
        elif self.spans.low.ndim:
            places = batch.places.to(self.spans.low.device)
            span = Span(self.spans.low[places], self.spans.high[places])
        else:
            span = self.spans
        span = Span(span.low.to(values), span.high.to(values))
        return RiskMap(values, span, recipe.base, recipe.min_range)


def mean_weights(objective: Objective, samples: Samples, num_classes: int) -> Tensor:
    """Mean weight of each class over the training pixels (Y,); NaN for an absent class."""
    sums, counts = (np.zeros(num_classes) for _ in range(2))
    for batch in samples.covering():
        valid = (batch.labels >= 0).numpy()
        labels = batch.labels.numpy()[valid]
        sums += np.bincount(labels, objective.weights(batch).numpy()[valid], num_classes)
        counts += np.bincount(labels, minlength=num_classes)
    means = np.divide(sums, counts, out=np.full(num_classes, np.nan), where=counts > 0)
    return torch.from_numpy(means)
