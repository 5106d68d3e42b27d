"""The command that draws: plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from transfer_risk.cli.progress import status
from transfer_risk.cli.shared import Finite, Reading, notes, source_options

POSSIBLE = {"run": ("maps", "curves"), "task": ("maps",), "ranking": ("ranking",)}
ALONE = {
    "run": (2, "a RUN is drawn alone or beside one other"),
    "ranking": (1, "a RANKING is drawn alone"),
}
ENDINGS = (".png", ".pdf", ".svg")


@click.command("plot")
@click.argument(
    "inputs",
    metavar="RUN [RUN] | TASK SOURCE [SOURCE] | RANKING",
    nargs=-1,
    required=True,
    type=click.Path(exists=True),
)
@click.option(
    "--out", required=True, type=click.Path(dir_okay=False), help="Figure: .png, .pdf or .svg."
)
@click.option(
    "--what",
    type=click.Choice(["maps", "curves", "ranking"]),
    help="Follows from the arguments: maps of a RUN or of SOURCEs on a TASK, else the ranking.",
)
@click.option(
    "--case",
    "ids",
    multiple=True,
    help="Only this test case; may be repeated [default: the three riskiest].",
)
@click.option(
    "--slice",
    "index",
    type=click.IntRange(min=0),
    help="Number of the slice, from 0 [default: the one with the most risk].",
)
@click.option("--channel", help="Channel that is shown [default: the task's first].")
@click.option(
    "--by", help="Score of the ranking [default: probe_dice where all sources have it, else leep]."
)
@click.option(
    "--width", type=Finite(min=3), help="Width on paper in inches [default: 7 for maps, else 3.4]."
)
@source_options
def plot_command(
    inputs: tuple[str, ...],
    out: str,
    what: str | None,
    ids: tuple[str, ...],
    index: int | None,
    channel: str | None,
    by: str | None,
    width: float | None,
    reading: Reading,
) -> None:
    """Draw risk maps before and after (RUN, or one or two SOURCEs on TASK), training curves, or a RANKING.

    A second RUN of the same task, such as a vanilla one, stands beside the first after training.
    """
    if Path(out).suffix.lower() not in ENDINGS:
        raise click.BadParameter(
            f"must end in {', '.join(ENDINGS)}; got {out!r}", param_hint="--out"
        )
    kind = _kind(inputs)
    what = what or POSSIBLE[kind][0]
    if what not in POSSIBLE[kind]:
        raise click.BadParameter(
            f"a {kind} can be drawn as {' or '.join(POSSIBLE[kind])}; got {what!r}",
            param_hint="--what",
        )
    if what == "curves" and len(inputs) > 1:
        raise click.UsageError("the curves of a RUN are drawn alone; got 2 arguments")
    if what != "maps" and (ids or index is not None or channel):
        raise click.UsageError(f"--case, --slice and --channel are for maps; got them for {what}")
    if what != "ranking" and by:
        raise click.UsageError(f"--by is for a ranking; got it for {what}")
    if kind != "task" and reading != Reading():
        raise click.UsageError(
            f"--source-config, --trust and --missing-channels are for SOURCEs; got them for a {kind}"
        )
    from transfer_risk.files import check_writable
    from transfer_risk.plotting import save_figure

    check_writable(Path(out).parent)
    if what == "maps":
        size = width or 7.0
        figure = _maps(kind, inputs, ids, reading, index=index, channel=channel, width=size)
    else:
        figure = _chart(what, inputs[0], by, width or 3.4)
    save_figure(figure, out)
    click.echo(out)


def _kind(inputs: Sequence[str]) -> str:
    """What the arguments are: `run`, `task` (and sources) or `ranking`."""
    first, ending = Path(inputs[0]), Path(inputs[0]).suffix
    if ending == ".toml" and first.is_file():
        if not 2 <= len(inputs) <= 3:
            raise click.UsageError(
                f"a TASK is drawn with one SOURCE, or two; got {len(inputs) - 1}"
            )
        return "task"
    kind = "ranking" if first.is_file() or (first / "ranking.json").is_file() else "run"
    most, alone = ALONE[kind]
    if len(inputs) > most:
        raise click.UsageError(f"{alone}; got {len(inputs)} arguments")
    return kind


def _maps(
    kind: str,
    inputs: Sequence[str],
    ids: Sequence[str],
    reading: Reading,
    *,
    index: int | None,
    channel: str | None,
    width: float,
) -> Any:
    from transfer_risk.galleries import plot_change, plot_maps

    if kind == "run":
        from transfer_risk.runs import load_run

        run, *beside = (load_run(path) for path in inputs)
        cases, number = _cases(run.task, run.cases, ids), _channel(run.task, channel)
        return plot_change(run, *beside, cases=cases, index=index, channel=number, width=width)
    from transfer_risk.channels import channel_note
    from transfer_risk.layouts import load_task

    task = load_task(inputs[0])
    cases, number = _cases(task, task.split("test"), ids), _channel(task, channel)
    sources, failed = reading.load(inputs[1:])
    if failed:
        raise ValueError("; ".join(failed))
    with status() as progress:
        figure = plot_maps(
            task,
            sources,
            cases=cases,
            index=index,
            channel=number,
            width=width,
            progress=progress,
        )
    notes([note for s in sources if (note := channel_note(s, task.channels))], "warning")
    return figure


def _chart(what: str, path: str, by: str | None, width: float) -> Any:
    from transfer_risk.plotting import plot_curves, plot_ranking

    if what == "ranking":
        from transfer_risk.scoretables import read_ranking

        figure: Any = plot_ranking(read_ranking(path), by=by, size=7).figure
    else:
        from transfer_risk.runs import load_run

        figure = plot_curves(load_run(path).log(), size=7)[0].figure
    figure.set_figwidth(width)
    return figure


def _cases(task: Any, known: Sequence[Any], ids: Sequence[str]) -> list[Any]:
    by_id = {c.id: c for c in known}
    if unknown := [i for i in ids if i not in by_id]:
        raise click.BadParameter(
            f"task {task.name} has no test case {', '.join(unknown)}; it has {', '.join(by_id)}",
            param_hint="--case",
        )
    return [by_id[i] for i in ids]


def _channel(task: Any, name: str | None) -> int:
    if name is None:
        return 0
    if name not in task.channels:
        raise click.BadParameter(
            f"task {task.name} has the channels {', '.join(task.channels)}; got {name!r}",
            param_hint="--channel",
        )
    return int(task.channels.index(name))
