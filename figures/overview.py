"""The method in one picture, with the arrays of one slice of the embedded cohort; writes figures/overview.png.

Source: CSF, grey and white matter on the T1 of one simulated scanner, briefly trained. Target: the same classes on the T1 of
another scanner. Every array is what fine-tuning computes: the joint of all training cases, hardness within the slice.
"""

from __future__ import annotations

import tempfile
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import transfer_risk as tr
from transfer_risk import study
from transfer_risk.overlays import classes_over, draw, draw_bar, empty_figure, risk_over
from transfer_risk.pages import PALETTE
from transfer_risk.prediction import decide
from transfer_risk.views import View, grey_slice

FULL = (2.0, 6, 400, 200)  # mm, cases, steps of each training
SIZES = {"smoke": (8.0, 4, 3, 2), "quick": FULL, "full": FULL}
WIDTH, HEIGHT = 7.0, 3.84  # all places are in inches from the lower left corner
WIDE, TALL, TOP, LOW = 1.0, 1.22, 2.2, 0.22  # of a picture; lower edges of the two rows
INK, FILL, SIZE = "#333333", "#eef3f8", 7.0
WORDS: dict[str, Any] = {"color": INK, "ha": "center", "va": "center", "math_fontfamily": "cm"}
SMALL: dict[str, Any] = {**WORDS, "fontsize": 6.0}


def arrays(folder: Path, size: str) -> dict[str, Any]:
    """What a training slice gives on its way from image to risk map, upright, by name."""
    spacing, cases, steps, iterations = SIZES[size]
    tr.write_source_and_target(folder, cases=cases, template=tr.load_template(spacing=spacing))
    paths = {p.stem: p for p in tr.write_tasks(folder, folder / "tasks")}
    task, target = (tr.load_task(paths[n]).on_channels("T1") for n in ("source", "target"))
    source = tr.pretrain(task, width=8, depth=4, iterations=steps)
    student = tr.finetune(source, target, tr.Recipe(iterations=iterations, lr=1e-3))
    training = target.split("train")
    volumes = [tr.read(case, target) for case in training]
    targets = [np.asarray(v.labels) for v in volumes]
    labels = [torch.from_numpy(t)[None] for t in targets]
    theta = [torch.from_numpy(tr.predict(source, case.images)[1])[None] for case in training]
    pairs = zip(theta, labels, strict=True)
    joint = reduce(add, (tr.Joint.of(t, y, len(target.classes)) for t, y in pairs))
    index = labels[0].shape[-1] // 2
    values = tr.log_expected_prediction(theta[0][..., index], labels[0][..., index], joint)
    risk = tr.RiskMap(values, tr.Span.of(values, per_image=True)).risk
    predicted = decide(student, tr.predict(student, training[0].images)[1])
    view = View.of(volumes[0].affine, 2)
    grey, window = grey_slice(volumes[0].image[0], view, index)
    planes = {"y": targets[0][..., index], "f": predicted[..., index]}
    planes |= {"T": values[0], "R": risk[0]}
    planes |= {f"theta{z}": plane for z, plane in enumerate(theta[0][0, ..., index])}
    made = {name: view.slice(np.asarray(p)[..., None], 0) for name, p in planes.items()}
    share = 100 * joint.counts.numpy() / joint.num_pixels
    return made | {
        "grey": grey,
        "J": share,
        "names": ("bg", *target.classes[1:]),
        "at": (view, window),
    }


def overview(a: dict[str, Any]) -> Figure:
    """The arrays, and what leads from one to the next."""
    figure = empty_figure(WIDTH, HEIGHT)
    page = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    page.axis("off")
    box(page, (0.05, 0.08, 1.16, 3.54), "")
    box(page, (1.45, TOP + 0.3, 0.64, 0.62), "source\nmodel\n(frozen)")
    box(page, (1.45, LOW + 0.3, 0.64, 0.62), "target\nmodel $f$\n(trained)")
    box(page, (3.6, LOW + 0.06, 3.34, 1.0), "")
    pictures(figure, a)
    probabilities(figure, a)
    joint_table(figure, a)
    scales(figure, float(a["T"].min()))
    words(page)
    arrows(page)
    return figure


def pictures(figure: Figure, a: dict[str, Any]) -> None:
    """Image, label, prediction, transferability and risk."""
    low = a["T"].min()
    for place, layer in (
        ((0.13, TOP), classes_over(a["grey"], a["y"], PALETTE)),
        ((0.13, LOW), a["grey"]),
        ((2.32, LOW), classes_over(a["grey"], a["f"], PALETTE)),
        ((4.8, TOP), colormaps["viridis"](1 - a["T"] / low)[..., :3]),
        ((5.94, TOP), risk_over(a["grey"], a["R"], 10.0)),
    ):
        draw(inset(figure, *place, WIDE, TALL), layer, *a["at"])


def probabilities(figure: Figure, a: dict[str, Any]) -> None:
    """One small picture for each class of the source."""
    for z, name in enumerate(a["names"]):
        x, y = 2.32 + (z % 2) * 0.51, TOP + (1 - z // 2) * 0.615
        ax = inset(figure, x, y, 0.49, 0.6)
        draw(ax, a[f"theta{z}"], *a["at"])
        dark = {"facecolor": "black", "edgecolor": "none", "pad": 1}
        style: dict[str, Any] = {
            "fontsize": 6,
            "color": "white",
            "ha": "left",
            "va": "top",
            "bbox": dark,
        }
        ax.text(0.03, 0.97, name, transform=ax.transAxes, **style)


def joint_table(figure: Figure, a: dict[str, Any]) -> None:
    """The joint table in per cent of the pixels, coloured by its logarithm; classes of the target in their colours."""
    ax = inset(figure, 3.86, TOP + 0.3, 0.8, 0.8)
    ax.imshow(np.log10(np.maximum(a["J"], 1e-2)), cmap="Blues", vmin=-1.5, vmax=2.2)
    for (y, z), value in np.ndenumerate(a["J"]):
        ink = "white" if value > 10 else "black"
        text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
        ax.text(z, y, text, fontsize=6, color=ink, ha="center", va="center")
    ax.set_xticks(range(4), a["names"], fontsize=6)
    ax.set_yticks(range(4), a["names"], fontsize=6)
    ax.tick_params(length=0, pad=1.5)
    ax.spines[:].set_visible(False)
    for label, colour in zip(ax.get_yticklabels()[1:], PALETTE, strict=False):
        label.set(color=colour, fontweight="bold")


def scales(figure: Figure, low: float) -> None:
    """Colour bars of transferability and risk."""
    bar = inset(figure, 4.8, TOP - 0.1, WIDE, 0.06)
    bar.imshow(np.linspace(0, 1, 256)[None], cmap="viridis", extent=(low, 0, 0, 1), aspect="auto")
    bar.set(yticks=[], xticks=(low, 0))
    bar.set_xticks((low, 0), (f"\N{MINUS SIGN}{-low:.1f} nats", "0"), fontsize=6)
    bar.get_xticklabels()[0].set_horizontalalignment("left")
    bar.tick_params(length=2, width=0.5, pad=1.5)
    bar.spines[:].set_linewidth(0.5)
    draw_bar(inset(figure, 5.94, TOP - 0.1, WIDE, 0.06), 10.0, size=6.0)


def words(page: Axes) -> None:
    """Names above the arrays, and below them the formulas that make them."""
    for x, row, name in (
        (0.63, TOP, "target label $y$"),
        (0.63, LOW, "target image $x$"),
        (2.82, TOP, r"probabilities $\theta(x)$"),
        (2.82, LOW, "prediction $f(x)$"),
        (4.2, TOP, "joint table $J$ (%)"),
        (5.3, TOP, "transferability $T$"),
        (6.44, TOP, "risk $R$"),
    ):
        page.text(x, row + TALL + 0.09, name, fontsize=SIZE, **WORDS)
    page.text(4.26, TOP + 0.09, "source class $z$", **SMALL)
    page.text(3.63, TOP + 0.7, "target class $y$", rotation=90, **SMALL)
    for x, y, formula in (
        (4.18, -0.43, r"$J_{yz}=\sum_p\;1[y_p=y]\,\theta_{pz}$"),
        (4.18, -0.69, r"$P(y|z)=J_{yz}\,/\,\sum_y\;J_{yz}$"),
        (5.3, -0.43, r"$T_p=\log\sum_z\;P(y_p|z)\,\theta_{pz}$"),
        (5.3, -0.69, r"$\mathrm{LEEP}=\mathrm{mean}\;T_p$"),
        (6.44, -0.43, r"$H_p=\dfrac{\max T-T_p}{\max T-\min T}$"),
        (6.44, -0.69, r"$R_p=10^{H_p}$"),
    ):
        page.text(x, TOP + y, formula, **{**WORDS, "fontsize": 7.5, "va": "baseline"})
    for x, y, letter in ((1.32, TOP + 0.69, "x"), (1.32, LOW + 0.69, "x"), (2.4, 3.66, "y")):
        page.text(x, y, f"${letter}$", fontsize=8, **WORDS)
    page.text(5.27, LOW + 0.9, "risk-weighted cross-entropy", fontsize=SIZE + 0.5, **WORDS)
    loss = r"$L=\dfrac{1}{N_f}\,\sum_p\,R_p\;\mathrm{CE}\left(f(x)_p,\,y_p\right)$"
    page.text(5.27, LOW + 0.56, loss, fontsize=11, **WORDS)
    note = "$y$: target label; all pixels $p$ count, $N_f$ of them are foreground"
    page.text(5.27, LOW + 0.2, note, **SMALL)


def arrows(page: Axes) -> None:
    """What leads to what."""
    upper, lower = TOP + 0.61, LOW + 0.61
    for start, end in ((1.21, 1.45), (2.09, 2.32), (3.34, 3.56), (4.68, 4.8), (5.82, 5.94)):
        arrow(page, (start, upper), (end, upper))
    for start, end in ((1.21, 1.45), (2.09, 2.32), (3.32, 3.6)):
        arrow(page, (start, lower), (end, lower))
    arrow(page, (6.44, TOP - 0.75), (6.44, LOW + 1.06))
    arrow(page, (1.77, TOP + 0.3), (1.77, LOW + 0.92), linestyle="--")
    page.text(1.83, (TOP + LOW + 1.22) / 2, "initial\nweights", **{**SMALL, "ha": "left"})
    page.plot([0.63, 0.63, 5.3], [3.62, 3.75, 3.75], color=INK, linewidth=1)
    for x in (4.2, 5.3):
        arrow(page, (x, 3.75), (x, TOP + TALL + 0.16))


def inset(figure: Figure, x: float, y: float, wide: float, tall: float) -> Axes:
    """Axes at a place."""
    return figure.add_axes((x / WIDTH, y / HEIGHT, wide / WIDTH, tall / HEIGHT))


def box(page: Axes, place: tuple[float, float, float, float], text: str) -> None:
    """A rounded box (x, y, width, height) with words in its middle."""
    x, y, wide, tall = place
    style = "round,pad=0,rounding_size=0.06"
    page.add_patch(FancyBboxPatch((x, y), wide, tall, style, fc=FILL, ec=INK, lw=0.7))
    page.text(x + wide / 2, y + tall / 2, text, fontsize=SIZE, **WORDS)


def arrow(
    page: Axes, start: tuple[float, float], end: tuple[float, float], linestyle: str = "-"
) -> None:
    """A straight arrow."""
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1, "linestyle": linestyle}
    page.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def main() -> None:
    """Draw at the asked size."""
    options = study.program_options(__doc__, out=".", published=("full", "quick"))
    with tempfile.TemporaryDirectory() as folder:
        figure = overview(arrays(Path(folder), options.size))
    tr.save_figure(figure, options.out / "overview.png", dpi=250)


if __name__ == "__main__":
    study.run_program(main)
