"""The one training loop: seeded step by step, so that it can stop and go on anywhere with the same bits."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transfer_risk.callbacks import Steps
from transfer_risk.features import Features
from transfer_risk.heads import training_mode
from transfer_risk.methods import DIVIDED
from transfer_risk.objectives import Objective
from transfer_risk.recipes import Recipe
from transfer_risk.samples import Batch, Samples
from transfer_risk.sources import Source

FAINT = 1e-3
"""Share of foreground in a batch below which a warning is due: the divisor of the risk-weighted loss is tiny there."""
BOUNDED = 0.05
"""What the warning advises for the least share of a divisor: that which docs/results.md measured."""


@dataclass(eq=False)
class State:
    """Where a training stands.

    Args:
        network: Being trained.
        optimiser: Of its trainable parameters.
        schedule: Of the learning rate.
        objective: Its running sums are state too.
        log: Rows iteration, loss, lr, share of foreground, seconds.
        resumed: Seconds of the steps that were done before it was restored.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    objective: Objective
    log: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    resumed: float = 0.0

    @classmethod
    def of(cls, network: nn.Module, objective: Objective, recipe: Recipe) -> State:
        """State before the first step.

        Raises:
            ValueError: if nothing can be trained.
        """
        trained = [p for p in network.to(recipe.device).parameters() if p.requires_grad]
        if not trained:
            raise ValueError("nothing is trainable; look at --freeze and at the network")
        optimiser: torch.optim.Optimizer
        if recipe.optimiser == "sgd":
            optimiser = torch.optim.SGD(trained, lr=recipe.lr, momentum=0.9)
        else:
            kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
            optimiser = kind(trained, lr=recipe.lr)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if recipe.schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.iterations)
        else:
            schedule = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
        return cls(network, optimiser, schedule, objective)

    @property
    def iteration(self) -> int:
        """Steps that were done."""
        return len(self.log)

    def export(self) -> dict[str, Any]:
        """Tensors and numbers, for `torch.save`; read again without running any code."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "overlap": self.objective.overlap,
            "log": torch.tensor(self.log, dtype=torch.float64).reshape(-1, 5),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `export` gave."""
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.schedule.load_state_dict(saved["schedule"])
        self.objective.overlap = saved["overlap"]
        self.log = [(int(row[0]), *row[1:]) for row in saved["log"].tolist()]
        self.resumed = sum(row[-1] for row in self.log)


def fit(
    state: State,
    student: Source,
    samples: Samples,
    recipe: Recipe,
    *,
    features: Features | None = None,
    save: Callable[[State], None] | None = None,
    progress: Steps | None = None,
) -> None:
    """Train the student's network in place up to the recipe's iterations.

    Step k depends on seed and k alone, never on what was drawn before.

    Args:
        state: Where to start; its network is the student's.
        student: The source that is being made.
        samples: Training data.
        recipe: Options.
        features: Of the frozen encoder; made here where not given and possible.
        save: Called with the state each `recipe.checkpoint` steps.
        progress: Called with iteration and loss.

    Raises:
        FloatingPointError: if the loss, or a weight that would be saved, is no longer finite.
    """
    network = student.network
    if state.iteration >= recipe.iterations:
        network.eval().to("cpu")
        return
    network.to(recipe.device)
    features = features or Features.of(student, samples, recipe)
    logits_of = features.logits if features else lambda batch: student.logits(batch.images)
    training_mode(network)
    warned = False
    while state.iteration < recipe.iterations:
        start = time.perf_counter()
        step = state.iteration + 1
        batch = _drawn(samples, recipe, step)
        value = _stepped(state, batch, logits_of, recipe)
        rate = float(state.schedule.get_last_lr()[0])
        state.schedule.step()
        share = _foreground(batch.labels)
        warned = warned or _warned(batch.labels, recipe)
        state.log.append((step, value, rate, share, time.perf_counter() - start))
        if progress:
            progress(step, value)
        due = step == recipe.iterations or step % recipe.checkpoint == 0
        if due and not all(bool(p.isfinite().all()) for p in network.parameters()):
            raise _diverged("a weight is not finite", step, recipe)
        if save and due:
            save(state)
    network.eval().to("cpu")


def _drawn(samples: Samples, recipe: Recipe, step: int) -> Batch:
    """The batch of a step, on the recipe's device; torch's generator is seeded for the step too."""
    rng = np.random.default_rng([recipe.seed, step])
    torch.manual_seed(int(rng.integers(2**62)))
    return moved(_augmented(samples.draw(recipe.batch, rng), rng, recipe), recipe.device)


def _stepped(
    state: State, batch: Batch, logits_of: Callable[[Batch], Tensor], recipe: Recipe
) -> float:
    """Loss of a batch, down whose gradient one step was made; FloatingPointError if it is not finite."""
    kind, precise = recipe.device.partition(":")[0], recipe.precision == "fp32"
    state.optimiser.zero_grad(set_to_none=True)
    with nullcontext() if precise else torch.autocast(kind, torch.bfloat16):
        logits = logits_of(batch)
    loss = state.objective.loss(logits.float(), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    value = loss.item()
    if not np.isfinite(value):
        raise _diverged(f"the loss is {value}", state.iteration + 1, recipe)
    state.optimiser.step()
    return value


def _warned(labels: Tensor, recipe: Recipe) -> bool:
    """Whether a batch was warned of, whose loss, or that of one of its images, is divided by very little foreground."""
    if recipe.method not in DIVIDED or recipe.divisor == "pixels":
        return False
    parts, where = ([labels], "a batch") if recipe.divisor != "image" else (labels, "an image")
    share = min((s for s in map(_foreground, parts) if s > recipe.min_foreground), default=1.0)
    if share >= FAINT:
        return False
    warnings.warn(
        f"foreground is {share:.1e} of the valid pixels of {where}, which divide its loss; --min-foreground "
        f"{BOUNDED:g} would keep the weight of such in bounds",
        stacklevel=3,
    )
    return True


def _diverged(what: str, step: int, recipe: Recipe) -> FloatingPointError:
    tries = [f"a lower lr than {recipe.lr:g}"]
    if recipe.method in DIVIDED:
        tries.append(f"min_foreground above {recipe.min_foreground:g}")
    if recipe.method != "vanilla":
        tries.append(f"another method than {recipe.method}")
    return FloatingPointError(f"{what} at iteration {step}; try {' or '.join(tries)}")


def moved(batch: Batch, device: str) -> Batch:
    """The batch on a device."""
    if device == "cpu":
        return batch
    values = batch.transferability
    return Batch(
        batch.images.to(device),
        batch.labels.to(device),
        None if values is None else values.to(device),
        batch.cases,
        batch.places,
    )


def _augmented(batch: Batch, rng: np.random.Generator, recipe: Recipe) -> Batch:
    """Images, labels and transferability flipped together along the first axis; intensities scaled and shifted."""
    if not recipe.augment:
        return batch
    images, labels, values = batch.images.clone(), batch.labels.clone(), batch.transferability
    values = None if values is None else values.clone()
    for k in np.flatnonzero(rng.random(len(labels)) < 0.5):
        images[k], labels[k] = images[k].flip(1), labels[k].flip(0)
        if values is not None:
            values[k] = values[k].flip(0)
    shape = (len(images), *[1] * (images.ndim - 1))
    scale, shift = rng.uniform(0.9, 1.1, shape), rng.uniform(-0.1, 0.1, shape)
    outside = images == 0
    images = images * torch.from_numpy(scale).float() + torch.from_numpy(shift).float()
    return Batch(images.masked_fill_(outside, 0), labels, values, batch.cases, batch.places)


def _foreground(labels: Tensor) -> float:
    """Share of foreground among the valid pixels."""
    return float((labels > 0).sum() / (labels >= 0).sum().clamp(min=1))
