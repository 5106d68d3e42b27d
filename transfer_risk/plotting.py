"""Figures: each function takes an axes (or makes one), draws, and returns it; nothing is shown or saved here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from transfer_risk.riskmap import RiskMap

if TYPE_CHECKING:
    from transfer_risk.ranking import Ranking

COLOURS = "inferno"


def plot_risk(
    risk_map: RiskMap,
    *,
    ax: Axes | None = None,
    image: Any = None,
    labels: Any = None,
    index: int | None = None,
    axis: int = 2,
    colour_bar: bool = True,
) -> Axes:
    """Risk over grey anatomy (opaque where high), with the contour of the target.

    Colours always run from 1 to the base, so that panels compare.

    Args:
        risk_map: 2D (1, X, Y) or 3D (1, X, Y, Z), first axis pointing right, second to the front (RAS).
        ax: Where to draw.
        image: Anatomy (X, Y) or (X, Y, Z).
        labels: Target classes of the same shape; the border of the foreground is drawn.
        index: Slice along `axis`; the one with the largest total risk above 1 where not given.
        axis: Slice axis in 3D.
        colour_bar: Draw it.
    """
    ax = ax or plt.subplots(figsize=(3.4, 3.6), layout="constrained")[1]
    risk = risk_map.risk[0].numpy()
    if risk.ndim == 3 and index is None:
        index = riskiest_slice(risk, axis=axis)
    layers = [_slice(a, axis, index) for a in (risk, image, labels)]
    opacity: Any = 1.0
    if image is not None:
        box = _box(layers[1] != 0)
        layers = [None if a is None else a[box] for a in layers]
    risk, grey, target = layers
    if grey is not None:
        ax.imshow(grey.T, cmap="gray", origin="lower", interpolation="nearest")
        share = (risk - 1).clip(0) / max(risk_map.base - 1, 1e-6)
        opacity = (0.85 * np.sqrt(share)).T
    ax.imshow(
        risk.T,
        cmap=COLOURS,
        vmin=1,
        vmax=max(risk_map.base, 1.0),
        origin="lower",
        interpolation="nearest",
        alpha=opacity,
    )
    if target is not None and (target > 0).any():
        ax.contour((target > 0).T.astype(float), levels=[0.5], colors="#4fd1ff", linewidths=0.7)
    ax.set_axis_off()
    if colour_bar:
        colours = ScalarMappable(Normalize(1, max(risk_map.base, 1.0)), COLOURS)
        ax.figure.colorbar(colours, ax=ax, label="risk", shrink=0.8)
    return ax


def riskiest_slice(risk: Any, *, axis: int = 2) -> int:
    """Index of the slice with the largest total risk above 1."""
    others = tuple(a for a in range(3) if a != axis)
    return int(np.maximum(risk - 1, 0).sum(axis=others).argmax())


def plot_ranking(ranking: Ranking, *, ax: Axes | None = None) -> Axes:
    """Scores with 95 % intervals over cases, best on top; for LEEP the floor of an uninformative source is marked."""
    count = len(ranking.scores)
    ax = ax or plt.subplots(figsize=(4.2, 0.9 + 0.34 * count), layout="constrained")[1]
    estimates = [s.estimates[ranking.by] for s in ranking.scores]
    values = np.array([e.value for e in estimates])
    ends = np.array([e.interval() for e in estimates])
    reach = np.abs(ends - values[:, None]).T if count else np.zeros((2, 0))
    if np.isnan(reach).any():
        ax.plot(values, range(count), "o", color="#1f4e79")
    else:
        ax.errorbar(values, range(count), xerr=reach, fmt="o", color="#1f4e79", capsize=3)
    if ranking.by.startswith("leep"):
        floor = ranking.scores[0].estimates["leep_floor"].value
        ax.axvline(floor, color="#b3541e", linestyle="--", linewidth=1)
        ax.annotate(
            "uninformative",
            (floor, 1),
            xycoords=("data", "axes fraction"),
            fontsize=8,
            color="#b3541e",
        )
    ax.set_yticks(range(count), [s.source for s in ranking.scores])
    ax.invert_yaxis()
    unit = " (nats)" if ranking.by.startswith(("leep", "nce")) else ""
    ax.set_xlabel(f"{ranking.by}{unit}, 95 % interval over {len(ranking.scores[0].cases)} cases")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _slice(volume: Any, axis: int, index: int | None) -> Any:
    if volume is None:
        return None
    array = np.asarray(volume)
    return array if index is None else np.take(array, index, axis=axis)


def _box(mask: Any) -> tuple[slice, slice]:
    """Bounding box of a 2D mask with a margin of two pixels; everything where it is empty."""
    if not mask.any():
        return slice(None), slice(None)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(max(rows[0] - 2, 0), rows[-1] + 3), slice(max(columns[0] - 2, 0), columns[-1] + 3)
