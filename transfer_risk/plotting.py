"""Figures: each function takes axes (or makes them), draws, and returns them; nothing is shown here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from transfer_risk.colours import BLUE, RUST
from transfer_risk.files import written
from transfer_risk.overlays import colour_map, draw, draw_contour, empty_figure, risk_over
from transfer_risk.riskmap import RiskMap
from transfer_risk.scoretables import FLOORS, NO_SCORES
from transfer_risk.views import View, grey_slice, riskiest_slice

if TYPE_CHECKING:
    from transfer_risk.ranking import Ranking

UNDATED: dict[str, dict[str, None]] = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


def plot_risk(
    risk_map: RiskMap,
    *,
    ax: Axes | None = None,
    image: Any = None,
    labels: Any = None,
    index: int | None = None,
    axis: int = 2,
    affine: Any = None,
    colour_bar: bool = True,
) -> Axes:
    """Risk over grey anatomy (nearly opaque where high), with the border of the target.

    Colours always run from 1 to the base, so that panels compare. Neurological: the patient's left is at the left.

    Args:
        risk_map: 2D (1, X, Y) or 3D (1, X, Y, Z).
        ax: Where to draw.
        image: Anatomy (X, Y) or (X, Y, Z).
        labels: Target classes of the same shape; the border of the foreground is drawn.
        index: Slice along `axis`; the one with the largest total risk above 1 where not given.
        axis: Slice axis in 3D.
        affine: Voxel to world (4, 4), for directions and proportions; RAS axes and 1 mm where not given.
        colour_bar: Draw it.
    """
    ax = ax or _axes(3.4, 3.6)
    risk, grey, target = (
        None if v is None else np.atleast_3d(np.asarray(v))
        for v in (risk_map.risk[0], image, labels)
    )
    axis = axis if risk_map.risk.ndim == 4 else 2
    view = View.of(np.eye(4) if affine is None else affine, axis)
    index = riskiest_slice(risk, axis=axis) if index is None else index
    shown, window = None, None
    if grey is not None:
        shown, window = grey_slice(grey, view, index)
    draw(ax, risk_over(shown, view.slice(risk, index), risk_map.base), view, window)
    if target is not None:
        draw_contour(ax, view.slice(target, index) > 0, view)
    if colour_bar:
        add_colour_bar([ax], risk_map.base, clear=grey is not None)
    return ax


def add_colour_bar(axes: Sequence[Axes], base: float, *, clear: bool) -> None:
    """One scale of the risk, from 1 to the base, at the right of all these panels; `clear`: as it looks over grey."""
    scale = ScalarMappable(Normalize(1, max(base, 1.0)), colour_map(base, clear=clear))
    axes[0].figure.colorbar(scale, ax=axes, label="risk", shrink=0.8)


def plot_ranking(
    ranking: Ranking | Sequence[Mapping[str, Any]],
    *,
    by: str | None = None,
    ax: Axes | None = None,
    size: float = 8.0,
) -> Axes:
    """Scores with 95 % intervals over cases, best on top; the score of an uninformative source is marked.

    Args:
        ranking: Of `rank_sources`, or the rows of a ranking.csv or ranking.json.
        by: Score that is drawn and orders; where not given that of the ranking; for rows `probe_dice` where all have it,
            else `leep`.
        ax: Where to draw.
        size: Points of the text.

    Raises:
        ValueError: if the rows have no such score.
    """
    rows = [dict(r) for r in ranking] if isinstance(ranking, Sequence) else ranking.rows()
    by = by or (_usual(rows) if isinstance(ranking, Sequence) else ranking.by)
    refused = not rows or by not in rows[0] or by in ("source", *NO_SCORES)
    if refused or all(math.isnan(_number(r[by])) for r in rows):
        names = [name.removesuffix("_low") for name in (rows or [{}])[0] if name.endswith("_low")]
        known = [n for n in names if not all(math.isnan(_number(r.get(n, ""))) for r in rows)]
        what = ", ".join(n for n in known if n not in NO_SCORES) or "it has none; is it a ranking?"
        raise ValueError(f"by must be a known score of the ranking ({what}); got {by!r}")
    rows.sort(key=lambda r: (math.isnan(_number(r[by])), -_number(r[by])))
    ax = ax or _axes(3.4, 0.6 + 0.2 * len(rows))
    places = np.arange(len(rows))
    values, low, high = (
        np.array([_number(r.get(name)) for r in rows]) for name in (by, f"{by}_low", f"{by}_high")
    )
    ax.hlines(places, low, high, color=BLUE, linewidth=1.2)
    ax.plot(values, places, "o", color=BLUE, markersize=4)
    _mark_floor(ax, _number(rows[0].get(FLOORS.get(by, ""))), size)
    ax.set_yticks(places, [str(r["source"]) for r in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    unit = " (nats)" if by in FLOORS or by.startswith("leep_b") else ""
    cases = f" over {rows[0]['cases']} cases" if "cases" in rows[0] else ""
    over = "" if np.isnan(low).all() else f", 95 % interval{cases}"
    ax.set_xlabel(f"{by}{unit}{over}", fontsize=size)
    _plain(ax, size)
    return ax


def plot_curves(
    log: Sequence[Mapping[str, float]],
    *,
    axes: tuple[Axes, Axes] | None = None,
    size: float = 8.0,
) -> tuple[Axes, Axes]:
    """Loss and share of foreground pixels over the iterations: each value faint, their moving mean over them.

    Args:
        log: Rows of a run's log.csv, `Run.log()`.
        axes: Where to draw.
        size: Points of the text.

    Raises:
        ValueError: if the log is empty.
    """
    if not log:
        raise ValueError("log must have at least one iteration; got none")
    if axes is None:
        figure = _figure(3.4, 2.8)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        axes = (upper, lower)
    iterations = [row["iteration"] for row in log]
    for ax, name, label in zip(
        axes, ("loss", "fg_share"), ("loss", "foreground share"), strict=True
    ):
        values = np.array([row[name] for row in log])
        width = max(1, len(values) // 20)
        ax.plot(iterations, values, color=BLUE, alpha=0.25, linewidth=0.6)
        ax.plot(iterations, _moving_mean(values, width), color=BLUE, linewidth=1.2)
        ax.set_ylabel(label, fontsize=size)
        _plain(ax, size)
    axes[1].set_xlabel("iteration", fontsize=size)
    axes[1].set_ylim(bottom=0)
    return axes


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 300) -> None:
    """Write a figure as PNG, PDF or SVG by the file's ending, whole or not at all; the same bytes for the same figure.

    Raises:
        ValueError: if the ending is another.
    """
    ending = Path(path).suffix.lower()
    if ending not in UNDATED:
        raise ValueError(f"{path}: must end in {', '.join(UNDATED)}")
    fonts = {"svg.hashsalt": "transfer-risk", "pdf.fonttype": 42}  # TrueType, as journals ask
    with rc_context(fonts), written(path) as temporary:
        figure.savefig(temporary, format=ending[1:], dpi=dpi, metadata=UNDATED[ending])


def _figure(width: float, height: float) -> Figure:
    figure = empty_figure(width, height)
    figure.set_layout_engine("constrained")
    return figure


def _axes(width: float, height: float) -> Axes:
    return _figure(width, height).subplots()


def _plain(ax: Axes, size: float) -> None:
    ax.tick_params(labelsize=size)
    ax.spines[["top", "right"]].set_visible(False)


def _usual(rows: Sequence[Mapping[str, Any]]) -> str:
    """The score that `score --by auto` takes."""
    known = [not math.isnan(_number(row.get("probe_dice"))) for row in rows]
    return "probe_dice" if rows and all(known) else "leep"


def _mark_floor(ax: Axes, floor: float, size: float) -> None:
    """Mark what an uninformative source gets, where that is known."""
    if not math.isnan(floor):
        ax.axvline(floor, color=RUST, linestyle="--", linewidth=1)
        place, ends = (floor, 1.01), ("data", "axes fraction")
        ax.annotate("uninformative", place, xycoords=ends, fontsize=size, color=RUST, ha="center")


def _number(value: Any) -> float:
    """A cell of a table; NaN where unknown."""
    return math.nan if value is None or value == "" else float(value)


def _moving_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean over the `width` neighbours around each value; fewer at the ends."""
    kernel = np.ones(width)
    counts = np.convolve(np.ones_like(values), kernel, "same")
    return np.asarray(np.convolve(values, kernel, "same") / counts)
