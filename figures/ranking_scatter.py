"""Does a score choose the source that fine-tunes best? Scores against the Dice reached, and what choosing by them costs.

Reads analysis/results/ranking.csv and ranking_summary.csv, writes figures/ranking_scatter.png, a row for each cohort. Left:
a score and the Dice that fine-tuning reached, both minus their mean over the sources of the target; a dot is a source, a
colour a target, a line the least-squares fit within it. Right: mean regret in Dice points with 95 % interval over targets.
"""

from __future__ import annotations

from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from transfer_risk import PARTITION_TASKS, TISSUE_TASKS, draw_results
from transfer_risk.charts import (
    BLUE,
    COLOURS,
    GREY,
    RUST,
    SIZE,
    arms,
    chart_panels,
    cohorts_in,
    label_axes,
)

PROGRAM = "analysis/ranking.py"
SCORES = {"leep_normalised": "vanilla", "probe_dice": "probe + adaptive-risk"}
COLUMNS = (
    "anatomy",
    "seed",
    "task",
    "source",
    *SCORES,
    *(f"reached[{r}]" for r in SCORES.values()),
)
SUMMARY = ("anatomy", "recipe", "score", "measure", "value", "low", "high", "targets")
NEEDS = {"ranking.csv": (PROGRAM, COLUMNS), "ranking_summary.csv": (PROGRAM, SUMMARY)}
NAIVE = ("same_modality", "same_class", "same_institution", "own_dice", "random")
SHADES = {"vanilla": (BLUE, GREY), "probe + adaptive-risk": (RUST, "#c4c4c4")}


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """Two scatters and the regret for each cohort."""
    ranking, summary = (tables[name] for name in NEEDS)
    summary = summary[(summary["measure"] == "regret") & summary["recipe"].isin(SHADES)]
    ranking = ranking[ranking["anatomy"].isin(summary["anatomy"])]
    cohorts = cohorts_in(ranking)
    if not cohorts:
        raise ValueError(
            f"ranking_summary.csv must have the regret of {' or '.join(SHADES)} for a cohort of "
            f"ranking.csv; got none; python {PROGRAM} writes both again"
        )
    tall = max(2.4, 0.8 + 0.17 * summary["score"].nunique())
    figure, axes = chart_panels(
        3, rows=len(cohorts), height=0.3 + tall * len(cohorts), widths=(1, 1, 0.9)
    )
    for row, (anatomy, name) in enumerate(cohorts.items()):
        left, middle, right = axes[3 * row : 3 * row + 3]
        own = ranking[ranking["anatomy"] == anatomy]
        for ax, (score, recipe) in zip((left, middle), SCORES.items(), strict=True):
            scatter(ax, own, score, f"reached[{recipe}]")
            label_axes(ax, title=f"{name}, {recipe}", x=f"{score} \N{MINUS SIGN} mean of target")
        left.set_ylabel("Dice reached \N{MINUS SIGN} mean of target (points)", fontsize=SIZE)
        costs = summary[summary["anatomy"] == anatomy]
        bars(right, costs)
        targets = int(costs["targets"].max())
        label_axes(
            right, title=f"{name}, {targets} targets", x="regret of the choice (Dice points)"
        )
    name_targets(axes[::3], list(cohorts.values()))
    return figure


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
        fontsize=SIZE,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
    )


def scatter(ax: Axes, table: pd.DataFrame, score: str, reached: str) -> Axes:
    """Sources of each target around their mean, with a line through them."""
    tasks = sorted(set(table["task"]))
    dice = 100 * table[reached]
    by = [table["seed"], table["task"]]
    x = table[score] - table[score].groupby(by).transform("mean")
    y = dice - dice.groupby(by).transform("mean")
    for task, colour in zip(tasks, COLOURS, strict=False):
        own = (table["task"] == task) & x.notna() & y.notna()
        across, up = x[own], y[own]
        ax.plot(across, up, "o", color=colour, markersize=2.8, alpha=0.8, mew=0, label=task)
        if (across**2).sum() > 0:
            slope = (across * up).sum() / (across**2).sum()
            ends = np.array([across.min(), across.max()])
            ax.plot(ends, slope * ends, color=colour, linewidth=0.8)
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
        reach = arms(value, rows["low"].to_numpy(), rows["high"].to_numpy())
        ax.errorbar(value, places, xerr=reach, fmt="none", ecolor="black", elinewidth=0.6)
    ax.set_yticks(range(len(order)), order)
    ax.set_ylim(len(order) - 0.4, -1.3)  # room for the legend
    ax.axvline(0, color="black", linewidth=0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    tight = {"borderpad": 0, "borderaxespad": 0, "handletextpad": 0.3, "columnspacing": 0.6}
    ax.legend(
        fontsize=SIZE - 0.5, ncols=2, loc="upper right", frameon=False, handlelength=0.8, **tight
    )
    return ax


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    rows, costs = [], []
    for anatomy, tasks in (("tissue", TISSUE_TASKS), ("partitions", PARTITION_TASKS)):
        for task in tasks:
            for source, score in zip("uvwxy", rng.random(5), strict=True):
                reached = 0.7 + 0.1 * score + 0.03 * rng.normal(size=2)
                rows.append((anatomy, 10, task, source, score, 0.5 + 0.2 * score, *reached))
        for recipe in SCORES.values():
            for name in ("leep", "eep_dice", "dice_plain", "probe_dice", *NAIVE):
                cost = rng.uniform(0.5, 3) + 2 * (name in NAIVE)
                costs.append((anatomy, recipe, name, "regret", cost, cost - 0.8, cost + 0.8, 6))
    return {
        "ranking.csv": pd.DataFrame(rows, columns=COLUMNS),
        "ranking_summary.csv": pd.DataFrame(costs, columns=SUMMARY),
    }


if __name__ == "__main__":
    draw_results(__doc__, draw, name="ranking_scatter", needs=NEEDS, example=example)
