"""The probe head: a linear classifier from a source's last features to the target's labels, before any fine-tuning.

A head that is kept can start anti-correlated with the new labels. Linear probing before fine-tuning (Kumar et al., ICLR
2022) starts from the best linear reading of the features instead, and costs about as much as thirty steps of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer_risk.heads import head_name, refuse_ensemble, training_mode
from transfer_risk.losses import soft_overlap
from transfer_risk.objectives import Objective
from transfer_risk.outputs import class_logits
from transfer_risk.prediction import at_once
from transfer_risk.samples import Batch, Samples
from transfer_risk.sources import Source

RECALIBRATED, FITTED, PIXELS = 192, 96, 60_000  # slices, slices, pixels
STEPS, DECAY = 30, 1e-3  # of LBFGS; L2 on standardised features
Norm = (nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Features (n, F) float32, labels (n,), and importance (n,): how many pixels each stands for."""

    features: Tensor
    labels: Tensor
    importance: Tensor


def probe_head(student: Source, samples: Samples, objective: Objective, *, seed: int) -> None:
    """Fit the student's last layer to the training samples, in place.

    Batch norm that is trained is recalibrated first, without labels, by cumulative averages. For `adaptive-risk` the fit
    is made twice: plain, for a first soft Dice of each class, and weighted by it.

    Raises:
        ValueError: if the last layer is no 1x1 convolution, or has no bias.
    """
    layer = probed_layer(student)
    if layer.bias is None:
        name = head_name(student.network, student)
        raise ValueError(
            f"head probe needs a last layer with a bias; {name} has none. Use --head keep or new"
        )
    rng = np.random.default_rng([seed, 3])
    recalibrate(student, samples, rng)
    pixels = pixels_of(student, samples, layer, rng)
    classes = len(student.classes)
    weight, bias = fitted(pixels, classes, torch.ones(classes))
    if objective.recipe.method == "adaptive-risk":
        guess = (pixels.features @ weight.T + bias).softmax(1)
        objective.overlap = soft_overlap(guess, pixels.labels, pixels.importance)[:2].double()
        weight, bias = fitted(pixels, classes, objective.class_risks().float())
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        layer.bias.copy_(bias)


def probed_layer(source: Source) -> Any:
    """The last layer of a source's network, whose inputs a probe reads.

    Raises:
        ValueError: if it is no 1x1 convolution, or one of several networks has it.
    """
    refuse_ensemble(source)
    name = head_name(source.network, source)
    layer = source.network.get_submodule(name)
    size = getattr(layer, "kernel_size", (0,))
    if not isinstance(layer, nn.Conv2d | nn.Conv3d) or set(size) != {1}:
        raise ValueError(
            f"head probe needs a 1x1 convolution as last layer; {name} is {type(layer).__name__} of size {size}. "
            "Use --head keep or new"
        )
    return layer


def recalibrate(student: Source, samples: Samples, rng: np.random.Generator) -> None:
    """Running statistics of the trained batch norms as averages over at most `RECALIBRATED` samples."""
    network = student.network
    training_mode(network)
    norms = [m for m in network.modules() if isinstance(m, Norm) and m.training]
    network.eval()
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # cumulative average
        module.train()
    with torch.no_grad():
        for places in _parts(samples, RECALIBRATED, rng):
            student.logits(samples.batch(places, rng).images)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    network.eval()


def pixels_of(
    student: Source, samples: Samples, layer: nn.Module, rng: np.random.Generator
) -> Pixels:
    """At most `PIXELS` pixels of at most `FITTED` samples; foreground is kept preferentially, with importance."""
    groups = list(_parts(samples, FITTED, rng))
    share = PIXELS / sum(len(g) for g in groups)
    found: list[Pixels] = []
    student.network.eval()
    for places in groups:
        batch = samples.batch(places, rng)
        features = features_of(student, layer, batch)
        found.append(_drawn(features, batch.labels, share * len(places), rng))
    joined = (
        torch.cat([getattr(p, n) for p in found]) for n in ("features", "labels", "importance")
    )
    return Pixels(*joined)


def fitted(pixels: Pixels, classes: int, class_weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (Y, F) and bias (Y,) of the multinomial logistic regression, for features as they are."""
    mean, spread = pixels.features.mean(0), pixels.features.std(0).clamp(min=1e-6)
    inputs = (pixels.features - mean) / spread
    weights = pixels.importance * class_weights[pixels.labels]
    weights = weights / weights.sum()
    matrix = torch.zeros(classes, inputs.shape[1] + 1, requires_grad=True)
    search = torch.optim.LBFGS([matrix], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        logits = inputs @ matrix[:, :-1].T + matrix[:, -1]
        losses = functional.cross_entropy(logits, pixels.labels, reduction="none")
        loss = (weights * losses).sum() + DECAY * matrix[:, :-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    table = matrix.detach()
    weight = table[:, :-1] / spread
    return weight, table[:, -1] - weight @ mean


def _drawn(features: Tensor, labels: Tensor, count: float, rng: np.random.Generator) -> Pixels:
    """About `count` of the valid pixels, half of them foreground where there is so much."""
    chosen, importance = [], []
    for mask in (labels > 0, labels == 0):
        places = np.flatnonzero(mask.numpy())
        taken = min(len(places), max(1, round(count / 2)))
        if taken:
            chosen.append(np.sort(rng.choice(places, taken, replace=False)))
            importance.append(np.full(taken, len(places) / taken))
    order = (
        torch.from_numpy(np.concatenate(chosen)) if chosen else torch.zeros(0, dtype=torch.int64)
    )
    flat = features.reshape(-1, features.shape[-1])
    weights = torch.from_numpy(np.concatenate(importance)) if importance else torch.zeros(0)
    return Pixels(flat[order].float(), labels.reshape(-1)[order], weights.float())


def _parts(samples: Samples, most: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Places of at most `most` of the samples, in batches."""
    chosen = np.sort(rng.permutation(len(samples))[:most])
    yield from np.array_split(chosen, -(-len(chosen) // at_once(len(samples.patch))))


def features_of(source: Source, layer: nn.Module, batch: Batch) -> Tensor:
    """Inputs of the last layer on a batch, (B, *S, F); where a network mirrors its images, those of the images as they are.

    Raises:
        ValueError: if the last layer works at another resolution than the images have, or its outputs are not the network's.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    hook = layer.register_forward_hook(lambda _m, inputs, made: seen.append((inputs[0], made)))
    try:
        with torch.no_grad():
            logits = source.logits(batch.images)
    finally:
        hook.remove()
    features, made = seen[0]
    crops = _crops(logits.shape[2:], features.shape[2:])
    if len(seen) == 1:  # else the network's outputs are a mean over mirrored images
        crops = (c for c in crops if _gives(source, made[c], logits))
    if (crop := next(crops, None)) is None:
        raise ValueError(
            f"a probe needs a last layer whose outputs are those of the network; those of source {source.name} are not"
        )
    return features.float()[crop].movedim(1, -1)


def _gives(source: Source, made: Tensor, logits: Tensor) -> bool:
    """Whether a source's logits are those of its last layer's outputs, cropped; of `none` behind a softmax or a sigmoid."""
    activation = source.activation
    if activation == "none":
        activation = "sigmoid" if made.shape[1] == 1 else "softmax"
    own = class_logits(source.ordered(made), activation)
    return own.shape == logits.shape and torch.allclose(
        own.softmax(1), logits.softmax(1), atol=1e-3
    )


def _crops(shape: Sequence[int], padded: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Where the images can lie in what a network padded: at the beginning, in the middle, or at the end of each axis.

    Raises:
        ValueError: if the last layer works at another resolution than the images have.
    """
    if any(not n <= m < 2 * n for n, m in zip(shape, padded, strict=True)):
        raise ValueError(
            f"a probe needs a last layer at the resolution of the images {tuple(shape)}; it works on {tuple(padded)}"
        )
    room = np.subtract(padded, shape)
    for starts in (0 * room, room // 2, (room + 1) // 2, room):
        inside = (slice(s, s + n) for s, n in zip(starts.tolist(), shape, strict=True))
        yield (slice(None), slice(None), *inside)
