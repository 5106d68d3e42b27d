"""The figure of several cases: rows of image, label, prediction and risk maps on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from transfer_risk.overlays import (
    CONTOUR,
    SOURCE,
    classes_over,
    draw,
    draw_contour,
    draw_marks,
    risk_over,
)
from transfer_risk.paper import Page
from transfer_risk.riskmap import RiskMap
from transfer_risk.views import View, Window, grey_slice, riskiest_slice
from transfer_risk.volumes import Volume

PALETTE = (  # Okabe and Ito's for colour-blind readers first; more classes than colours start again
    *("#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#56b4e9", "#b0b0b0"),
    *("#8c564b", "#17becf", "#bcbd22", "#7f3c8d", "#80ba5a", "#f97b72", "#4b4b8f", "#e377c2"),
)
BORDER, FORMER = "target border", "source border"


@dataclass(frozen=True, eq=False)
class Example:
    """One case as it is shown.

    Args:
        case: Its id.
        volume: Image (C, X, Y, Z), affine and labels (X, Y, Z).
        prediction: Classes (X, Y, Z), numbered as the names that `plot_examples` is given.
        maps: Risk maps (1, X, Y, Z), such as those before and after, all on one span.
        source: What the source decided (X, Y, Z), whose border is drawn on the maps too.
    """

    case: str
    volume: Volume
    prediction: NDArray[Any]
    maps: tuple[RiskMap, ...]
    source: NDArray[Any] | None = None


def plot_examples(
    examples: Sequence[Example],
    *,
    classes: Sequence[str],
    predicted: Sequence[str] = (),
    titles: Sequence[str] = (),
    axis: int = 2,
    index: int | None = None,
    channel: int = 0,
    width: float = 7.0,
) -> Figure:
    """Figure with a row for each case: image, label, prediction, and each risk map over the image.

    Neurological: the patient's left is at the left, as the letters say. The line on the risk maps is the border of the
    target's foreground, a dashed one that of what the source decided for. Sizes are those on paper; no text is smaller than
    6 points.

    Args:
        examples: Rows.
        classes: Target classes, background first.
        predicted: Name of each number in the predictions, background first, where they are others.
        titles: Of all columns, where they are not `image`, `label` and so on.
        axis: Array axis along which the slices lie.
        index: Slice; where not given, that with the most risk over the maps of the row.
        channel: Of the image.
        width: Inches, at least 3.

    Raises:
        ValueError: if there is no example, or a case has no such slice.
    """
    if not examples:
        raise ValueError("examples must be at least one case to draw; got none")
    rows = [_Row.of(e, axis, index, channel) for e in examples]
    maps, extent = examples[0].maps, _extent(rows)
    risks = ("risk",) if len(maps) == 1 else ("risk before", "risk after")
    heads = tuple(titles) or ("image", "label", "prediction", *risks)
    colours = _colours(classes, predicted or classes)
    borders = (BORDER,) if examples[0].source is None else (BORDER, FORMER)
    page = Page(width, len(rows), heads, extent[1] / extent[0], (*colours, *borders))
    figure, panels = page.figure()
    for row, axes in zip(rows, panels, strict=True):
        by_class = [[colours[n] for n in names[1:]] for names in (classes, predicted or classes)]
        row.draw(axes, _around(row.window, extent), by_class)
        draw_marks(axes[0], row.view, size=page.size)
        name = f"{page.fitted(row.example.case)}\nslice {row.index}"
        axes[0].set_ylabel(name, fontsize=page.size, labelpad=2, linespacing=1.1)
    page.bar(figure, maps[0].base)
    page.legend(figure, [*_patches(colours), *_lines(borders)])
    return figure


@dataclass(frozen=True, eq=False)
class _Row:
    """One slice of one case."""

    example: Example
    view: View
    index: int
    grey: NDArray[np.float64]
    window: Window

    @classmethod
    def of(cls, example: Example, axis: int, index: int | None, channel: int) -> _Row:
        image = example.volume.image[channel]
        if index is None:
            index = riskiest_slice(sum(m.risk[0].numpy() for m in example.maps), axis=axis)
        if not 0 <= index < image.shape[axis]:
            raise ValueError(
                f"slice must be in 0 to {image.shape[axis] - 1} for case {example.case}; got {index}"
            )
        view = View.of(example.volume.affine, axis)
        return cls(example, view, index, *grey_slice(image, view, index))

    def draw(self, axes: Sequence[Axes], window: Window, colours: Sequence[Sequence[str]]) -> None:
        """Draw the panels; `colours` of the target's and of the predicted classes."""
        labels, predicted = (
            self.view.slice(v, self.index)
            for v in (self.example.volume.labels, self.example.prediction)
        )
        layers = [self.grey, classes_over(self.grey, labels, colours[0])]
        layers.append(classes_over(self.grey, predicted, colours[1]))
        for risk_map in self.example.maps:
            risk = self.view.slice(risk_map.risk[0].numpy(), self.index)
            layers.append(risk_over(self.grey, risk, risk_map.base))
        for ax, layer in zip(axes, layers, strict=True):
            draw(ax, layer, self.view, window)
        for ax in axes[3:]:
            if (former := self.example.source) is not None:
                mask = self.view.slice(former, self.index) > 0
                draw_contour(ax, mask, self.view, linewidth=0.6, colour=SOURCE, dashed=True)
            draw_contour(ax, labels > 0, self.view, linewidth=0.6)


def _patches(colours: dict[str, str]) -> list[Patch]:
    return [Patch(color=c, alpha=0.85, linewidth=0, label=n) for n, c in colours.items()]


def _lines(borders: Sequence[str]) -> list[Line2D]:
    styles = {BORDER: (CONTOUR, "-"), FORMER: (SOURCE, (0, (2.5, 1.0)))}
    return [
        Line2D([], [], color=styles[b][0], linestyle=styles[b][1], linewidth=1, label=b)
        for b in borders
    ]


def _colours(classes: Sequence[str], predicted: Sequence[str]) -> dict[str, str]:
    """Colour of each foreground class by name: what two models call the same has the same."""
    names = dict.fromkeys([*classes[1:], *predicted[1:]])
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(names)}


def _extent(rows: Sequence[_Row]) -> tuple[float, float]:
    """Width and height in mm that hold the window of every row."""
    windows = np.array([r.window for r in rows])
    return float((windows[:, 1] - windows[:, 0]).max()), float(
        (windows[:, 3] - windows[:, 2]).max()
    )


def _around(window: Window, extent: tuple[float, float]) -> Window:
    """Window of an extent with the centre of another."""
    x, y = (window[0] + window[1]) / 2, (window[2] + window[3]) / 2
    return x - extent[0] / 2, x + extent[0] / 2, y - extent[1] / 2, y + extent[1] / 2
