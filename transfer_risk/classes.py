"""Which classes of a source count as which of a task."""

from __future__ import annotations

from collections.abc import Sequence


def shared_classes(own: Sequence[str], wanted: Sequence[str]) -> dict[int, int]:
    """Number in `own` by number in `wanted` of the foreground names that both have; background is first in both.

    Capital letters make no difference.
    """
    names = [name.casefold() for name in own]
    return {
        k: names.index(name.casefold(), 1)
        for k, name in enumerate(wanted)
        if k and name.casefold() in names[1:]
    }


def matched_classes(own: Sequence[str], wanted: Sequence[str]) -> dict[int, int]:
    """Number in `own` by number in `wanted` of the foreground classes that count as the same.

    By name where a foreground name is shared: classes with other names are then unknown to each other. Where none is,
    class k counts as class k if both have as many, else no class counts as another.

    >>> matched_classes(["background", "wm", "csf"], ["background", "gm", "wm"])
    {2: 1}
    >>> matched_classes(["background", "x", "y"], ["background", "gm", "wm"])
    {1: 1, 2: 2}
    """
    if shared := shared_classes(own, wanted):
        return shared
    return {k: k for k in range(1, len(wanted))} if len(own) == len(wanted) else {}


def class_note(source: str, own: Sequence[str], wanted: Sequence[str]) -> str:
    """What a reader should know of how a source's classes came to a task's; empty if by name, or if there is one of each."""
    if len(wanted) < 3 or not matched_classes(own, wanted) or shared_classes(own, wanted):
        return ""
    return f"source {source} counts its classes {list(own[1:])} as the task's {list(wanted[1:])} by position"


def same_classes(own: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether each class of one counts as a class of the other."""
    return len(own) == len(wanted) == 1 + len(matched_classes(own, wanted))


def class_numbers(own: Sequence[str], wanted: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Number on a task of each of a source's classes, and the source's name of each number.

    A class that counts as one of the task's has its number, any other one a number after the task's.

    >>> class_numbers(["background", "wm", "csf"], ["background", "gm", "wm"])
    ([0, 2, 3], ('background', 'gm', 'wm', 'csf'))
    """
    matched = matched_classes(own, wanted)
    numbers = {0: 0} | {z: y for y, z in matched.items()}
    others = [z for z in range(len(own)) if z not in numbers]
    numbers |= {z: k for k, z in enumerate(others, start=len(wanted))}
    names = [own[matched[y]] if y in matched else name for y, name in enumerate(wanted)]
    return [numbers[z] for z in range(len(own))], (*names, *(own[z] for z in others))
