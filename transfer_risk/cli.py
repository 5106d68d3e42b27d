"""The command `transfer-risk`: parse, call one library function, print. Nothing heavy is imported at the top."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rich_click as click

from transfer_risk import __version__


class Commands(click.RichGroup):
    """Turns the library's errors into one sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (ValueError, FloatingPointError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            _fail([reason])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="transfer-risk")
def main() -> None:
    """Which pretrained segmentation model to start from, and where on the image the transfer will hurt."""


TASK = click.argument("task", type=click.Path(exists=True, dir_okay=False))
CACHE = click.option(
    "--cache",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="GiB of probabilities kept in memory.",
)


@main.command("tasks")
@click.argument("root", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the task files."
)
@click.option(
    "--layout", type=click.Choice(["nnunet", "msd", "pairs"]), help="Recognised where not given."
)
@click.option("--binary", is_flag=True, help="One task for each class on each channel.")
@click.option("--fold", metavar="K/N", help="Test cases are fold K of N (from 0) instead of 30 %.")
def tasks_command(root: str, out: str, layout: str | None, binary: bool, fold: str | None) -> None:
    """Write a task file for each task found under ROOT."""
    from transfer_risk.layouts import write_tasks

    for path in write_tasks(root, out, layout=layout, binary=binary, fold=_fold(fold)):
        click.echo(path)


@main.command("score")
@TASK
@click.argument("source", nargs=-1, required=True, type=click.Path())
@click.option("--by", default="leep", show_default=True, help="Score that orders the sources.")
@click.option(
    "--format",
    "format_",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "csv"]),
)
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    help="Folder for ranking.csv, ranking.json and per_case.csv.",
)
@CACHE
def score_command(
    task: str, source: tuple[str, ...], by: str, format_: str, out: str | None, cache: float
) -> None:
    """Rank the SOURCEs for TASK."""
    from transfer_risk.layouts import load_task
    from transfer_risk.ranking import SCORES, rank_sources
    from transfer_risk.reports import ranking_text, write_ranking

    if by not in SCORES:
        raise click.BadParameter(
            f"must be one of {', '.join(SCORES)}; got {by!r}", param_hint="--by"
        )
    target = load_task(task)
    sources, failed = _load_sources(source)
    with _status() as progress:
        ranking = rank_sources(sources, target, by=by, cache=int(cache * 2**30), progress=progress)
    click.echo(ranking_text(ranking, format_), nl=False)
    if out:
        write_ranking(ranking, out)
    _notes([w for s in ranking.scores for w in s.warnings], "warning")
    _fail(
        [
            *failed,
            *ranking.failed.values(),
            *(f"dropped for all: {r}" for r in ranking.dropped.values()),
        ]
    )


@main.command("map")
@TASK
@click.argument("source", type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the NIfTI maps."
)
@click.option(
    "--split", default="test", show_default=True, type=click.Choice(["test", "train", "all"])
)
@click.option("--case", "ids", multiple=True, help="Only this case; may be repeated.")
@click.option("--hardness", is_flag=True, help="Write the hardness maps too.")
@click.option("--base", default=10.0, show_default=True, type=click.FloatRange(min=1))
@click.option(
    "--clip", default=0.0, show_default=True, type=click.FloatRange(0, 100, max_open=True)
)
@CACHE
def map_command(
    task: str,
    source: str,
    out: str,
    split: str,
    ids: tuple[str, ...],
    hardness: bool,
    base: float,
    clip: float,
    cache: float,
) -> None:
    """Write the transfer risk maps of SOURCE on TASK, in each image's own geometry."""
    from transfer_risk.adapters import load_source
    from transfer_risk.layouts import load_task
    from transfer_risk.mapping import write_maps

    target = load_task(task)
    cases = target.split("all" if ids else split)
    if unknown := [i for i in ids if i not in {c.id for c in cases}]:
        raise click.BadParameter(
            f"task {target.name} has no case {', '.join(unknown)}", param_hint="--case"
        )
    chosen = [c for c in cases if not ids or c.id in ids]
    with _status() as progress:
        paths, failed = write_maps(
            load_source(source),
            target,
            out,
            cases=chosen,
            hardness=hardness,
            base=base,
            clip=clip,
            cache=int(cache * 2**30),
            progress=progress,
        )
    click.echo(f"{len(paths)} maps in {out}")
    _fail(list(failed.values()))


@main.command("predict")
@click.argument("source", type=click.Path())
@click.argument("image", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the label maps."
)
@click.option("--probabilities", is_flag=True, help="Write the class probabilities too.")
def predict_command(source: str, image: tuple[str, ...], out: str, probabilities: bool) -> None:
    """Segment each IMAGE with SOURCE: label maps in the image's own geometry."""
    from transfer_risk.adapters import load_source
    from transfer_risk.prediction import write_predictions

    model = load_source(source)
    paths, failed = write_predictions(model, image, out, probabilities=probabilities)
    for path in paths:
        click.echo(path)
    click.echo(f"decision: {model.decision.kind}", err=True)
    _fail(failed)


@main.command("pretrain")
@TASK
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder of the new source."
)
@click.option("--iterations", default=2000, show_default=True, type=click.IntRange(min=1))
@click.option("--batch", default=8, show_default=True, type=click.IntRange(min=1))
@click.option("--lr", default=1e-3, show_default=True, type=click.FloatRange(min=0, min_open=True))
@click.option("--width", default=32, show_default=True, type=click.IntRange(min=1))
@click.option("--depth", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--seed", default=0, show_default=True)
@click.option("--licence", default="", help="SPDX name to record.")
def pretrain_command(task: str, out: str, **options: Any) -> None:
    """Train a 2D U-Net on TASK from scratch: a new source."""
    from transfer_risk.adapters import save_source
    from transfer_risk.evaluation import evaluate, mean_dice
    from transfer_risk.layouts import load_task
    from transfer_risk.training import pretrain

    target = load_task(task)
    with _bar(options["iterations"]) as progress:
        source = pretrain(target, progress=progress, **options)
    save_source(source, out)
    dice = mean_dice(evaluate(source, target, distances=False))
    low, high = dice.interval()
    click.echo(f"{out}: Dice {dice.value:.3f} [{low:.3f}, {high:.3f}] on {dice.cases} test cases")


@main.command("demo")
@click.option("--quick", is_flag=True, help="Smaller images, fewer iterations: under a minute.")
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(file_okay=False), help="Folder."
)
def demo_command(quick: bool, out: str) -> None:
    """Rank six small sources on the embedded cohort, write risk maps and a figure."""
    from transfer_risk.demo import run_demo

    with _status() as progress:
        text = run_demo(out, quick=quick, progress=progress)
    click.echo(text, nl=False)


def _load_sources(paths: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The sources that load, and a sentence for each that does not."""
    from transfer_risk.adapters import load_source

    sources, failed = [], []
    for path in paths:
        try:
            sources.append(load_source(path))
        except ValueError as error:
            failed.append(str(error))
    if not sources:
        raise ValueError("; ".join(failed))
    return sources, failed


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, folds = text.partition("/")
    if not (number.isdigit() and folds.isdigit()):
        raise click.BadParameter(f"must be K/N, such as 0/5; got {text!r}", param_hint="--fold")
    return int(number), int(folds)


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is under way; nothing where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("reading") as status:
        yield status.update


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar with loss and remaining time on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("", total=total, loss=float("nan"))
        yield lambda iteration, loss: bar.update(line, completed=iteration, loss=loss)


def _notes(sentences: Sequence[str], kind: str) -> None:
    for sentence in sentences:
        click.echo(f"{kind}: {sentence}", err=True)


def _fail(sentences: Sequence[str]) -> None:
    """Name what went wrong with some inputs, and exit 1 if anything did."""
    _notes(sentences, "error")
    if sentences:
        sys.exit(1)
