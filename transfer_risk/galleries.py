"""Figures of a run, or of sources on a task: which cases are shown, and with which maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from transfer_risk.callbacks import Tell
from transfer_risk.channels import in_order
from transfer_risk.comparison import check_alike
from transfer_risk.evaluation import predicted_classes, predicted_names
from transfer_risk.overlays import empty_figure
from transfer_risk.pages import Example, plot_examples
from transfer_risk.passes import Predictions
from transfer_risk.plotting import add_colour_bar, plot_risk
from transfer_risk.riskmap import RiskMap
from transfer_risk.runs import Run
from transfer_risk.sources import Source
from transfer_risk.tasks import Case, Task
from transfer_risk.transfermaps import waiting_maps
from transfer_risk.views import riskiest_slice
from transfer_risk.volumes import Volume, read

MOST = 3  # cases that are shown where none is named


def plot_change(
    run: Run,
    *beside: Run,
    cases: Sequence[Case] = (),
    index: int | None = None,
    channel: int = 0,
    width: float = 7.0,
) -> Figure:
    """Figure of a run: image, label, prediction after, risk before and after, on one span over its test cases.

    On the maps stand the borders of the label and of what the source decided for.

    Args:
        run: Finished; one from scratch is shown after training alone.
        beside: Other runs of the task, such as a vanilla one, whose risk after training stands beside it.
        cases: Rows; the three test cases with the largest total risk over all maps, where not given.
        index: Slice along the task's axis; that with the most risk where not given.
        channel: Of the image that is drawn.
        width: Inches on paper.

    Raises:
        ValueError: if a map is missing, a case has no such slice, or the runs are not of one task and its test cases.
    """
    check_alike([run, *beside])
    span = reduce(or_, (r.span for r in (run, *beside)))
    base = float(run.config.get("base", 10.0))

    def maps(case: Case) -> tuple[RiskMap, ...]:
        values = [run.transferability(s, case) for s in run.stages]
        values += [other.transferability("after", case) for other in beside]
        return tuple(RiskMap(torch.from_numpy(v)[None], span, base) for v in values)

    totals = {} if cases else {case.id: _total(maps(case)) for case in run.cases}
    examples = [
        Example(
            case.id,
            run.volume(case),
            run.prediction("after", case),
            maps(case),
            None if run.from_scratch else run.prediction("before", case),
        )
        for case in cases or _riskiest(run.cases, totals)
    ]
    risks = tuple(f"risk {stage}" for stage in run.stages)
    if beside:
        risks = (*risks[:-1], *(f"after {r.name}" for r in (run, *beside)))
    return _figure(examples, run.task, run.task.classes, risks, index, channel, width)


def plot_maps(
    task: Task,
    sources: Sequence[Source],
    *,
    cases: Sequence[Case] = (),
    index: int | None = None,
    channel: int = 0,
    width: float = 7.0,
    progress: Tell | None = None,
) -> Figure:
    """Figure of one source on a task (image, label, prediction, risk), or of two: the first before, the second after.

    Each test case is mapped with the joint of the other test cases, whichever are shown; the prediction is that of the
    last source. Other arguments as for `plot_change`.

    Raises:
        ValueError: if there are not one or two sources, or one cannot predict the test cases.
    """
    if not 1 <= len(sources) <= 2:
        raise ValueError(f"sources must be one, or two to compare; got {len(sources)}")
    used = task.split("test")
    passes = (Predictions(source, task, used, progress=progress) for source in sources)
    with waiting_maps(passes) as waiting:
        if waiting.failed:
            raise ValueError("; ".join(waiting.failed.values()))

        def maps(case: Case) -> tuple[RiskMap, ...]:
            values = (waiting.transferability(k, case) for k in range(len(sources)))
            return tuple(RiskMap(v, waiting.span) for v in values)

        totals = {} if cases else {case.id: _total(maps(case)) for case in used}
        examples = [
            Example(case.id, *_predicted(sources[-1], task, case), maps(case))
            for case in cases or _riskiest(used, totals)
        ]
    risks = ("risk",) if len(sources) == 1 else ("risk before", "risk after")
    names = predicted_names(sources[-1], task)
    return _figure(examples, task, names, risks, index, channel, width)


def plot_risks(
    maps: Mapping[str, RiskMap],
    volumes: Sequence[Volume],
    *,
    axes: Sequence[Axes] = (),
    index: int | None = None,
) -> Sequence[Axes]:
    """Risk maps beside each other on one span, each as `plot_risk` draws it, with one colour bar for all.

    Args:
        maps: (1, X, Y, Z), by title.
        volumes: Image and labels of each, as `read` gives them.
        axes: Where to draw; a new row of panels where not given.
        index: Slice along the last axis; the one with the most risk on the first map where not given.

    Raises:
        ValueError: if the numbers of maps, volumes and axes differ, or the bases of the maps do.
    """
    bases = {m.base for m in maps.values()}
    if len(bases) != 1:
        found = f"bases {', '.join(f'{b:g}' for b in sorted(bases))}" if bases else "none"
        raise ValueError(f"maps must be some, of one base (that of `RiskMap`); got {found}")
    if len(axes) == 0:
        figure = empty_figure(3.1 * len(maps), 3.4)
        figure.set_layout_engine("constrained")
        axes = list(figure.subplots(1, len(maps), squeeze=False).flat)
    if not len(maps) == len(volumes) == len(axes):
        raise ValueError(
            "maps must have a volume and axes each; "
            f"got {len(maps)} maps, {len(volumes)} volumes and {len(axes)} axes"
        )
    span = reduce(or_, (m.span for m in maps.values()))
    shown = {title: RiskMap(m.transferability, span, m.base) for title, m in maps.items()}
    if index is None:
        index = riskiest_slice(next(iter(shown.values())).risk[0].numpy())
    for (title, risk_map), volume, ax in zip(shown.items(), volumes, axes, strict=True):
        plot_risk(
            risk_map,
            ax=ax,
            image=volume.image[0],
            labels=volume.labels,
            affine=volume.affine,
            index=index,
            colour_bar=False,
        )
        ax.set_title(title, fontsize=9)
    add_colour_bar(axes, *bases, clear=True)
    return axes


def _figure(
    examples: Sequence[Example],
    task: Task,
    predicted: Sequence[str],
    risks: tuple[str, ...],
    index: int | None,
    channel: int,
    width: float,
) -> Figure:
    return plot_examples(
        examples,
        classes=task.classes,
        predicted=predicted,
        titles=(task.channels[channel], "label", "prediction", *risks),
        axis=task.slices.axis,
        index=index,
        channel=channel,
        width=width,
    )


def _predicted(source: Source, task: Task, case: Case) -> tuple[Volume, NDArray[Any]]:
    """The case as it is, and the classes that the source decides for."""
    volume = read(case, task, every_slice=True)
    seen = in_order(source, volume, task.channels)
    return volume, predicted_classes(source, task, case, seen)


def _total(maps: Sequence[RiskMap]) -> float:
    """Total risk above 1 of a case over its maps."""
    return sum(float((m.risk.double() - 1).clamp(min=0).sum()) for m in maps)


def _riskiest(cases: Sequence[Case], totals: dict[str, float]) -> list[Case]:
    """The cases with the largest totals, largest first."""
    return sorted(cases, key=lambda c: -totals[c.id])[:MOST]
