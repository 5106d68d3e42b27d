"""Which cases belong together, and which are kept for evaluation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

from transfer_risk.layouts.dataset import Dataset
from transfer_risk.tasks import Case


def grouped(cases: Sequence[Case], expression: str) -> tuple[Case, ...]:
    """The cases, each with the group (patient) that a regular expression finds in its id.

    Args:
        cases: Of a data set.
        expression: Its first group is the patient's id; without groups the whole match is.

    Raises:
        ValueError: naming both, if it finds nothing in an id; if it is no regular expression.

    >>> [c.group for c in grouped([Case("p1_a", ()), Case("p1_b", ())], "^(p[0-9]+)_")]
    ['p1', 'p1']
    """
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise ValueError(f"group = {expression!r} is no regular expression ({error})") from None
    found = [pattern.search(case.id) for case in cases]
    groups = [match[min(pattern.groups, 1)] if match else "" for match in found]
    if strange := [case.id for case, group in zip(cases, groups, strict=True) if not group]:
        raise ValueError(
            f"group must be a regular expression that finds the patient in each case's id; {expression!r} finds none in "
            f"{strange[0]!r}; widen it"
        )
    return tuple(replace(c, group=group) for c, group in zip(cases, groups, strict=True))


def held_out(cases: Sequence[Case], fold: tuple[int, int] | None = None) -> tuple[str, ...]:
    """Ids of the test cases: 30 % (at least 2 cases) by a hash of the group, or fold k of n.

    The hash depends on the group's name alone, so that adding cases does not shuffle the others' order.

    Raises:
        ValueError: if there is no such fold, or all cases would be in it.
    """
    groups = sorted({c.unit for c in cases}, key=_digest)
    if fold is not None:
        number, folds = fold
        if not 0 <= number < folds or not 2 <= folds <= len(groups):
            raise ValueError(
                f"fold must be k/n with 0 <= k < n, n from 2 to the {len(groups)} groups; got {number}/{folds}"
            )
        chosen = set(groups[number::folds])
        return tuple(c.id for c in cases if c.unit in chosen)
    test: list[str] = []
    for group in groups[:-1]:
        if len(test) >= max(2, round(0.3 * len(cases))):
            break
        test += [c.id for c in cases if c.unit == group]
    return tuple(c.id for c in cases if c.id in test)


def _digest(group: str) -> str:
    """The same for the same name, whatever other groups there are; `0/` is the one seed that there is."""
    return hashlib.sha256(f"0/{group}".encode()).hexdigest()


def tested(
    dataset: Dataset, cases: Sequence[Case], fold: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """Ids of the test cases: fold k of n of the data set's own folds (0 without `fold`), or as `held_out` without these.

    Raises:
        ValueError: if the data set has no such fold, or holds out a case that it does not have.
    """
    if not dataset.folds:
        return held_out(cases, fold)
    own = len(dataset.folds)
    number, folds = fold or (0, own)
    if folds != own or not 0 <= number < own:
        raise ValueError(
            f"fold must be k/n with 0 <= k < n = {own}, as splits_final.json has {own} fold{'s' * (own > 1)}; got "
            f"{number}/{folds}; move that file away for folds of transfer-risk's own"
        )
    known = {case.id for case in dataset.cases}
    if unknown := [id_ for id_ in dataset.folds[number] if id_ not in known]:
        raise ValueError(
            f"splits_final.json holds out {unknown[0]!r}, which is no labelled case of the folder; mend it, or move it away "
            "for a split of transfer-risk's own"
        )
    given = {case.id for case in cases}
    return tuple(id_ for id_ in dataset.folds[number] if id_ in given) or held_out(cases, fold)
