"""The beginning and the end of a fine-tuning: the student and its training slices, and the source that it becomes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from transfer_risk.callbacks import Tell
from transfer_risk.channels import channel_order, channels_read, read_by_position
from transfer_risk.collecting import collect
from transfer_risk.decisions import adjusted, tune_decision
from transfer_risk.encoders import encoder_pattern
from transfer_risk.evaluation import check_cases
from transfer_risk.fitting import State
from transfer_risk.heads import adapted_source, freeze, in_class_order
from transfer_risk.lineage import ancestors_after
from transfer_risk.loadreport import LoadReport, load_report
from transfer_risk.methods import MAPPED
from transfer_risk.objectives import Objective, mean_weights
from transfer_risk.prediction import refuse_stored
from transfer_risk.probes import probe_head
from transfer_risk.recipes import Recipe
from transfer_risk.samples import Samples
from transfer_risk.sources import Source, written_labels
from transfer_risk.subsets import few_shot
from transfer_risk.tasks import Case, Decision, Task


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
        absent: Classes without a training voxel, of which nothing is learned.
    """

    student: Source
    samples: Samples
    state: State
    report: LoadReport
    training: tuple[Case, ...]
    validation: tuple[Case, ...]
    kept_head: bool
    absent: tuple[str, ...]


def begin(
    source: Source,
    task: Task,
    recipe: Recipe,
    *,
    check: Callable[[Source], None] | None = None,
    tell: Tell | None = None,
) -> Start:
    """Everything that a fine-tuning needs, made from seed and options alone; warns of classes without a training voxel.

    Args:
        source: Not changed.
        task: Target.
        recipe: Options.
        check: Called with the student before the training cases are prepared, to refuse it.
        tell: Called with what is under way.

    Raises:
        ValueError: if head, channels, device or freezing do not fit, nothing is trainable, the training cases have no
            foreground, or a case that the decision is tuned on is of a size that the network cannot take.
    """
    student, kept = untrained(source, task, recipe)
    if check:
        check(student)
    training, validation = few_shot(task, recipe)
    tuning = validation or (training if recipe.decision == "tuned" else ())
    check_cases(task, tuning, replace(student, name=source.name))
    student = replace(student, trained=_record(source, task, training, recipe))
    samples = collect(source, training, task, mapped=recipe.method in MAPPED, progress=tell)
    absent = _absent(samples, task)
    objective = Objective.of(recipe, samples, len(task.classes))
    report = load_report(source, student.network, scratch=recipe.init == "random")
    if recipe.head == "probe":
        if tell:
            tell("fitting the probe head")
        probe_head(student, samples, objective, seed=recipe.seed)
    state = State.of(student.network, objective, recipe)
    return Start(student, samples, state, report, training, validation, kept, absent)


def _absent(samples: Samples, task: Task) -> tuple[str, ...]:
    """The foreground classes without a training voxel, each warned of; ValueError if all of them are."""
    counts = samples.class_counts(len(task.classes))[1:].tolist()
    absent = tuple(name for name, n in zip(task.classes[1:], counts, strict=True) if not n)
    if len(absent) == len(counts):
        raise ValueError(
            f"task {task.name}: no foreground in the training slices; look at [labels] and [slices], or take more than "
            "these slices"
        )
    for name in absent:
        warnings.warn(
            f"class {name} has no voxel that counts in the training slices: nothing is learned of it; train on cases that "
            "have it ([split], --n-cases, --n-slices)",
            stacklevel=3,
        )
    return absent


def untrained(source: Source, task: Task, recipe: Recipe) -> tuple[Source, bool]:
    """The student before training, frozen where it will be, and whether its head is the source's own; no pixel is read.

    Raises:
        ValueError: if head, channels, classes, device or freezing do not fit, or nothing is trainable.
    """
    refuse_stored(source, "be fine-tuned")
    channel_order(source, task.channels)
    _check_device(recipe.device)
    scratch = recipe.init == "random"
    student, kept = adapted_source(
        source, task.classes, head=recipe.head, scratch=scratch, seed=recipe.seed
    )
    if kept and not scratch:
        student = in_class_order(student, task.classes)
    network = student.network
    if not any(True for _ in network.parameters()):
        raise ValueError(
            f"nothing is trainable: the network of source {source.name} has no parameters"
        )
    if not scratch and recipe.freeze != "none":
        own = recipe.freeze == "encoder"
        freeze(network, encoder_pattern(network, source.encoder) if own else recipe.freeze)
    renamed = read_by_position(source, task.channels)
    student = replace(
        student,
        name=f"{task.name}-{recipe.method}",
        classes=task.classes,
        channels=task.channels if renamed else source.channels,
        labels=written_labels(task),
        decision=Decision(),
        path="",
    )
    return student, kept and not scratch


def _check_device(device: str) -> None:
    try:
        torch.zeros((), device=device).item()  # of `meta` there are no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device must be one that torch computes on here; got {device!r} ({reason})"
        ) from None


def finish(start: Start, task: Task, recipe: Recipe, *, tell: Tell | None = None) -> Source:
    """The trained student with its decision: argmax, adjusted to the weights, or tuned on validation cases.

    Without validation cases `tuned` takes the training cases, of few-shot slices these alone; `trained["tuned_on"]` says
    which.
    """
    student = start.student
    if recipe.decision == "adjusted":
        weights = mean_weights(start.state.objective, start.samples, len(task.classes))
        return replace(student, decision=adjusted(weights))
    if recipe.decision == "argmax":
        return student
    cases = start.validation or start.training
    decision = tune_decision(student, task, cases=cases, progress=tell)
    trained = dict(student.trained) | {
        "cases": [c.id for c in (*start.training, *start.validation)],
        "tuned_on": "validation cases" if start.validation else "training cases",
    }
    return replace(student, decision=decision, trained=trained)


def _record(source: Source, task: Task, cases: Sequence[Case], recipe: Recipe) -> dict[str, object]:
    """What the student was trained on, and what it was fine-tuned from."""
    inherited = recipe.init == "source"
    return {
        "task": task.name,
        "dataset": Path(task.root).name,
        "channels_read": list(channels_read(source, task.channels)),
        "cases": [c.id for c in cases],
        "iterations": recipe.iterations,
        "seed": recipe.seed,
        "method": recipe.method,
        "source": source.name if inherited else "",
        "ancestors": ancestors_after(source) if inherited else [],
    }
