"""Sources of one task in order, on the same voxels, with paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transfer_risk.callbacks import Tell
from transfer_risk.passes import CACHE
from transfer_risk.probing import layer_to_probe, probed
from transfer_risk.scoretables import SCORES, ranking_rows
from transfer_risk.scoring import Score, score
from transfer_risk.sources import Source
from transfer_risk.tasks import Task
from transfer_risk.textrows import listed

AUTO = "auto"
"""By `probe_dice`, or by LEEP where a source cannot be probed."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of several sources, best first.

    Args:
        task: Its name.
        by: The score that orders: the asked one, or what `auto` came to.
        scores: Best first; sources without that score last.
        dropped: Reason by case that no source was scored on.
        failed: Reason by source that could not be scored.
    """

    task: str
    by: str
    scores: tuple[Score, ...]
    dropped: dict[str, str]
    failed: dict[str, str]

    def rows(self) -> list[dict[str, Any]]:
        """One row per source in the columns of ranking.csv; unknown = None."""
        return ranking_rows(self.scores, self.by)


def rank_sources(
    sources: Sequence[Source],
    task: Task,
    *,
    by: str = AUTO,
    probe: bool = False,
    cache: int = CACHE,
    progress: Tell | None = None,
) -> Ranking:
    """Rank sources on the training cases of a task.

    By default by `probe_dice` where every source can be probed, else by LEEP, and none is probed then: for fine-tuning with
    `--head probe` and a frozen encoder it lost least Dice against the best choice of all scores; with nothing frozen and a
    Dice loss no score was certain to beat a random choice (docs/results.md).

    Sources that share a name, such as runs of one task, go by their paths.

    Sources of the same `probe_dice`, such as 0, stand in the order of `probe_log_likelihood`.

    A case that one source cannot predict, or that cannot be read, is dropped for all and named; a source that can
    predict no case at all is left out and named. With `probe`, or by a probe's score, each source is also probed, which
    costs about two more passes over the training cases.

    Raises:
        ValueError: if `by` is neither a score nor `auto`, or known of no source; if a source is given twice, or none could
            be scored.
    """
    if by not in (AUTO, *SCORES):
        raise ValueError(f"by must be {AUTO} or one of {', '.join(SCORES)}; got {by!r}")
    sources = told_apart(sources)
    scores, dropped, failed = _scores(sources, task, cache, progress)
    by_name = {s.name: s for s in sources if s.name in scores}
    why = {name: _no_probe(source) for name, source in by_name.items()} if by == AUTO else {}
    if probe or by.startswith("probe") or (why and not any(why.values())):
        note = _grid_note(list(by_name.values()))
        scores = {
            name: probed(_warned(own, *note), by_name[name], task) for name, own in scores.items()
        }
    else:
        scores = {n: _warned(own, *why.get(n, ())) for n, own in scores.items()}
    if by == AUTO:
        known = [not math.isnan(_value(s, "probe_dice")) for s in scores.values()]
        by = "probe_dice" if all(known) else "leep"
    if all(math.isnan(_value(s, by)) for s in scores.values()):
        found = [n for n in SCORES if any(not math.isnan(_value(s, n)) for s in scores.values())]
        raise ValueError(
            f"by must be a score that is known of some source, {', '.join(found)}; got {by}"
        )
    ties = (by, "probe_log_likelihood") if by == "probe_dice" else (by,)
    ordered = sorted(scores.values(), key=lambda s: [_descending(_value(s, n)) for n in ties])
    return Ranking(task.name, by, tuple(replace(s, failed={}) for s in ordered), dropped, failed)


def _no_probe(source: Source) -> tuple[str, ...]:
    """A sentence on why a source cannot be probed, before any is; none where it can."""
    try:
        layer_to_probe(source)
    except ValueError as error:
        return (
            f"no probe: {error}; so all are ranked by LEEP and none is probed (--probe probes the others)",
        )
    return ()


def _warned(own: Score, *sentences: str) -> Score:
    return replace(own, warnings=(*own.warnings, *sentences))


def _grid_note(sources: Sequence[Source]) -> tuple[str, ...]:
    """A sentence where the probes of the sources are measured at different voxel sizes; none where not."""
    # sorted: nnU-Net's plans have the axes in another order
    spacings = {tuple(sorted(s.preprocessing.spacing)) for s in sources}
    if len(spacings) < 2:
        return ()
    words = ", ".join(
        " x ".join(f"{v:g}" for v in s) or "the image's own" for s in sorted(spacings)
    )
    return (
        f"probe-Dice is measured at the voxel size that each network sees, and these differ (mm: {words}): read small "
        "differences with care, or rank by LEEP (--by leep), which is of the same voxels for all",
    )


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources, those that share a name called by their paths; ValueError where that does not tell them apart."""
    names = [s.name for s in sources]
    named = [replace(s, name=s.path or s.name) if names.count(s.name) > 1 else s for s in sources]
    names = [s.name for s in named]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise ValueError(
            f"sources must have different names or paths; {', '.join(twice)} is given more than once; leave out all but "
            "one, or give them other names"
        )
    return named


def _scores(
    sources: Sequence[Source], task: Task, cache: int, progress: Tell | None
) -> tuple[dict[str, Score], dict[str, str], dict[str, str]]:
    """Scores by source on the cases that all of them can predict; reasons by dropped case and by failed source."""
    cases = task.split("train")
    scores: dict[str, Score] = {}
    dropped: dict[str, str] = {}
    failed: dict[str, str] = {}
    for source in sources:
        try:
            scores[source.name] = score(source, task, cases=cases, cache=cache, progress=progress)
            failures = scores[source.name].failed.items()
            dropped = {c: _with_source(source.name, why) for c, why in failures} | dropped
        except ValueError as error:
            failed[source.name] = str(error)
    if not scores:
        raise ValueError("; ".join(dict.fromkeys(failed.values())) or "no source was given")
    common = [c for c in cases if c.id not in dropped]
    kept = {c.id for c in common}
    if not any(_has_foreground(own, kept, task.classes[1:]) for own in scores.values()):
        lost = [
            f"{s.source} cannot predict {listed(s.failed)}" for s in scores.values() if s.failed
        ]
        raise ValueError(
            f"sources must share a case with foreground that all of them can predict; {'; '.join(lost)}. Rank fewer sources"
        )
    for source in sources:  # that could predict what another one could not: again, on what is left
        if source.name in scores and set(scores[source.name].failed) != set(dropped):
            scores[source.name] = score(source, task, cases=common, cache=cache, progress=progress)
    return scores, dropped, failed


def _with_source(name: str, why: str) -> str:
    """Why a case was dropped for all, with the source that it was dropped for."""
    return why if name in why else f"{why} (source {name})"


def _has_foreground(score: Score, cases: set[str], classes: Sequence[str]) -> bool:
    """Whether one of the cases has voxels of one of the classes."""
    return any(
        case in cases and name == "leep" and label in classes
        for case, name, label, _ in score.per_case
    )


def _value(own: Score, name: str) -> float:
    return own.estimates[name].value if name in own.estimates else math.nan


def _descending(value: float) -> float:
    return math.inf if math.isnan(value) else -value
