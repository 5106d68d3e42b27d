"""Checks of a task and of sources for it, without a full run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from transfer_risk.adapters import load_source
from transfer_risk.callbacks import Tell
from transfer_risk.doctor.cohort import check_cohort
from transfer_risk.doctor.division import check_split
from transfer_risk.doctor.examination import examine
from transfer_risk.doctor.finding import SEVERITIES, Finding, from_error
from transfer_risk.doctor.fit import check_source
from transfer_risk.layouts import load_task
from transfer_risk.sources import Source
from transfer_risk.tasks import Task

__all__ = ["Finding", "diagnose", "findings_text"]

SHOWN = 5  # findings of one check in the table


def diagnose(
    task: Task | str | Path,
    sources: Sequence[Source | str | Path] = (),
    *,
    read: Callable[[str | Path], Source] = load_source,
    progress: Tell | None = None,
) -> list[Finding]:
    """Findings on a task's files, labels, intensities and split, and on how sources fit it; errors first.

    Each volume is read once, one at a time. What is broken becomes a finding, nothing is raised for it.

    Args:
        task: A task or its file.
        sources: Sources, or their folders.
        read: What loads a source that is given as a folder or file.
        progress: Called with the case or source that is looked at.
    """
    tell = progress or (lambda _: None)
    target, found = _loaded_task(task)
    cases = []
    for case in target.cases if target else ():
        tell(case.id)
        cases.append(examine(case, target))  # type: ignore[arg-type]
        found += cases[-1].findings
    if target:
        found += [*check_cohort(target, cases), *check_split(target, cases)]
    names: list[str] = []
    for item in sources:
        tell(item.name if isinstance(item, Source) else str(item))
        source, problems = _loaded_source(item, read)
        found += problems
        if source:
            names.append(source.name)
            found += check_source(source, target, cases) if target else ()
    found += _same_names(names)
    return sorted(found, key=lambda f: SEVERITIES.index(f.severity))


def findings_text(findings: Sequence[Finding], format_: str) -> str:
    """The findings as `table` or `json`; the table shows the first few of many like ones."""
    if format_ == "json":
        return json.dumps({"findings": [asdict(f) for f in findings]}, indent=2) + "\n"
    numbers = Counter(f.severity for f in findings)
    title = ", ".join(f"{numbers[s]} {s}{'s' * (numbers[s] != 1)}" for s in SEVERITIES)
    return "\n".join([title, *_lines(findings), ""])


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    shown: Counter[tuple[str, str]] = Counter()
    total = Counter((f.severity, f.check) for f in findings)
    for finding in findings:
        kind = finding.severity, finding.check
        shown[kind] += 1
        if shown[kind] == SHOWN + 1 and total[kind] > SHOWN:
            yield f"{kind[0]:<8} {kind[1]}: {total[kind] - SHOWN} more; --format json lists them all"
        if shown[kind] <= SHOWN:
            yield f"{finding.severity:<8} {finding.where}: {finding.found}"
            if finding.remedy:
                yield f"{'':<8} -> {finding.remedy}"


def _loaded_task(task: Task | str | Path) -> tuple[Task | None, list[Finding]]:
    if isinstance(task, Task):
        return task, []
    try:
        return load_task(task), []
    except Exception as error:  # whatever a broken file raises is the finding
        return None, [from_error(error, "reading", str(task))]


def _loaded_source(
    item: Source | str | Path, read: Callable[[str | Path], Source]
) -> tuple[Source | None, list[Finding]]:
    if isinstance(item, Source):
        return item, []
    try:
        return read(item), []
    except Exception as error:  # whatever a broken file raises is the finding
        return None, [from_error(error, "source", str(item))]


def _same_names(names: Sequence[str]) -> Iterator[Finding]:
    for name, number in Counter(names).items():
        if number > 1:
            found = f"{number} sources bear this name; a ranking calls them by their paths"
            yield Finding("note", "source", name, found)
