"""Gain of the risk map over vanilla fine-tuning for each pair of tasks (the paper's Tables I and II as pictures).

Reads analysis/results/table1.csv and table2.csv, writes figures/gain_per_pair.png: rows are source tasks, columns target
tasks, numbers Dice points at the largest number of iterations, of the argmax, as mean over seeds; means are over pairs with
95 % interval. Colours are strongest from the 85th percentile on, so that a few failures of vanilla do not pale the rest.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer_risk import study

COLUMNS = ("anatomy", "source", "target", "seed", "recipe", "iterations", "decision", "dice")
NEEDS = {f"table{k}.csv": (f"analysis/table{k}.py", COLUMNS) for k in (1, 2)}
METHOD = "risk-map"
SATURATED = 85  # percentile of the sizes of gains from which colours are the strongest


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A heat map for each cohort, on one scale."""
    table = pd.concat(tables.values())
    table = table[(table["decision"] == "argmax") & table["recipe"].isin(("vanilla", METHOD))]
    blocks = [last_stop(table[table["anatomy"] == a]) for a in study.cohorts_in(table)]
    gains = [gain(block) for block in blocks]
    sizes = np.concatenate([np.abs(g.to_numpy()).ravel() for g in gains])
    limit = max(1.0, float(np.nanpercentile(sizes, SATURATED)))
    figure: Figure
    figure, axes = study.chart_panels(len(blocks), height=3.45, width=0.5 + 3.25 * len(blocks))
    for ax, block, name, gained in zip(
        axes, blocks, study.cohorts_in(table).values(), gains, strict=True
    ):
        plot_gains(ax, gained, limit=limit)
        steps = int(block["iterations"].iloc[0])
        study.label_axes(
            ax, title=f"{name}, {steps:,} iterations: {mean_gain(block)}", x="target task"
        )
    axes[0].set_ylabel("source task", fontsize=study.TEXT_SIZE)
    style: dict[str, Any] = {"shrink": 0.75, "aspect": 25, "pad": 0.02, "extend": "both"}
    bar = figure.colorbar(axes[0].images[0], ax=axes, **style)
    bar.set_label("gain over vanilla (Dice points)", fontsize=study.TEXT_SIZE)
    bar.ax.tick_params(labelsize=study.TEXT_SIZE, width=0.6, length=2.5)
    bar.outline.set_visible(False)
    return figure


def last_stop(table: pd.DataFrame) -> pd.DataFrame:
    """Rows at the largest number of iterations that all pairs reached, of vanilla too, which is also measured later."""
    own = table[table["recipe"] == METHOD]
    if own.empty:
        raise ValueError(f"table must have rows of recipe {METHOD} with decision argmax; got none")
    pairs = own.drop_duplicates(["source", "target", "iterations"]).groupby("iterations").size()
    return table[table["iterations"] == pairs.index[pairs == pairs.max()].max()]


def gain(table: pd.DataFrame) -> pd.DataFrame:
    """Gain in points, tasks x tasks."""
    dice = table.groupby(["source", "target", "recipe"])["dice"].mean().unstack("recipe")
    tasks = sorted({*table["source"], *table["target"]})
    wide = (dice[METHOD] - dice["vanilla"]).unstack("target")
    return wide.reindex(index=tasks, columns=tasks)


def mean_gain(table: pd.DataFrame) -> str:
    """Mean over pairs with its interval, in words."""
    summary = study.paired_summary(
        table,
        ["anatomy"],
        method="recipe",
        pair=["source", "target"],
        value="dice",
        reference="vanilla",
    )
    row = summary[summary["recipe"] == METHOD].iloc[0]
    return (
        f"mean {study.signed(row.difference)} [{study.signed(row.low)}, {study.signed(row.high)}]"
    )


def plot_gains(ax: Axes, table: pd.DataFrame, *, limit: float) -> Axes:
    """Signed numbers in coloured cells, blue above 0 and red below; cells without a number stay empty."""
    values = table.to_numpy(dtype=float)
    ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if abs(value) > 0.65 * limit else "black"
            ax.text(
                column,
                row,
                study.signed(value),
                ha="center",
                va="center",
                fontsize=study.TEXT_SIZE,
                color=ink,
            )
    ax.set_xticks(range(len(table.columns)), table.columns, rotation=45, ha="right")
    ax.set_yticks(range(len(table)), table.index)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    made = {}
    for name, anatomy, tasks in (
        ("table1.csv", "tissue", study.TISSUE_TASKS),
        ("table2.csv", "partitions", study.PARTITION_TASKS),
    ):
        rows = [
            (anatomy, *pair, seed, recipe, stop, "argmax", 60 + stop / 20 + 4 * rng.normal())
            for pair in permutations(tasks, 2)
            for seed in (10, 11)
            for recipe, stop in (("vanilla", 50), ("vanilla", 80), (METHOD, 50))
        ]
        made[name] = pd.DataFrame(rows, columns=COLUMNS)
    return made


if __name__ == "__main__":
    study.draw_results(
        __doc__, draw, name="gain_per_pair", needs=NEEDS, example=example, every=False
    )
