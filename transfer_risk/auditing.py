"""Do scores choose the right source? Scores of sources against the Dice that fine-tuning from them reached."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transfer_risk.intervals import DIFFERENCE, SHARE, Estimate
from transfer_risk.reached import reached_dice
from transfer_risk.scoretables import score_columns, score_frame
from transfer_risk.textrows import listed
from transfer_risk.usertables import Table

MEASURES = {
    **dict.fromkeys(("kendall", "weighted_kendall", "spearman"), DIFFERENCE),
    "top1": SHARE,
    "regret": (0.0, 100.0),
}
"""Bounds of each measure of a verdict."""
NAIVE = (
    "same_modality",
    "same_class",
    "same_institution",
    "own_dice",
    "random",
)  # shown below the scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """One score on one target.

    Args:
        task: The target.
        score: Name of the score, or `random`.
        kendall: Kendall's tau-b between score and Dice; NaN where one of them is constant.
        weighted_kendall: `scipy.stats.weightedtau`: agreement at the top weighs more.
        spearman: Rank correlation.
        top1: Whether the chosen source is the best one; the share of the chosen ones that is, where several tie.
        regret: Dice of the best source minus Dice of the chosen one (the mean of tied ones), in points.
        sources: Number of sources.
        missing: How many of them have no score; they count as ranked last.
    """

    task: str
    score: str
    kendall: float
    weighted_kendall: float
    spearman: float
    top1: float
    regret: float
    sources: int
    missing: int


@dataclass(frozen=True, eq=False)
class Audit:
    """Verdicts of all scores on all targets.

    Args:
        verdicts: By score, then target.
        notes: Sentences on what was left out or counted as ranked last.
    """

    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores; naive choices last."""
        names = dict.fromkeys(v.score for v in self.verdicts)
        return tuple(sorted(names, key=lambda n: NAIVE.index(n) if n in NAIVE else -1))

    def mean(self, score: str, measure: str) -> Estimate:
        """Mean of a measure over the targets where it is known, with its interval over targets."""
        values = [getattr(v, measure) for v in self.verdicts if v.score == score]
        return Estimate.mean(values, bounds=MEASURES[measure])


def audit(scores: Table, results: Table, *, names: Sequence[str] = ()) -> Audit:
    """How well scores, and naive choices beside them, choose the source that fine-tunes best on each target.

    Args:
        scores: Rows (or a data frame) with `task`, `source` and score columns, higher = better. Naive choices are score
            columns too: `same_modality`, `same_class`, `same_institution` (0 or 1), `own_dice` (the source's Dice on its
            own task).
        results: Rows (or a data frame) with `task`, `source` and `dice` in [0, 1]; `seed`, `case` and `class`, where there,
            are averaged over: what one source of a task lacks of them is dropped for all.
        names: Score columns; all that are numbers where not given.

    Returns:
        Verdicts, with `random` as exact expectation over all choices.

    Raises:
        ValueError: if a column is missing or no number, rows repeat, Dice lies outside [0, 1], or no target has two sources
            with scores and Dice.
    """
    frame = score_frame(scores)
    columns, ignored = score_columns(frame, names)
    if "random" in columns:
        raise ValueError(
            "scores must have no column random: a random choice stands beside them anyway; give it another name"
        )
    dice, dropped = reached_dice(results)
    scored = {task: set(rows["source"]) for task, rows in frame.groupby("task", sort=False)}
    targets = {task: by for task, by in dice.items() if len(scored.get(task, set()) & set(by)) > 1}
    if not targets:
        raise ValueError(
            "scores and results must share a task with at least two sources of the same names; scores have "
            f"{_shown(scored)}, results {_shown(dice)}"
        )
    notes = [*ignored, *dropped, *_left_out(dice, targets, scored), *_unjudged(frame, targets)]
    verdicts = []
    for name in columns:
        rows = zip(frame["task"], frame["source"], frame[name], strict=True)
        values = {(task, source): float(value) for task, source, value in rows}
        verdicts += [_verdict(task, name, by, values) for task, by in targets.items()]
        notes += _missing(name, verdicts[-len(targets) :])
    verdicts += [_random(task, by) for task, by in targets.items()]
    return Audit(tuple(verdicts), tuple(notes))


def _verdict(
    task: str, name: str, dice: Mapping[str, float], values: Mapping[tuple[str, str], float]
) -> Verdict:
    """Measures of one score on one target; a source without a score is ranked last."""
    score = np.array([values.get((task, source), math.nan) for source in dice])
    reached = np.array(list(dice.values()))
    missing = np.isnan(score)
    if missing.all():
        return Verdict(task, name, *(math.nan,) * 5, len(score), len(score))
    score[missing] = -math.inf
    chosen = score == score.max()
    return Verdict(
        task,
        name,
        *_correlations(score, reached),
        *_choice(chosen, reached),
        len(score),
        int(missing.sum()),
    )


def _correlations(score: Floats, reached: Floats) -> tuple[float, float, float]:
    """Kendall's tau-b, its weighted form, and Spearman; NaN where one side is constant."""
    from scipy.stats import kendalltau, rankdata, spearmanr, weightedtau

    if len(set(score)) == 1 or len(set(reached)) == 1:
        return math.nan, math.nan, math.nan
    ranks = rankdata(score)  # -inf becomes a number
    pairs = (kendalltau(ranks, reached), weightedtau(ranks, reached), spearmanr(ranks, reached))
    kendall, weighted, spearman = (float(result.statistic) for result in pairs)
    return kendall, weighted, spearman


def _choice(chosen: NDArray[np.bool_], reached: Floats) -> tuple[float, float]:
    """Expected top-1 hit and regret in Dice points when one of the chosen sources is drawn."""
    best = reached.max()
    return float((reached[chosen] == best).mean()), float(100 * (best - reached[chosen].mean()))


def _random(task: str, dice: Mapping[str, float]) -> Verdict:
    """Expectation over all choices and orders: no correlation.

    Where Dice ties, scipy breaks the ties by the score, and the weighted form has another expectation: unknown.
    """
    reached = np.array(list(dice.values()))
    distinct = len(set(reached))
    plain = 0.0 if distinct > 1 else math.nan
    weighted = 0.0 if distinct == len(reached) else math.nan
    choice = _choice(np.ones(len(reached), dtype=bool), reached)
    return Verdict(task, "random", plain, weighted, plain, *choice, len(reached), 0)


def _shown(sources: Mapping[str, Collection[str]]) -> str:
    """The first tasks with their sources."""
    return "; ".join(f"{t}: {listed(sorted(own))}" for t, own in list(sources.items())[:3])


def _left_out(
    dice: Mapping[str, Any], targets: Mapping[str, Any], scored: Collection[str]
) -> Iterator[str]:
    for task in dice:
        if task not in scored:
            yield f"task {task} has results but no scores; left out"
        elif task not in targets:
            yield f"task {task} has less than two sources with scores and results; left out"
    for task in sorted(set(scored) - set(dice)):
        yield f"task {task} has scores but no results; left out"


def _unjudged(frame: Any, targets: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    pairs = zip(frame["task"], frame["source"], strict=True)
    lost = [
        f"{source} on {task}"
        for task, source in pairs
        if source not in targets.get(task, (source,))
    ]
    if lost:
        yield f"scored but without results, left out: {listed(lost)}"


def _missing(name: str, verdicts: Sequence[Verdict]) -> Iterator[str]:
    judged = [v for v in verdicts if v.missing < v.sources]
    lost, total = sum(v.missing for v in judged), sum(v.sources for v in judged)
    if lost:
        yield f"{name} is unknown for {lost} of {total} sources of targets; these are ranked last"
    if empty := len(verdicts) - len(judged):
        yield f"{name} is unknown for all sources of {empty} of {len(verdicts)} targets, which do not count"
