"""The first look: the whole way from data to ranking, maps and a figure, on the embedded cohort."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path

import torch
from matplotlib.figure import Figure

from transfer_risk.adapters import load_source, save_source
from transfer_risk.callbacks import Tell
from transfer_risk.comparison import Comparison, compare
from transfer_risk.files import check_writable
from transfer_risk.finetuning import finetune
from transfer_risk.galleries import plot_change, plot_risks
from transfer_risk.imagefiles import load
from transfer_risk.layouts import load_task, write_tasks
from transfer_risk.mapping import risk_maps, write_maps
from transfer_risk.overlays import empty_figure
from transfer_risk.phantom import load_template, write_source_and_target
from transfer_risk.plotting import plot_ranking, save_figure
from transfer_risk.pretraining import pretrain
from transfer_risk.ranking import Ranking, rank_sources
from transfer_risk.recipes import Recipe
from transfer_risk.reports import ranking_text
from transfer_risk.riskmap import RiskMap, Span
from transfer_risk.runs import load_run
from transfer_risk.scoretables import write_ranking
from transfer_risk.sources import Source
from transfer_risk.study.methods import METHODS
from transfer_risk.summaries import comparison_text, write_comparison
from transfer_risk.tasks import Task
from transfer_risk.views import riskiest_slice
from transfer_risk.volumes import read

TARGET = "target-gm-t1"


def run_demo(out: str | Path, *, quick: bool = False, progress: Tell | None = None) -> str:
    """Write cohorts, pretrain six sources, rank them for grey matter on T1, fine-tune the best, compare; the report.

    The sources come from other pseudo-subjects and another scanner than the target. All anatomy is deformed from one
    template: the numbers show how the tool works, not how patients behave.

    Raises:
        ValueError: if `out` holds something already.
        OSError: if it cannot be written.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: is not empty; remove it or choose another --out")
    check_writable(folder)
    tell = progress or (lambda _: None)
    tell("writing two cohorts of pseudo-subjects")
    template = load_template(spacing=3.0 if quick else 2.0)
    write_source_and_target(folder / "data", cases=6 if quick else 10, template=template)
    tasks = [
        load_task(path) for path in write_tasks(folder / "data", folder / "tasks", binary=True)
    ]
    sources = []
    for task in (t for t in tasks if t.name.startswith("source")):
        tell(f"pretraining {task.name}")
        iterations = 120 if quick else 400
        sources.append(
            pretrain(task, width=8, depth=4, iterations=iterations, licence="Apache-2.0")
        )
        save_source(sources[-1], folder / "sources" / task.name)
    target = next(t for t in tasks if t.name == TARGET)
    ranking = rank_sources(sources, target, by="leep", progress=progress)
    write_ranking(ranking, folder / "ranking")
    ordered = [next(s for s in sources if s.name == score.source) for score in ranking.scores]
    written, _ = write_maps(ordered[0], target, folder / "maps", progress=progress)
    best_maps = _read_maps(written)
    figure = _figure(ranking, (best_maps, risk_maps(ordered[-1], target)), target)
    save_figure(figure, folder / "figure.png", dpi=150)
    best = load_source(folder / "sources" / ordered[0].name)
    comparison = _fine_tune(best, target, folder, quick=quick, tell=tell)
    mapped, plain = (comparison.runs[METHODS.index(name)] for name in ("risk-map", "vanilla"))
    save_figure(plot_change(mapped, plain), folder / "before_after.png")
    tables = ranking_text(ranking, "table"), comparison_text(comparison, "table")
    return "\n".join(tables) + _advice(folder, ordered[0])


def _fine_tune(best: Source, target: Task, folder: Path, *, quick: bool, tell: Tell) -> Comparison:
    """The best source fine-tuned by the paper's method, those that it is compared with, and its control."""
    for method in METHODS:
        tell(f"fine-tuning {best.name} with {method}")
        recipe = Recipe(method=method, iterations=40 if quick else 150, lr=1e-3)
        finetune(best, target, recipe, out=folder / "runs" / method)
    comparison = compare([load_run(folder / "runs" / method) for method in METHODS], progress=tell)
    write_comparison(comparison, folder / "comparison")
    return comparison


def _read_maps(paths: Sequence[Path]) -> dict[str, RiskMap]:
    """The maps that were written, by case id, on their span."""
    ending = "_transferability.nii.gz"
    values = {
        p.name.removesuffix(ending): torch.from_numpy(load(str(p))[0])[None]
        for p in paths
        if p.name.endswith(ending)
    }
    span = reduce(or_, map(Span.of, values.values()))
    return {case: RiskMap(v, span) for case, v in values.items()}


def _figure(
    ranking: Ranking, maps: tuple[dict[str, RiskMap], dict[str, RiskMap]], target: Task
) -> Figure:
    """The ranking beside risk maps of the best and the worst source on one case and one span."""
    case = next(c for c in target.split("test") if c.id in maps[0])
    names = [ranking.scores[place].source for place in (0, -1)]
    span = maps[0][case.id].span | maps[1][case.id].span
    best = RiskMap(maps[0][case.id].transferability, span)
    index = riskiest_slice(best.risk[0].numpy())
    figure = empty_figure(10, 3.6)
    figure.set_layout_engine("constrained")
    axes = figure.subplots(1, 3, width_ratios=[1.5, 1, 1])
    plot_ranking(ranking, ax=axes[0])
    titles = [f"{name}\n{case.id}, slice {index}" for name in names]
    shown = dict(zip(titles, (m[case.id] for m in maps), strict=True))
    plot_risks(shown, [read(case, target)] * 2, axes=axes[1:], index=index)
    return figure


def _advice(folder: Path, best: Source) -> str:
    return (
        f"\nStart from {best.name}. Look at {folder}/figure.png (ranking), {folder}/before_after.png (risk before and "
        f"after fine-tuning), the maps in {folder}/maps and the runs in {folder}/runs.\n"
        "All anatomy here is deformed from one template; it replaces no patients. On your own data:\n"
        "  transfer-risk tasks YOUR_DATA --out tasks\n"
        "  transfer-risk score tasks/NAME.toml SOURCE...\n"
        "  transfer-risk finetune tasks/NAME.toml SOURCE --out run --method vanilla --dice-weight 1 --freeze none \\\n"
        "      --decision tuned --lr 1e-3 --iterations 1000\n"
    )
