"""Gain over vanilla fine-tuning against the number of iterations, for each recipe and cohort.

Reads analysis/results/recipes.csv, writes figures/crossover.png: Dice points, mean over pairs (of means over seeds) with
95 % t interval, of the argmax with all training slices. Grey: vanilla itself with 30 more iterations, about what a probe
head costs, and with a larger learning rate.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import transfer_risk as tr
from transfer_risk.charts import SIZE, chart_panels, cohorts_in, label_axes, plot_lines

COLUMNS = (
    *("anatomy", "source", "target", "seed", "recipe", "iterations", "decision", "slices", "dice"),
)
NEEDS = {"recipes.csv": ("analysis/recipes.py", COLUMNS)}


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each cohort."""
    table = tables["recipes.csv"]
    table = table[(table["decision"] == "argmax") & (table["slices"] == 0)]
    gains = gain(table)
    figure, axes = chart_panels(len(cohorts_in(gains)), height=3.1)
    here = list(dict.fromkeys(gains["recipe"]))
    muted = [name for name in here if name.startswith("vanilla")]
    names = {n: n for n in (*tr.RECIPES, *here) if n not in ("vanilla", *muted)}
    names |= {n: n for n in muted}
    for ax, (anatomy, name) in zip(axes, cohorts_in(gains).items(), strict=True):
        own = gains[gains["anatomy"] == anatomy]
        ax.axhline(0, color="black", linewidth=0.6)
        plot_lines(ax, own, x="iterations", by="recipe", names=names, muted=muted)
        label_axes(ax, title=name, x="iterations")
        iteration_axis(ax, own.groupby("iterations")["pairs"].max())
    axes[0].set_ylabel("gain over vanilla (Dice points)", fontsize=SIZE)
    handles = dict(
        h for ax in axes for h in zip(*ax.get_legend_handles_labels()[::-1], strict=True)
    )
    shown = [n for n in names if n in handles]
    figure.legend(
        [handles[n] for n in shown],
        shown,
        loc="outside lower center",
        ncols=5,
        fontsize=SIZE,
        frameon=False,
    )
    return figure


def gain(table: pd.DataFrame) -> pd.DataFrame:
    """Paired differences to vanilla after as many iterations."""
    made = tr.paired_summary(
        table,
        ["anatomy", "iterations"],
        method="recipe",
        pair=["source", "target"],
        value="dice",
        reference="vanilla",
    )
    return made[made["recipe"] != "vanilla"].rename(columns={"difference": "value"})


def iteration_axis(ax: Axes, pairs: pd.Series[int]) -> None:
    """Logarithmic, with a tick at each number of iterations, under which the number of pairs stands."""
    stops = list(pairs.index)
    ax.set_xscale("log")
    ax.set_xticks(stops, [f"{s:,}\n({pairs[s]} pairs)" for s in stops])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(stops[0] / 1.35, stops[-1] * 1.35)


def example() -> dict[str, pd.DataFrame]:
    """A made-up table for --smoke."""
    rng = np.random.default_rng(0)
    rows = [
        (anatomy, *pair, 10, recipe, steps, "argmax", 0, 70 + gained + rng.normal())
        for anatomy in ("tissue", "partitions")
        for pair in permutations("abc", 2)
        for steps in (50, 200, 800)
        for recipe, gained in (
            ("vanilla", 0),
            ("vanilla, longer", 60 / steps),
            ("vanilla, lr x 3", 90 / steps),
            *((name, k - 4 + 200 / steps) for k, name in enumerate(list(tr.RECIPES)[1:])),
        )
    ]
    return {"recipes.csv": pd.DataFrame(rows, columns=COLUMNS)}


if __name__ == "__main__":
    tr.draw_results(__doc__, draw, name="crossover", needs=NEEDS, example=example)
