"""Risk maps of six tissue sources on one slice of the embedded cohort, on one span; writes figures/risk_maps.png."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import transfer_risk as tr
from transfer_risk import study

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
        tissue, channel = task.name.removeprefix("source-").upper().split("-")
        maps[f"source {tissue} on {channel}"] = tr.risk_maps(source, target)
    return panels(maps, target)


def panels(maps: dict[str, dict[str, tr.RiskMap]], target: tr.Task) -> Figure:
    """The first test case by title of the panel; sources of T1 stand in the upper row."""
    case = target.split("test")[0]
    volume = tr.read(case, target)
    figure: Figure
    figure, axes = study.chart_panels(3, rows=2, height=5.4, width=7.2)
    shown = {title: maps[title][case.id] for title in sorted(maps, key=lambda t: t[-2:])}
    index = volume.image.shape[-1] // 2
    tr.plot_risks(shown, [volume] * len(shown), axes=axes, index=index)
    figure.suptitle("Risk on the target grey matter, T1 (contour); one span", fontsize=10)
    return figure


def main() -> None:
    """Draw at the asked size."""
    options = study.program_options(__doc__, out=".", published=("full", "quick"))
    with tempfile.TemporaryDirectory() as folder:
        figure = draw(Path(folder), options.size)
    tr.save_figure(figure, options.out / "risk_maps.png", dpi=200)


if __name__ == "__main__":
    study.run_program(main)
