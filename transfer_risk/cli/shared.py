"""What several commands share: arguments, progress on stderr, and how failures end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rich_click as click

TASK = click.argument("task", type=click.Path(exists=True, dir_okay=False))
CACHE = click.option(
    "--cache",
    default=1.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="GiB of probabilities kept in memory.",
)


def load_sources(paths: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The sources that load, and a sentence for each that does not."""
    from transfer_risk.adapters import load_source

    return _loaded(load_source, paths)


def load_runs(paths: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The runs that load, and a sentence for each that does not."""
    from transfer_risk.runs import load_run

    return _loaded(load_run, paths)


def _loaded(load: Callable[[str], Any], paths: Sequence[str]) -> tuple[list[Any], list[str]]:
    found, failed = [], []
    for path in paths:
        try:
            found.append(load(path))
        except ValueError as error:
            failed.append(str(error))
    if not found:
        raise ValueError("; ".join(failed))
    return found, failed


@contextmanager
def status() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is under way; nothing where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("reading") as status:
        yield status.update


@contextmanager
def bar(total: int) -> Iterator[Callable[[int, float], None]]:
    """A progress bar with loss and remaining time on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        line = bar.add_task("", total=total, loss=float("nan"))
        yield lambda iteration, loss: bar.update(line, completed=iteration, loss=loss)


def notes(sentences: Sequence[str], kind: str) -> None:
    """Sentences on stderr, each behind the word that says what it is."""
    for sentence in sentences:
        click.echo(f"{kind}: {sentence}", err=True)


def fail(sentences: Sequence[str]) -> None:
    """Name what went wrong with some inputs, and exit 1 if anything did."""
    notes(sentences, "error")
    if sentences:
        sys.exit(1)
