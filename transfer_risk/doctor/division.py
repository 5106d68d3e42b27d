"""Checks of the split: groups, and the same voxels in training and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from transfer_risk.doctor.examination import Examined
from transfer_risk.doctor.finding import Finding
from transfer_risk.tasks import Task
from transfer_risk.textrows import listed


def check_split(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """Findings on what lies on which side, and what is there twice."""
    yield from _sides(task)
    yield from _duplicates(task, cases)


def _sides(task: Task) -> Iterator[Finding]:
    train = sum(case.id not in task.test for case in task.cases)
    counts = f"{train} training and {len(task.cases) - train} test cases"
    if train == 0:
        yield Finding("error", "split", "split.test", counts, "leave some cases out of split.test")
    for side, of in (("training", False), ("test", True)):
        units = {case.unit for case in task.cases if (case.id in task.test) is of}
        if len(units) == 1:
            what = f"{counts}; one {side} case or patient"
            remedy = (
                f"intervals, and scores and maps from the other ones, need two; add {side} cases"
            )
            yield Finding("warning", "split", "split.test", what, remedy)
    if train == len(task.cases):
        yield Finding("warning", "split", "split.test", counts, "name test cases in split.test")
    groups: dict[str, set[str]] = defaultdict(set)
    for case in task.cases:
        groups[case.unit].add("test" if case.id in task.test else "train")
    for group in [g for g, parts in groups.items() if len(parts) > 1]:
        members = listed([c.id for c in task.cases if c.unit == group])
        found = f"group {group} is in training and test ({members})"
        yield Finding("error", "split", "split.test", found, "move all of its cases to one side")


def _duplicates(task: Task, cases: Sequence[Examined]) -> Iterator[Finding]:
    """The same voxels in two cases, or in two channels of one."""
    images: dict[str, list[tuple[Examined, str]]] = defaultdict(list)
    labels: dict[str, list[tuple[Examined, str]]] = defaultdict(list)
    for made in cases:
        for channel in made.channels.values():
            if channel.low != channel.high:
                images[channel.digest].append((made, channel.path))
        if made.label_digest:
            labels[made.label_digest].append((made, made.case.label or ""))
    for kind, digests in (("image", images), ("label", labels)):
        for twins in digests.values():
            if len(twins) > 1:
                yield _twins(task, kind, twins)


def _twins(task: Task, kind: str, twins: list[tuple[Examined, str]]) -> Finding:
    paths = [path for _, path in twins]
    found = f"{kind} has the same voxels as {listed(paths[1:])}"
    if len({id(made) for made, _ in twins}) == 1:
        remedy = "two channels are one image; copy the right file"
        return Finding("warning", "duplicates", paths[0], found, remedy)
    if len({made.part(task) for made, _ in twins}) > 1:
        found += ", and one is a training, the other a test case"
        remedy = "remove one of them, or move both to one side of [split]"
        return Finding("error", "duplicates", paths[0], found, remedy)
    remedy = "remove all but one of them, or copy the right file"
    return Finding("warning", "duplicates", paths[0], found, remedy)
