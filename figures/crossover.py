"""Gain over vanilla fine-tuning against the number of iterations: the paper's losses, and recipes beyond them.

Reads analysis/results/table1.csv and table2.csv (first row), recipes_confirmed.csv (second), tuned.csv (third) and
tuned_confirmed.csv (fourth: subjects after which nothing was decided), writes figures/crossover.png: Dice points, mean over
pairs (of means over seeds) with 95 % t interval, with all training slices, of the argmax, and in the last two rows of
decisions that are tuned in vanilla too. Models from scratch are those of all
pairs of a target: their intervals are over targets. Grey: vanilla itself with 30 more iterations, about what a probe head
costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from transfer_risk import study

COLUMNS = ("anatomy", "source", "target", "seed", "recipe", "iterations", "decision", "dice")
NEEDS = {
    "table1.csv": ("analysis/table1.py", COLUMNS),
    "table2.csv": ("analysis/table2.py", COLUMNS),
    "recipes_confirmed.csv": ("analysis/recipes.py --seed 12", (*COLUMNS, "slices")),
    "tuned.csv": ("analysis/tuned.py", COLUMNS),
    "tuned_confirmed.csv": ("analysis/tuned.py --seed 13", COLUMNS),
}
PAPER, BEYOND = "the paper's losses, argmax", "beyond the paper, argmax"
TUNED, UNSEEN = "beyond the paper, tuned", "fresh subjects, tuned"
BESIDE = (
    *(study.DICE, study.PROBED_DICE, *study.UNFROZEN, *study.FRESH),
    *(study.VANILLA_UNFROZEN, study.LONGER),
)
"""What is drawn beyond the paper's losses, in the order of colours."""


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A row for the paper's losses and three for recipes beyond them, with a panel for each cohort."""
    paper = [study.regular(t) for name, t in tables.items() if name.startswith("table")]
    beyond = tables["recipes_confirmed.csv"]
    rows = {
        PAPER: gain(pd.concat(paper)),
        BEYOND: gain(beyond[beyond["slices"] == 0], BESIDE),
        TUNED: gain(tables["tuned.csv"], BESIDE, decision="tuned"),
        UNSEEN: gain(tables["tuned_confirmed.csv"], BESIDE, decision="tuned"),
    }
    cohorts = study.cohorts_in(pd.concat(rows.values()))
    figure: Figure
    figure, axes = study.chart_panels(len(cohorts), rows=4, height=10.6)
    for number, (title, gains) in enumerate(rows.items()):
        own = axes[number * len(cohorts) : (number + 1) * len(cohorts)]
        order = dict.fromkeys(gains["recipe"]) if title == PAPER else BESIDE
        names = {name: name for name in order}
        handles: dict[str, Any] = {}
        for ax, (anatomy, name) in zip(own, cohorts.items(), strict=True):
            shown = gains[gains["anatomy"] == anatomy]
            if shown.empty:
                ax.set_axis_off()
                continue
            ax.axhline(0, color="black", linewidth=0.6)
            study.plot_lines(
                ax, shown, x="iterations", by="recipe", names=names, muted=[study.LONGER]
            )
            pairs = " to ".join(map(str, sorted({shown["pairs"].min(), shown["pairs"].max()})))
            study.label_axes(ax, title=f"{name}, {title}\n{pairs} pairs", x="iterations")
            iteration_axis(ax, sorted(set(shown["iterations"])))
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        own[0].set_ylabel("gain over vanilla (Dice points)", fontsize=study.TEXT_SIZE)
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
        there = [n for n in names if n in handles]
        own[-1].legend(
            [handles[n] for n in there], there, fontsize=study.TEXT_SIZE, frameon=False, **place
        )
    return figure


def gain(
    table: pd.DataFrame, recipes: Sequence[str] = (), *, decision: str = "argmax"
) -> pd.DataFrame:
    """Paired differences to vanilla after as many iterations with the same decision, of all recipes or of these."""
    made = study.paired_summary(
        table[table["decision"] == decision],
        ["anatomy", "iterations"],
        method="recipe",
        pair=["source", "target"],
        value="dice",
        reference="vanilla",
        shared="target",
    )
    scratch = made["recipe"].isin(study.FRESH)  # one model for all pairs of a target
    for end in ("low", "high"):
        made[end] = made[end].where(~scratch, made[f"{end}_shared"])
    chosen = made["recipe"].isin(recipes or set(made["recipe"])) & (made["recipe"] != "vanilla")
    return made[chosen & (made["pairs"] > 0)].rename(columns={"difference": "value"})


def iteration_axis(ax: Axes, stops: list[int]) -> None:
    """Logarithmic, with a tick at each number of iterations."""
    ax.set_xscale("log")
    ax.set_xticks(stops, [f"{s:,}" for s in stops])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(stops[0] / 1.35, stops[-1] * 1.35)


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    recipes = {"table1.csv": study.METHODS, "table2.csv": study.METHODS}
    recipes["recipes_confirmed.csv"] = (*study.CONFIRMED, study.LONGER)
    recipes["tuned.csv"] = recipes["tuned_confirmed.csv"] = ("vanilla", *BESIDE)
    tables = {}
    for file, names in recipes.items():
        decision = "tuned" if file.startswith("tuned") else "argmax"
        rows = [
            (anatomy, *pair, 10, name, steps, decision, 70 + 100 * k / steps - k + rng.normal(), 0)
            for anatomy in ("tissue", "partitions")
            if file not in ("table1.csv", "table2.csv") or (anatomy == "tissue") == ("1" in file)
            for pair in permutations("abc", 2)
            for steps in (50, 200, 800)
            for k, name in enumerate(names)
        ]
        tables[file] = pd.DataFrame(rows, columns=[*COLUMNS, "slices"])
    return tables


if __name__ == "__main__":
    study.draw_results(__doc__, draw, name="crossover", needs=NEEDS, example=example)
