"""Which cases belong together, and which are kept for evaluation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from transfer_risk.layouts.dataset import Dataset
from transfer_risk.tasks import Case, held_out


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


def tested(
    dataset: Dataset, cases: Sequence[Case], fold: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """Ids of the test cases: fold k of n of the data set's own folds (0 without `fold`), or as `held_out` without these.

    Raises:
        ValueError: if the data set has no such fold, or holds out a case that it does not have.
    """
    if not dataset.folds:
        return held_out(cases, fold=fold)
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
    return dataset.folds[number] or held_out(cases, fold=fold)
