"""Risk maps of six tissue sources on one slice of the embedded cohort, on one span; writes figures/risk_maps.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import transfer_risk as tr
from transfer_risk import study
from transfer_risk.plotting import plot_risk, save_figure

SIZES = {"smoke": (6.0, 4, 3), "quick": (3.0, 6, 200), "full": (2.0, 8, 600)}  # mm, cases, steps


def draw(folder: Path, size: str) -> Figure:
    """Six panels: columns are source tissues, rows are source channels; the target is grey matter on T1."""
    spacing, cases, iterations = SIZES[size]
    template = tr.load_template(spacing=spacing)
    tr.write_source_and_target(folder, cases=cases, template=template)
    tasks = [tr.load_task(p) for p in tr.write_tasks(folder, folder / "tasks", binary=True)]
    target = next(t for t in tasks if t.name == "target-gm-t1")
    maps = {}
    for task in (t for t in tasks if t.name.startswith("source")):
        print(f"pretraining {task.name}", file=sys.stderr)
        source = tr.pretrain(task, width=8, depth=4, iterations=iterations)
        maps[task.name.removeprefix("source-")] = tr.risk_maps(source, target)
    return _panels(maps, target)


def _panels(maps: dict[str, dict[str, tr.RiskMap]], target: tr.Task) -> Figure:
    from transfer_risk.volumes import read

    case = target.split("test")[0]
    volume = read(case, target)
    spans = [m[case.id].span for m in maps.values()]
    span = spans[0]
    for other in spans[1:]:
        span = span | other
    index = volume.image.shape[-1] // 2
    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for row, channel in zip(axes, ("t1", "t2"), strict=True):
        for ax, tissue in zip(row, ("csf", "gm", "wm"), strict=True):
            shown = tr.RiskMap(maps[f"{tissue}-{channel}"][case.id].transferability, span)
            plot_risk(
                shown,
                ax=ax,
                image=volume.image[0],
                labels=volume.labels,
                index=index,
                colour_bar=tissue == "wm",
            )
            ax.set_title(f"source {tissue.upper()} on {channel.upper()}", fontsize=9)
    figure.suptitle("Risk on the target grey matter, T1 (contour); one span", fontsize=10)
    return figure


def main() -> None:
    """Draw at the asked size."""
    options = study.program_options(__doc__, out=".")
    with tempfile.TemporaryDirectory() as folder:
        figure = draw(Path(folder), options.size)
    save_figure(figure, options.out / "risk_maps.png", dpi=200)


if __name__ == "__main__":
    main()
