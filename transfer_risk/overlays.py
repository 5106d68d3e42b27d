"""The layers of one panel: grey anatomy, colours over it, contour, orientation marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from transfer_risk.views import View, Window

COLOURS = "inferno"
CONTOUR, SOURCE = "#4fd1ff", "#a6ff4f"
Pixels = NDArray[np.float64]


def empty_figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches, without any state of pyplot."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def risk_over(grey: Pixels | None, risk: NDArray[Any], base: float) -> Pixels:
    """Colours (rows, columns, 3) of risk over grey in [0, 1]; opaque without grey.

    Clear at risk 1 and where ignored, as opaque as it gets from the middle of the scale on: what is high looks the same
    over bright and dark tissue.
    """
    share = np.clip((np.asarray(risk, dtype=np.float64) - 1) / max(base - 1, 1e-6), 0, 1)
    colours = np.asarray(colormaps[COLOURS](share)[..., :3])
    if grey is None:
        return colours
    return _blend(grey, colours, 0.8 * np.minimum(1.0, np.sqrt(share / 0.5)))


def colour_map(base: float, *, clear: bool) -> ListedColormap:
    """The scale of the risk from 1 to the base; `clear`: as it looks over middle grey."""
    scale = np.linspace(1, max(base, 1.001), 256)
    return ListedColormap(risk_over(np.full(256, 0.5) if clear else None, scale, base))


def classes_over(grey: Pixels, classes: NDArray[Any], colours: Sequence[str]) -> Pixels:
    """Colours (rows, columns, 3) of foreground classes over grey in [0, 1]; `colours` of classes 1, 2, ..."""
    table = np.array([(0.0, 0.0, 0.0), *map(to_rgb, colours)])
    shown = np.maximum(classes, 0)
    return _blend(grey, table[shown], np.where(shown > 0, 0.75, 0.0))


def draw(ax: Axes, colours: Pixels, view: View, window: Window | None = None) -> None:
    """Draw pixels (rows, columns, 3) or (rows, columns) in [0, 1] in their true proportions, black around them."""
    ax.imshow(
        colours,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        interpolation="nearest",
        extent=view.box(colours),
    )
    left, right, bottom, top = window or view.box(colours)
    ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="black")
    ax.spines[:].set_visible(False)


def draw_contour(
    ax: Axes,
    mask: NDArray[np.bool_],
    view: View,
    *,
    linewidth: float = 0.7,
    colour: str = CONTOUR,
    dashed: bool = False,
) -> None:
    """Draw the border of a mask (rows, columns)."""
    padded = np.pad(mask, 1).astype(float)  # so that the border closes at the edge of the image
    if mask.any():
        y, x = (
            (np.arange(n) - 0.5) * s for n, s in zip(padded.shape, view.spacing[::-1], strict=True)
        )
        style = (0, (2.5, 1.5)) if dashed else "solid"
        lines = {"colors": colour, "linewidths": linewidth, "linestyles": [style]}
        ax.contour(x, y, padded, levels=[0.5], **lines)


def draw_marks(ax: Axes, view: View, *, size: float) -> None:
    """Write the directions of the patient at the four edges."""
    outline = [withStroke(linewidth=1.2, foreground="black")]
    places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.98))
    sides = (("left", "center"), ("right", "center"), ("center", "bottom"), ("center", "top"))
    for letter, (x, y), (ha, va) in zip(view.letters, places, sides, strict=True):
        ax.text(
            x,
            y,
            letter,
            transform=ax.transAxes,
            ha=ha,
            va=va,
            fontsize=size,
            color="white",
            path_effects=outline,
        )


def draw_bar(ax: Axes, base: float, *, size: float) -> None:
    """Draw the scale of the risk over a middle grey, as it looks over tissue."""
    scale = np.linspace(1, max(base, 1.001), 256)[None]
    ax.imshow(
        scale,
        cmap=colour_map(base, clear=True),
        extent=(1, scale[0, -1], 0, 1),
        aspect="auto",
        interpolation="nearest",
    )
    ax.set(yticks=[], xticks=np.linspace(1, scale[0, -1], 4))
    ax.set_xticks(ax.get_xticks(), [f"{t:.3g}" for t in ax.get_xticks()], fontsize=size)
    ax.tick_params(length=2, width=0.5, pad=1.5)
    ax.spines[:].set_linewidth(0.5)


def _blend(grey: Pixels, colours: NDArray[Any], opacity: NDArray[Any]) -> Pixels:
    alpha = opacity[..., None]
    return np.asarray((1 - alpha) * grey[..., None] + alpha * colours)
