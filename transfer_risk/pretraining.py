"""A source from scratch: a U-Net trained on a task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import torch
from nibabel import orientations

from transfer_risk.adapters import save_source
from transfer_risk.callbacks import Steps, Tell
from transfer_risk.collecting import collect
from transfer_risk.evaluation import check_cases, evaluate, mean_dice
from transfer_risk.fitting import State, fit
from transfer_risk.imagefiles import grid_of
from transfer_risk.intervals import Estimate
from transfer_risk.networks import UNet
from transfer_risk.objectives import Objective
from transfer_risk.outfolders import check_new
from transfer_risk.recipes import Recipe
from transfer_risk.sources import Source, written_labels
from transfer_risk.tasks import Case, Preprocessing, Task


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
    progress: Steps | None = None,
    tell: Tell | None = None,
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
        tell: Called with what is under way.

    Raises:
        ValueError: if a number is out of range, there is no case, or no training slice has foreground.
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
    if not used:
        raise ValueError(
            f"task {task.name}: has no case to train on; look at [split], or give cases"
        )
    torch.manual_seed(seed)
    network = UNet(len(task.channels), len(task.classes), width=width, depth=depth)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = Source(
        name=name or task.name,
        network=network,
        classes=task.classes,
        channels=task.channels,
        labels=written_labels(task),
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
    samples = collect(source, used, task, mapped=False, progress=tell)
    if not float(samples.class_counts(len(task.classes))[1:].sum()):
        raise ValueError(
            f"task {task.name}: no foreground in the training slices; look at [labels]"
        )
    state = State.of(network, Objective.of(recipe, samples, len(task.classes)), recipe)
    fit(state, source, samples, recipe, progress=progress)
    return source


def save_measured(
    make: Callable[[], Source], task: Task, out: str | Path, *, tell: Tell | None = None
) -> Estimate | None:
    """Save a source in a folder once it is made; its mean Dice on the test cases, or None where the task has none.

    Args:
        make: Gives the source; called after the test cases were read, since it may take hours.
        task: On which it is measured.
        out: New or empty folder.
        tell: Called with what is under way.

    Raises:
        ValueError: if there is a source or anything else in the folder, or a test case cannot be read.
        OSError: if the folder cannot be written; nothing is made then.
    """
    if Path(out, "source.toml").exists():
        raise ValueError(f"{out}: holds a source; choose another --out")
    check_new(out)
    check_cases(task, [c for c in task.cases if c.id in task.test])
    source = make()
    save_source(source, out)
    if not task.test:
        return None
    return mean_dice(evaluate(source, task, distances=False, progress=tell), task.cases)


def _preprocessing(task: Task, cases: Sequence[Case]) -> Preprocessing:
    """The task's, with the orientation of the first case where it has none, and the axis that its slices have there."""
    _, affine = grid_of(cases[0].images[0])
    given = task.training
    codes = given.orientation or "".join(str(c) for c in nib.aff2axcodes(affine))
    stored = orientations.io_orientation(affine)
    places = orientations.ornt_transform(stored, orientations.axcodes2ornt(codes))
    return replace(given, orientation=codes, axis=int(places[task.slices.axis, 0]))
