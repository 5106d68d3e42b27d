"""Features of a frozen encoder, computed once and kept within a budget: later steps train the decoder alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transfer_risk.networks import UNet
from transfer_risk.outputs import class_logits
from transfer_risk.prediction import BATCH
from transfer_risk.recipes import Recipe
from transfer_risk.samples import Batch, Samples
from transfer_risk.sources import Source


@dataclass(frozen=True, eq=False)
class Features:
    """Encoder outputs of all slices.

    Args:
        student: Whose decoder is trained.
        levels: Features (N, H_l, W_l, C_l) of each level, channels last.
    """

    student: Source
    levels: tuple[Tensor, ...]

    @classmethod
    def of(cls, student: Source, samples: Samples, recipe: Recipe) -> Features | None:
        """Features of all training slices; None where they would change, or do not fit into `recipe.cache`."""
        network: Any = student.network
        if not isinstance(network, UNet) or recipe.augment or recipe.device != "cpu":
            return None
        if not samples.whole:
            return None
        if any(p.requires_grad for p in network.encoder.parameters()):
            return None
        network.eval()
        half = recipe.precision == "bf16"
        space: list[Tensor] = []
        for places in np.array_split(np.arange(len(samples)), -(-len(samples) // BATCH)):
            images = samples.batch(places).images
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
                levels = network.encode(images)
            if not space:
                each = sum(level[0].nbytes for level in levels)
                if each * len(samples) > recipe.cache * 2**30:
                    return None
                space = [_room(len(samples), level) for level in levels]
            for room, level in zip(space, levels, strict=True):
                room[places] = level.permute(0, 2, 3, 1)
        return cls(student, tuple(space))

    def logits(self, batch: Batch) -> Tensor:
        """Logits (B, Y, H, W) with gradients of the decoder."""
        network: Any = self.student.network
        chosen = [level.index_select(0, batch.places).permute(0, 3, 1, 2) for level in self.levels]
        height, width = batch.labels.shape[1:]
        outputs = network.decode(chosen)[..., :height, :width]
        return class_logits(self.student.ordered(outputs), self.student.activation)


def _room(count: int, level: Tensor) -> Tensor:
    """Memory for the features of all slices, given those of some."""
    return torch.empty((count, *level.shape[2:], level.shape[1]), dtype=level.dtype)
