"""New sources: trained from scratch on a task, or fine-tuned from another source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from transfer_risk.decisions import adjusted, tuned
from transfer_risk.encoders import encoder_pattern
from transfer_risk.fitting import Progress, State, fit
from transfer_risk.heads import LoadReport, adapted_network, freeze, load_report
from transfer_risk.networks import UNet
from transfer_risk.objectives import Objective, mean_weights
from transfer_risk.passes import Predictions
from transfer_risk.probes import probe_head
from transfer_risk.recipes import MAPPED, Recipe
from transfer_risk.samples import Samples, collect
from transfer_risk.tasks import Case, Decision, Preprocessing, Source, Task
from transfer_risk.volumes import read

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Start:
    """A fine-tuning before its first step.

    Args:
        student: The source to be made; its network is not trained yet.
        samples: Training data, with the source's transferability where the method needs it.
        state: Optimiser and objective.
        report: What was loaded, replaced and frozen.
        training: Cases that are trained on.
        validation: Cases that are kept for the decision.
        kept_head: Whether the head is the source's own.
    """

    student: Source
    samples: Samples
    state: State
    report: LoadReport
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    kept_head: bool


def begin(source: Source, task: Task, recipe: Recipe, *, tell: Tell | None = None) -> Start:
    """Everything that a fine-tuning needs, made from seed and options alone.

    Raises:
        ValueError: if head, channels or freezing do not fit, nothing is trainable, or the training cases have no
            foreground.
    """
    training, validation = few_shot(task, recipe)
    scratch = recipe.init == "random"
    classes = len(task.classes)
    network, kept = adapted_network(
        source, classes, head=recipe.head, scratch=scratch, seed=recipe.seed
    )
    if not scratch and recipe.freeze != "none":
        own = recipe.freeze == "encoder"
        freeze(network, encoder_pattern(network, source.encoder) if own else recipe.freeze)
    named = set(source.channels) <= set(task.channels)
    student = replace(
        source,
        name=f"{task.name}-{recipe.method}",
        network=network,
        classes=task.classes,
        channels=source.channels if named or source.missing_channels else task.channels,
        labels={name: values[0] for name, values in task.labels.items()},
        activation=source.activation if kept or scratch else "softmax",
        decision=Decision(),
        trained=_record(source, task, training, recipe),
        path="",
    )
    samples = collect(source, training, task, mapped=recipe.method in MAPPED, progress=tell)
    if not float(samples.class_counts(classes)[1:].sum()):
        raise ValueError(
            f"task {task.name}: no foreground in the training slices; look at [labels] and [slices]"
        )
    objective = Objective.of(recipe, samples, classes)
    report = load_report(source, network, scratch=scratch)
    if recipe.head == "probe":
        if tell:
            tell("fitting the probe head")
        probe_head(student, samples, objective, seed=recipe.seed)
    state = State.of(network, objective, recipe)
    return Start(student, samples, state, report, training, validation, kept)


def finish(start: Start, task: Task, recipe: Recipe, *, tell: Tell | None = None) -> Source:
    """The trained student with its decision: argmax, adjusted to the weights, or tuned on validation cases.

    Without validation cases `tuned` takes the training cases; `trained["decision"]` says which.
    """
    student = start.student
    if recipe.decision == "adjusted":
        weights = mean_weights(start.state.objective, start.samples, len(task.classes))
        return replace(student, decision=adjusted(weights))
    if recipe.decision == "argmax":
        return student
    cases = start.validation or start.training
    decision = tuned(Predictions(student, task, cases, progress=tell, every_slice=True))
    trained = dict(student.trained) | {
        "tuned_on": "validation cases" if start.validation else "training cases"
    }
    return replace(student, decision=decision, trained=trained)


def pretrain(
    task: Task,
    *,
    name: str | None = None,
    cases: Sequence[Case] | None = None,
    iterations: int = 2_000,
    batch: int = 8,
    lr: float = 1e-3,
    width: int = 32,
    depth: int = 5,
    seed: int = 0,
    licence: str = "",
    progress: Progress | None = None,
) -> Source:
    """A 2D U-Net trained from scratch on the training cases with cross-entropy + soft Dice, Adam.

    Args:
        task: Its `training` preprocessing becomes the source's.
        name: Of the source; the task's where not given.
        cases: Instead of the training cases.
        iterations: Steps.
        batch: Slices per step.
        lr: Learning rate, lowered to 0 along a half cosine.
        width: Features of the first level.
        depth: Levels.
        seed: Of weights and order.
        licence: SPDX name that the source is given.
        progress: Called with iteration and loss.

    Raises:
        ValueError: if a number is out of range, or no training slice has foreground.
        FloatingPointError: if the loss is no longer finite.
    """
    recipe = Recipe(
        method="vanilla",
        dice_weight=1.0,
        iterations=iterations,
        batch=batch,
        lr=lr,
        schedule="cosine",
        init="random",
        seed=seed,
    )
    used = task.split("train") if cases is None else tuple(cases)
    torch.manual_seed(seed)
    network = UNet(len(task.channels), len(task.classes), width=width, depth=depth)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = Source(
        name=name or task.name,
        network=network,
        classes=task.classes,
        channels=task.channels,
        labels={c: values[0] for c, values in task.labels.items()},
        preprocessing=_preprocessing(task, used),
        encoder=r"^encoder\.",
        licence=licence,
        trained={
            "task": task.name,
            "dataset": Path(task.root).name,
            "cases": [c.id for c in used],
            "iterations": iterations,
            "seed": seed,
        },
        architecture={"target": "unet", "width": width, "depth": depth},
    )
    samples = collect(source, used, task, mapped=False)
    if not float(samples.class_counts(len(task.classes))[1:].sum()):
        raise ValueError(
            f"task {task.name}: no foreground in the training slices; look at [labels]"
        )
    state = State.of(network, Objective.of(recipe, samples, len(task.classes)), recipe)
    fit(state, source, samples, recipe, progress=progress)
    return source


def few_shot(task: Task, recipe: Recipe) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and validation cases: nested subsets by seed of cases and of slices, whole groups for validation.

    Raises:
        ValueError: if more is asked for than there is, or no case is left for training.
    """
    cases = task.split("train")
    order = np.random.default_rng([recipe.seed, 1]).permutation(len(cases))
    if recipe.n_cases > len(cases):
        raise ValueError(
            f"n_cases must be at most the {len(cases)} training cases of task {task.name}; got {recipe.n_cases}"
        )
    chosen = [cases[i] for i in order[: recipe.n_cases or len(cases)]]
    held = round(recipe.validation * len(chosen))
    if recipe.validation and not 0 < held < len(chosen):
        raise ValueError(
            f"validation {recipe.validation:g} of {len(chosen)} cases leaves {held} for validation; choose another share"
        )
    training = chosen[: len(chosen) - held]
    groups = {c.group or c.id for c in training}
    validation = [c for c in chosen[len(chosen) - held :] if (c.group or c.id) not in groups]
    if recipe.n_slices:
        training = _few_slices(training, task, recipe)
    ids = [c.id for c in cases]
    return (
        tuple(sorted(training, key=lambda c: ids.index(c.id))),
        tuple(sorted(validation, key=lambda c: ids.index(c.id))),
    )


def _few_slices(cases: Sequence[Case], task: Task, recipe: Recipe) -> list[Case]:
    """The cases with `n_slices` of their slices in all; a case without any is left out."""
    places = []
    for number, case in enumerate(cases):
        labels = read(case, task).labels
        assert labels is not None
        others = tuple(a for a in range(3) if a != task.slices.axis)
        places += [(number, int(k)) for k in np.flatnonzero((labels >= 0).any(axis=others))]
    if recipe.n_slices > len(places):
        raise ValueError(
            f"n_slices must be at most the {len(places)} training slices of task {task.name}; got {recipe.n_slices}"
        )
    order = np.random.default_rng([recipe.seed, 2]).permutation(len(places))
    chosen = [places[i] for i in order[: recipe.n_slices]]
    result = []
    for number, case in enumerate(cases):
        own = tuple(sorted(k for n, k in chosen if n == number))
        if own:
            result.append(replace(case, slices=own))
    return result


def _record(source: Source, task: Task, cases: Sequence[Case], recipe: Recipe) -> dict[str, object]:
    """What the student was trained on."""
    return {
        "task": task.name,
        "dataset": Path(task.root).name,
        "cases": [c.id for c in cases],
        "iterations": recipe.iterations,
        "seed": recipe.seed,
        "method": recipe.method,
        "source": source.name if recipe.init == "source" else "",
    }


def _preprocessing(task: Task, cases: Sequence[Case]) -> Preprocessing:
    """The task's, with the slice axis and the orientation of the first case filled in."""
    affine = nib.load(cases[0].images[0].partition("#")[0]).affine
    codes = "".join(str(c) for c in nib.aff2axcodes(affine))
    given = task.training
    return replace(given, orientation=given.orientation or codes, axis=task.slices.axis)
