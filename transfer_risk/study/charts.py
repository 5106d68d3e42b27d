"""Charts of study results: panels, names, lines with intervals; sizes are those on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from transfer_risk.colours import BLUE as BLUE
from transfer_risk.colours import COLOURS, GREY
from transfer_risk.colours import RUST as RUST
from transfer_risk.overlays import empty_figure

if TYPE_CHECKING:
    import pandas as pd

COHORTS = {"tissue": "tissue", "tumour": "tumour", "partitions": "tumour"}
"""What panels are called, in their order, by anatomy."""
MARKERS = "osD^vPX*"
TEXT_SIZE = 7.0
DODGE = 2.5  # points between two marks at one place


def chart_panels(
    columns: int,
    *,
    rows: int = 1,
    height: float,
    width: float = 7.0,
    widths: Sequence[float] | None = None,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A new figure with empty panels, which have plain frames, and these in reading order.

    Args:
        columns: Panels beside each other.
        rows: Panels below each other.
        height: Of the figure in inches.
        width: Of the figure in inches.
        widths: Of the columns, relative; equal where not given.
        share_y: One vertical scale for all.
    """
    figure = empty_figure(width, height)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y, width_ratios=widths)
    for ax in axes.flat:
        ax.tick_params(labelsize=TEXT_SIZE, width=0.6, length=2.5)
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_offset_text().set_fontsize(TEXT_SIZE)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_linewidth(0.6)
    return figure, list(axes.flat)


def label_axes(ax: Axes, *, title: str = "", x: str = "", y: str = "") -> Axes:
    """Write the title and the names of the axes."""
    ax.set_title(title, fontsize=TEXT_SIZE + 1, loc="left")
    ax.set_xlabel(x, fontsize=TEXT_SIZE)
    ax.set_ylabel(y, fontsize=TEXT_SIZE)
    return ax


def cohorts_in(table: pd.DataFrame) -> dict[str, str]:
    """Anatomies of a table and what they are called, in the order of `COHORTS`; others come last as they are."""
    there = list(dict.fromkeys(table["anatomy"]))
    return {a: COHORTS.get(a, a) for a in sorted(there, key=_place)}


def signed(value: float) -> str:
    """A difference in points, with its sign: a true minus, and none before what rounds to 0.

    >>> signed(1.26), signed(-0.04)
    ('+1.3', '0.0')
    """
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def plot_lines(
    ax: Axes,
    table: pd.DataFrame,
    *,
    x: str,
    by: str,
    names: Mapping[str, str] | None = None,
    muted: Sequence[str] = (),
) -> Axes:
    """A line with marks and intervals for each name; what stands at one place is set apart by a few points of width.

    Args:
        ax: Where to draw.
        table: Columns `value`, `low` and `high` (NaN: no interval), and those of the next two arguments.
        x: Column of the horizontal places.
        by: Column of the names.
        names: Names in the order of colours (so that panels agree), and what the legend calls them; those of the table,
            as they are, where not given.
        muted: Names drawn grey and dashed.
    """
    called = names or {n: n for n in dict.fromkeys(table[by])}
    there = [n for n in called if (table[by] == n).any()]
    for number, name in enumerate(there):
        rows = table[table[by] == name].sort_values(x)
        style = list(called).index(name)
        shift = DODGE * (number - (len(there) - 1) / 2)
        moved = ScaledTranslation(shift / 72, 0, ax.figure.dpi_scale_trans)
        places, values = rows[x].to_numpy(), rows["value"].to_numpy()
        reach = arms(values, rows["low"].to_numpy(), rows["high"].to_numpy())
        ax.errorbar(
            places,
            values,
            yerr=reach,
            label=called[name],
            color=GREY if name in muted else COLOURS[style % len(COLOURS)],
            linestyle="--" if name in muted else "-",
            marker=MARKERS[style % len(MARKERS)],
            markersize=3.5,
            linewidth=1,
            elinewidth=0.7,
            transform=ax.transData + moved,
        )
        for ends in (
            values - reach[0],
            values + reach[1],
        ):  # what is moved does not count by itself
            ax.update_datalim(np.column_stack([places, ends]))
    ax.autoscale_view()
    return ax


def arms(value: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Lengths of error bars (2, n) below and above values, 0 where the interval is unknown."""
    arms = np.stack([value - low, high - value])
    return np.where(np.isnan(arms), 0.0, arms)


def _place(anatomy: str) -> int:
    return list(COHORTS).index(anatomy) if anatomy in COHORTS else len(COHORTS)
