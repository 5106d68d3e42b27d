"""Which part of the method does the work: each variant against the risk map as in the paper.

Reads analysis/results/ablation_summary.csv, writes figures/ablation.png: paired difference in Dice points with 95 % interval
over pairs at the largest number of iterations; a panel for each cohort, variants in groups. Blue: the interval lies above 0;
orange: below; grey: it holds 0. Very long intervals run out of the panel, where a triangle points.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer_risk import study

COLUMNS = (
    *("group", "anatomy", "iterations", "recipe"),
    *("difference", "low", "high", "pairs"),
)
NEEDS = {"ablation_summary.csv": ("analysis/ablation.py", COLUMNS)}
LINE = 0.15  # inches


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each cohort; all have the same rows."""
    table = last_stops(tables["ablation_summary.csv"].astype({"group": str, "recipe": str}))
    lines = rows_of(table)
    cohorts = study.cohorts_in(table)
    figure: Figure
    figure, axes = study.chart_panels(len(cohorts), height=0.6 + LINE * len(lines), share_y=True)
    for ax, (anatomy, name) in zip(axes, cohorts.items(), strict=True):
        own = table[table["anatomy"] == anatomy]
        forest(ax, own, lines)
        steps, pairs = int(own["iterations"].iloc[0]), int(own["pairs"].max())
        title = f"{name}, {steps:,} iterations, {pairs} pairs"
        study.label_axes(ax, title=title, x="difference to the risk map (Dice points)")
    name_rows(axes[0], lines)
    return figure


def last_stops(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the variants at each cohort's largest number of iterations, without the risk map itself.

    Of a variant that is the same runs in several groups, as vanilla is, the first group's row is kept.
    """
    kept = table[table["recipe"] != "risk-map"]
    if kept.empty:
        raise ValueError(
            "ablation_summary.csv must have rows beside the risk map's; got none; "
            "python analysis/ablation.py writes it again"
        )
    last = kept["iterations"] == kept.groupby("anatomy")["iterations"].transform("max")
    return kept[last].drop_duplicates(["anatomy", "recipe", "difference", "low", "high"])


def rows_of(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Group and variant of each row, in their order; a row without variant is the heading of its group."""
    lines = []
    for group, block in table.groupby("group", sort=False):
        lines += [(group, ""), *((group, v) for v in dict.fromkeys(block["recipe"]))]
    return lines


def forest(ax: Axes, table: pd.DataFrame, lines: list[tuple[str, str]]) -> Axes:
    """A dot with its interval in the row of each variant."""
    ax.axvline(0, color="black", linewidth=0.6)
    for row in table.itertuples():
        place = lines.index((row.group, row.recipe))
        colour = study.BLUE if row.low > 0 else study.RUST if row.high < 0 else study.GREY
        reach = study.arms(*(np.array([v]) for v in (row.difference, row.low, row.high)))
        ax.errorbar(
            [row.difference],
            [place],
            xerr=reach,
            fmt="o",
            color=colour,
            markersize=3.5,
            elinewidth=1,
        )
    ends = table[["difference", "low", "high"]].abs()
    limit = 1.2 * max(ends["difference"].max(), ends[["low", "high"]].stack().quantile(0.7))
    ax.set_xlim(-limit, limit)
    for row in table.itertuples():  # what runs out of the panel
        place = lines.index((row.group, row.recipe))
        for beyond, edge, mark in ((row.low < -limit, -limit, "<"), (row.high > limit, limit, ">")):
            if beyond:
                ax.plot([edge], [place], mark, color=study.GREY, markersize=3.5, clip_on=False)
    ax.grid(axis="x", color="#e5e5e5", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    return ax


def name_rows(ax: Axes, lines: list[tuple[str, str]]) -> Axes:
    """Write headings of groups in bold and the names of variants below them; the first row is on top."""
    ax.set_yticks(range(len(lines)), [variant or group for group, variant in lines])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    for label, (_, variant) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_fontsize(study.TEXT_SIZE)
        label.set_fontweight("normal" if variant else "bold")
    return ax


def example() -> dict[str, pd.DataFrame]:
    """A made-up table for --smoke."""
    rng = np.random.default_rng(0)
    groups = {
        "base": ("1", "2", "3.16", "10", "100"),
        "part of the map": ("class means", "shuffled within class", "within class alone"),
        "divisor": ("batch", "image", "pixels"),
    }
    rows = []
    for group, variants in groups.items():
        for anatomy in ("tissue", "partitions"):
            for variant in variants:
                value, reach = rng.normal(0, 3), rng.uniform(0.5, 2)
                at = (group, anatomy, 200, variant)
                rows.append((*at, value, value - reach, value + reach, 6))
    return {"ablation_summary.csv": pd.DataFrame(rows, columns=COLUMNS)}


if __name__ == "__main__":
    study.draw_results(__doc__, draw, name="ablation", needs=NEEDS, example=example)
