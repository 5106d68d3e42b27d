"""Where the panels, titles, legend and colour bar of a figure stand on paper, in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer_risk.overlays import draw_bar, empty_figure

GAP = 0.03  # between panels
FIRST = 3  # columns before those that share the colour bar


@dataclass(frozen=True)
class Page:
    """Rows of equal panels under titles, with a legend under the first columns and a colour bar under the others.

    Args:
        width: Of the figure, in inches.
        rows: Number of rows.
        titles: Of the columns.
        ratio: Height of a panel over its width.
        names: Words of the legend.
    """

    width: float
    rows: int
    titles: tuple[str, ...]
    ratio: float
    names: tuple[str, ...]

    @property
    def size(self) -> float:
        """Points of all text: 6 at 3.4 inches, 7.5 from 7 inches on."""
        return 6.0 + 1.5 * float(np.clip((self.width - 3.4) / 3.6, 0, 1))

    @property
    def line(self) -> float:
        """Height of a letter's body."""
        return self.size / 72

    @property
    def left(self) -> float:
        """Room for the names of the rows: two lines."""
        return 2.9 * self.line

    @property
    def panel(self) -> tuple[float, float]:
        """Width and height of a panel."""
        columns = len(self.titles)
        wide = (self.width - self.left - GAP * columns) / columns
        return wide, wide * self.ratio

    @property
    def legend_lines(self) -> list[int]:
        """Number of words in each line of the legend, as many as the first columns have room for."""
        room, lines, used = FIRST * self.panel[0], [0], 0.0
        for name in self.names:
            need = (0.6 * len(name) + 2.8) * self.line
            if lines[-1] and used + need > room:
                lines.append(0)
                used = 0.0
            lines[-1] += 1
            used += need
        return lines

    @property
    def foot(self) -> float:
        """Height of what stands under the panels."""
        return max(3.4, 1.5 * len(self.legend_lines) + 0.8) * self.line

    @property
    def height(self) -> float:
        """Of the figure."""
        return 1.9 * self.line + self.rows * (self.panel[1] + GAP) + self.foot

    def figure(self) -> tuple[Figure, list[list[Axes]]]:
        """Empty figure with its titles, and its panels (rows x columns)."""
        figure = empty_figure(self.width, self.height)
        wide, tall = self.panel
        top = self.height - 1.9 * self.line
        panels = [
            [
                self._place(figure, x, top - (r + 1) * tall - r * GAP, wide, tall)
                for x in (self.left + c * (wide + GAP) for c in range(len(self.titles)))
            ]
            for r in range(self.rows)
        ]
        for ax, title in zip(panels[0], self.titles, strict=True):
            ax.set_title(_cut(title, wide / (0.62 * self.line)), fontsize=self.size, pad=3)
        return figure, panels

    def bar(self, figure: Figure, base: float) -> None:
        """Draw the colour bar of the risk."""
        start = self.left + FIRST * (self.panel[0] + GAP) + 2.6 * self.line
        end = self.width - GAP - 0.8 * self.line
        ax = self._place(figure, start, self.foot - 1.6 * self.line, end - start, 0.8 * self.line)
        draw_bar(ax, base, size=self.size)
        ax.set_ylabel("risk", fontsize=self.size, rotation=0, ha="right", va="center", labelpad=3)

    def legend(self, figure: Figure, handles: Sequence[Any]) -> None:
        """Draw the legend of handles in the order of `names`."""
        start = 0
        for number, count in enumerate(self.legend_lines):
            y = self.foot - (0.5 + 1.5 * number) * self.line
            figure.legend(
                handles=handles[start : start + count],
                loc="upper left",
                bbox_to_anchor=(self.left / self.width, y / self.height),
                ncols=count,
                frameon=False,
                fontsize=self.size,
                borderpad=0,
                borderaxespad=0,
                handlelength=1.0,
                handletextpad=0.4,
                columnspacing=1.0,
            )
            start += count

    def fitted(self, name: str) -> str:
        """A row's name, without its beginning where that is too long for the height of a panel."""
        return _cut(name, self.panel[1] / (0.62 * self.line))

    def _place(self, figure: Figure, x: float, y: float, wide: float, tall: float) -> Axes:
        w, h = self.width, self.height
        return figure.add_axes((x / w, y / h, wide / w, tall / h))


def _cut(name: str, letters: float) -> str:
    """A name without its beginning where it has more letters than there is room for."""
    room = max(4, int(letters))
    return name if len(name) <= room else f"\u2026{name[1 - room :]}"
