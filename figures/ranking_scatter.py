"""Does a score choose the source that fine-tunes best? Scores against the Dice reached, and what choosing by them costs.

Reads analysis/results/ranking_confirmed.csv (argmax; upper rows) and ranking_unfrozen.csv (fresh subjects, tuned decisions;
lower rows) with their summaries, writes figures/ranking_scatter.png, a row for each cohort of each. Left: a score and the
Dice that fine-tuning reached, both minus their mean over the sources of the target; a dot is a source, a colour a target;
above it Kendall's tau with 95 % interval over targets. Right: mean regret of some scores in Dice points, with intervals too.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from transfer_risk import study

AUDITS = {
    "ranking_confirmed": (study.SECOND, "{}", {"leep": "vanilla", "probe_dice": study.PROBED_DICE}),
    "ranking_unfrozen": (
        study.THIRD,
        "{}, fresh subjects",
        {"leep": "vanilla", "probe_dice": study.DICE_UNFROZEN},
    ),
}
"""Seed of analysis/ranking.py that writes the audit, what its cohorts are called, and scores that are drawn with recipes."""
KEYS = ("anatomy", "seed", "task", "source")
SUMMARY = ("anatomy", "recipe", "score", "measure", "value", "low", "high", "targets")
NEEDS = {
    file: (f"analysis/ranking.py --seed {seed}", columns)
    for name, (seed, _, drawn) in AUDITS.items()
    for file, columns in (
        (f"{name}.csv", (*KEYS, *drawn, *(f"reached[{r}]" for r in drawn.values()))),
        (f"{name}_summary.csv", SUMMARY),
    )
}
NAIVE = ("same_modality", "own_dice", "random")
SHOWN = ("leep", "eep_dice", "nce", "probe_dice", *NAIVE)
"""Scores whose regret is drawn."""
SHADES = ((study.BLUE, study.GREY), (study.RUST, "#c4c4c4"))
"""Of the scores and of the naive choices, by recipe."""


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """Two scatters and the regret for each cohort of each audit."""
    rows = [(audit, cohort) for audit in AUDITS for cohort in cohorts_of(tables, audit).items()]
    tall = max(2.4, 0.9 + 0.17 * len(SHOWN))
    figure: Figure
    figure, axes = study.chart_panels(
        3, rows=len(rows), height=0.3 + tall * len(rows), widths=(1, 1, 0.9)
    )
    for row, (audit, (anatomy, name)) in enumerate(rows):
        _, called, drawn = AUDITS[audit]
        left, middle, right = axes[3 * row : 3 * row + 3]
        ranking, summary = tables[f"{audit}.csv"], tables[f"{audit}_summary.csv"]
        own = ranking[ranking["anatomy"] == anatomy]
        for ax, (score, recipe) in zip((left, middle), drawn.items(), strict=True):
            scatter(ax, own, score, f"reached[{recipe}]")
            title = f"{called.format(name)}\n{recipe}{kendall(summary, anatomy, recipe, score)}"
            study.label_axes(ax, title=title, x=f"{score} \N{MINUS SIGN} mean of target")
        left.set_ylabel(
            "Dice reached \N{MINUS SIGN} mean of target (points)", fontsize=study.TEXT_SIZE
        )
        costs = regrets(summary, drawn.values())
        costs = costs[costs["anatomy"] == anatomy]
        bars(right, costs, list(drawn.values()))
        title = f"{called.format(name)}\n{int(costs['targets'].max())} targets"
        study.label_axes(right, title=title, x="regret of the choice (Dice points)")
    last = dict(zip((name for _, (_, name) in rows), axes[::3], strict=True))
    name_targets(list(last.values()), list(last))
    return figure


def cohorts_of(tables: dict[str, pd.DataFrame], audit: str) -> dict[str, str]:
    """Anatomies with a regret in an audit, and what they are called; ValueError where there is none."""
    seed, _, drawn = AUDITS[audit]
    there = regrets(tables[f"{audit}_summary.csv"], drawn.values())["anatomy"]
    ranking = tables[f"{audit}.csv"]
    cohorts: dict[str, str] = study.cohorts_in(ranking[ranking["anatomy"].isin(there)])
    if not cohorts:
        raise ValueError(
            f"{audit}_summary.csv must have the regret of {' or '.join(drawn.values())} for a cohort of "
            f"{audit}.csv; got none; python analysis/ranking.py --seed {seed} writes both again"
        )
    return cohorts


def regrets(summary: pd.DataFrame, recipes: Collection[str]) -> pd.DataFrame:
    """Its rows with the regret of what is shown with these recipes."""
    kept = (summary["measure"] == "regret") & summary["recipe"].isin(recipes)
    return summary[kept & summary["score"].isin(SHOWN)]


def kendall(summary: pd.DataFrame, anatomy: str, recipe: str, score: str) -> str:
    """A second line of a title: Kendall's tau with its interval over targets; nothing where it is unknown."""
    keys = {"measure": "kendall", "anatomy": anatomy, "recipe": recipe, "score": score}
    rows = summary[(summary[list(keys)] == pd.Series(keys)).all(axis=1)]
    return "".join(
        f"\nKendall's tau {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for r in rows.itertuples()
    )


def name_targets(axes: list[Axes], cohorts: list[str]) -> None:
    """Legend below the figure: a line with the targets of each cohort."""
    lines = []
    for ax, name in zip(axes, cohorts, strict=True):
        dots = list(zip(*ax.get_legend_handles_labels(), strict=True))
        lines.append([(Line2D([], [], linestyle="none"), f"{name} targets"), *dots])
    columns = zip_longest(*lines, fillvalue=(Line2D([], [], linestyle="none"), ""))
    handles, words = zip(*chain.from_iterable(columns), strict=True)
    axes[0].figure.legend(
        handles,
        words,
        loc="outside lower center",
        ncols=max(map(len, lines)),
        fontsize=study.TEXT_SIZE,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def scatter(ax: Axes, table: pd.DataFrame, score: str, reached: str) -> Axes:
    """Sources of each target around their mean."""
    tasks = sorted(set(table["task"]))
    dice = 100 * table[reached]
    by = [table["seed"], table["task"]]
    x = table[score] - table[score].groupby(by).transform("mean")
    y = dice - dice.groupby(by).transform("mean")
    for task, colour in zip(tasks, study.COLOURS, strict=False):
        own = (table["task"] == task) & x.notna() & y.notna()
        across, up = x[own], y[own]
        ax.plot(across, up, "o", color=colour, markersize=2.8, alpha=0.8, mew=0, label=task)
    ax.locator_params(nbins=5)
    return ax


def bars(ax: Axes, summary: pd.DataFrame, recipes: list[str]) -> Axes:
    """Mean regret of each score, the smallest on top, with one bar for each recipe; naive choices are grey."""
    order = list(summary.groupby("score")["value"].mean().sort_values().index)
    thickness = 0.8 / len(recipes)
    for number, (recipe, shades) in enumerate(zip(recipes, SHADES, strict=True)):
        rows = summary[summary["recipe"] == recipe].set_index("score").reindex(order)
        places = np.arange(len(order)) + (number - (len(recipes) - 1) / 2) * thickness
        value = rows["value"].to_numpy()
        colours = [shades[name in NAIVE] for name in order]
        ax.barh(places, value, thickness, color=colours)
        ax.barh([0], [0], color=shades[0], label=recipe)
        reach = study.arms(value, rows["low"].to_numpy(), rows["high"].to_numpy())
        ax.errorbar(value, places, xerr=reach, fmt="none", ecolor="black", elinewidth=0.6)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.4, -1.3)  # room for the legend
    ax.vlines(0, -0.5, len(order) - 0.4, color="black", linewidth=0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    tight = {"borderpad": 0, "borderaxespad": 0, "handletextpad": 0.3, "columnspacing": 0.6}
    ax.legend(
        fontsize=study.TEXT_SIZE - 0.5,
        ncols=2,
        loc="upper right",
        frameon=False,
        handlelength=0.8,
        **tight,
    )
    return ax


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    tables = {}
    for audit, (_, _, drawn) in AUDITS.items():
        rows, costs = [], []
        for anatomy in study.TASKS:
            for task in study.TASKS[anatomy]:
                for source, score in zip("uvwxy", rng.random(5), strict=True):
                    reached = 0.7 + 0.1 * score + 0.03 * rng.normal(size=2)
                    rows.append((anatomy, 10, task, source, score, 0.5 + 0.2 * score, *reached))
            for recipe in drawn.values():
                for name in SHOWN:
                    cost = rng.uniform(0.5, 3) + 2 * (name in NAIVE)
                    costs.append((anatomy, recipe, name, "regret", cost, cost - 0.8, cost + 0.8, 6))
        tables[f"{audit}.csv"] = pd.DataFrame(rows, columns=NEEDS[f"{audit}.csv"][1])
        tables[f"{audit}_summary.csv"] = pd.DataFrame(costs, columns=SUMMARY)
    return tables


if __name__ == "__main__":
    study.draw_results(__doc__, draw, name="ranking_scatter", needs=NEEDS, example=example)
