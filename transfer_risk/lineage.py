"""What a source, and those that it was fine-tuned from, were trained on, and which cases of a task they have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer_risk.sources import Source
from transfer_risk.tasks import Task


def trainings_of(source: Source) -> tuple[Mapping[str, Any], ...]:
    """What is known of its training, then of that of each source that it was fine-tuned from."""
    return (source.trained, *source.trained.get("ancestors", ()))


def ancestors_after(source: Source) -> list[dict[str, Any]]:
    """Name, dataset and cases, as far as known, of its trainings: the `ancestors` of what is fine-tuned from it."""
    kept = ("name", "dataset", "cases")
    own, *others = trainings_of(source)
    return [{k: t[k] for k in kept if k in t} for t in ({**own, "name": source.name}, *others)]


def seen_cases(source: Source, task: Task, ids: Iterable[str]) -> list[str]:
    """Those of a task's cases of whose patient it, or a source that it was fine-tuned from, has seen one in training.

    Cases count by their ids, on the same data set.
    """
    found = {case for t in _on_data_of(task, source) for case in t.get("cases", ())}
    units = {c.id: c.unit for c in task.cases}
    known = found | {units[case] for case in found if case in units}
    return sorted(case for case in set(ids) if case in found or units.get(case) in known)


def seen_note(source: Source, task: Task, ids: Sequence[str], what: str) -> str:
    """A sentence on those of the cases that were seen, or may have been; empty where there is none.

    Args:
        source: Its lineage counts.
        task: Of the cases.
        ids: Of the cases.
        what: Happens to the cases, such as "scored".
    """
    seen, data = seen_cases(source, task, ids), Path(task.root).name
    unknown = not all("cases" in t for t in _on_data_of(task, source))
    if seen:
        more = f", and on {data} cases that are not known" if unknown else ""
        others = ", or on others of their patients" if any(c.group for c in task.cases) else ""
        count = f"{len(seen)} of the {len(ids)} {what} cases{others}"
        return f"source {source.name} was trained on {count}{more}"
    known = f"whether on the {what} cases is not known"
    return f"source {source.name} was trained on {data} too; {known}" if unknown else ""


def _on_data_of(task: Task, source: Source) -> list[Mapping[str, Any]]:
    """The trainings on the data set of a task."""
    return [t for t in trainings_of(source) if t.get("dataset") == Path(task.root).name]
