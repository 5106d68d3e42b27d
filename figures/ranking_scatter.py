"""Does a score choose the source that fine-tunes best? Scores against the Dice reached, and what choosing by them costs.

Reads analysis/results/ranking_confirmed.csv and its summary, writes figures/ranking_scatter.png, a row for each cohort.
Left: a score and the Dice that fine-tuning reached, both minus their mean over the sources of the target; a dot is a source,
a colour a target; above it Kendall's tau with 95 % interval over targets. Right: mean regret of some scores in Dice points,
with such intervals.
"""

from __future__ import annotations

from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from transfer_risk import study

PROGRAM = "analysis/ranking.py --seed 12"
SCORES = {"leep": "vanilla", "probe_dice": study.PROBED_DICE}
COLUMNS = (
    "anatomy",
    "seed",
    "task",
    "source",
    *SCORES,
    *(f"reached[{r}]" for r in SCORES.values()),
)
SUMMARY = ("anatomy", "recipe", "score", "measure", "value", "low", "high", "targets")
NEEDS = {
    "ranking_confirmed.csv": (PROGRAM, COLUMNS),
    "ranking_confirmed_summary.csv": (PROGRAM, SUMMARY),
}
NAIVE = ("same_modality", "own_dice", "random")
SHOWN = ("leep", "eep_dice", "nce", "probe_dice", *NAIVE)
"""Scores whose regret is drawn."""
SHADES = {"vanilla": (study.BLUE, study.GREY), study.PROBED_DICE: (study.RUST, "#c4c4c4")}


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """Two scatters and the regret for each cohort."""
    ranking, whole = (tables[name] for name in NEEDS)
    summary = whole[(whole["measure"] == "regret") & whole["recipe"].isin(SHADES)]
    summary = summary[summary["score"].isin(SHOWN)]
    ranking = ranking[ranking["anatomy"].isin(summary["anatomy"])]
    cohorts = study.cohorts_in(ranking)
    if not cohorts:
        raise ValueError(
            f"ranking_confirmed_summary.csv must have the regret of {' or '.join(SHADES)} for a cohort of "
            f"ranking_confirmed.csv; got none; python {PROGRAM} writes both again"
        )
    tall = max(2.4, 0.8 + 0.17 * summary["score"].nunique())
    figure: Figure
    figure, axes = study.chart_panels(
        3, rows=len(cohorts), height=0.3 + tall * len(cohorts), widths=(1, 1, 0.9)
    )
    for row, (anatomy, name) in enumerate(cohorts.items()):
        left, middle, right = axes[3 * row : 3 * row + 3]
        own = ranking[ranking["anatomy"] == anatomy]
        for ax, (score, recipe) in zip((left, middle), SCORES.items(), strict=True):
            scatter(ax, own, score, f"reached[{recipe}]")
            tau = kendall(whole, anatomy, recipe, score)
            title = f"{name}, {recipe}{tau}"
            study.label_axes(ax, title=title, x=f"{score} \N{MINUS SIGN} mean of target")
        left.set_ylabel(
            "Dice reached \N{MINUS SIGN} mean of target (points)", fontsize=study.TEXT_SIZE
        )
        costs = summary[summary["anatomy"] == anatomy]
        bars(right, costs)
        targets = int(costs["targets"].max())
        study.label_axes(
            right, title=f"{name}, {targets} targets", x="regret of the choice (Dice points)"
        )
    name_targets(axes[::3], list(cohorts.values()))
    return figure


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


def bars(ax: Axes, summary: pd.DataFrame) -> Axes:
    """Mean regret of each score, the smallest on top, with one bar for each recipe; naive choices are grey."""
    order = list(summary.groupby("score")["value"].mean().sort_values().index)
    recipes = [recipe for recipe in SHADES if (summary["recipe"] == recipe).any()]
    thickness = 0.8 / len(recipes)
    for number, recipe in enumerate(recipes):
        rows = summary[summary["recipe"] == recipe].set_index("score").reindex(order)
        places = np.arange(len(order)) + (number - (len(recipes) - 1) / 2) * thickness
        value = rows["value"].to_numpy()
        colours = [SHADES[recipe][name in NAIVE] for name in order]
        ax.barh(places, value, thickness, color=colours)
        ax.barh([0], [0], color=SHADES[recipe][0], label=recipe)
        reach = study.arms(value, rows["low"].to_numpy(), rows["high"].to_numpy())
        ax.errorbar(value, places, xerr=reach, fmt="none", ecolor="black", elinewidth=0.6)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.4, -1.3)  # room for the legend
    ax.axvline(0, color="black", linewidth=0.6)
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
    rows, costs = [], []
    for anatomy, tasks in (("tissue", study.TISSUE_TASKS), ("partitions", study.PARTITION_TASKS)):
        for task in tasks:
            for source, score in zip("uvwxy", rng.random(5), strict=True):
                reached = 0.7 + 0.1 * score + 0.03 * rng.normal(size=2)
                rows.append((anatomy, 10, task, source, score, 0.5 + 0.2 * score, *reached))
        for recipe in SCORES.values():
            for name in SHOWN:
                cost = rng.uniform(0.5, 3) + 2 * (name in NAIVE)
                costs.append((anatomy, recipe, name, "regret", cost, cost - 0.8, cost + 0.8, 6))
    return {
        "ranking_confirmed.csv": pd.DataFrame(rows, columns=COLUMNS),
        "ranking_confirmed_summary.csv": pd.DataFrame(costs, columns=SUMMARY),
    }


if __name__ == "__main__":
    study.draw_results(__doc__, draw, name="ranking_scatter", needs=NEEDS, example=example)
