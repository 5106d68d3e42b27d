"""Few-shot subsets of a task's training cases: nested by seed, so that more data always contain fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from transfer_risk.recipes import Recipe
from transfer_risk.tasks import Case, Task
from transfer_risk.volumes import read_labelled


def few_shot(task: Task, recipe: Recipe) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and validation cases: nested subsets by seed of cases and of slices, whole groups for validation.

    Subsets of slices are nested for one number of cases and one share of validation, whose slices do not count.

    Raises:
        ValueError: if more is asked for than there is, or no case is left for training.
    """
    cases = task.split("train")
    if recipe.n_cases > len(cases):
        raise ValueError(
            f"n_cases must be at most the {len(cases)} training cases of task {task.name}; got {recipe.n_cases}"
        )
    order = np.random.default_rng([recipe.seed, 1]).permutation(len(cases))
    ordered = [cases[i] for i in order]
    held = _held_groups(ordered, recipe.validation)
    training, validation = ([c for c in ordered if (c.unit in held) == v] for v in (False, True))
    if recipe.n_cases:
        wanted = min(round(recipe.validation * recipe.n_cases), len(validation))
        training = training[: recipe.n_cases - wanted]
        validation = validation[: recipe.n_cases - len(training)]
    if recipe.validation and not (training and validation):
        raise ValueError(
            f"validation {recipe.validation:g} of {recipe.n_cases or len(cases)} training cases, in whole groups, leaves "
            f"{len(training)} for training and {len(validation)} for validation; choose another share or more cases"
        )
    if recipe.n_slices:
        training = _few_slices(training, task, recipe)
    ids = [c.id for c in cases]
    return (
        tuple(sorted(training, key=lambda c: ids.index(c.id))),
        tuple(sorted(validation, key=lambda c: ids.index(c.id))),
    )


def _held_groups(ordered: Sequence[Case], share: float) -> set[str]:
    """Groups for validation: the last ones, until they hold the share of all cases."""
    wanted = round(share * len(ordered))
    held: set[str] = set()
    for group in dict.fromkeys(c.unit for c in reversed(ordered)):
        if sum(c.unit in held for c in ordered) >= wanted:
            break
        held.add(group)
    return held


def training_slices(cases: Sequence[Case], task: Task) -> list[tuple[int, int]]:
    """Number of the case and of the slice, for every slice of the cases that counts for training.

    Raises:
        ValueError: if a case cannot be read, or has no label file.
    """
    others = tuple(a for a in range(3) if a != task.slices.axis)
    places = []
    for number, case in enumerate(cases):
        _, labels = read_labelled(case, task)
        places += [(number, int(k)) for k in np.flatnonzero((labels >= 0).any(axis=others))]
    return places


def _few_slices(cases: Sequence[Case], task: Task, recipe: Recipe) -> list[Case]:
    """The cases with `n_slices` of their slices in all; a case without any is left out."""
    places = training_slices(cases, task)
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
