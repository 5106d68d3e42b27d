"""What several commands share: arguments, sentences on stderr, and how failures end."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import rich_click as click

from transfer_risk.options import LARGEST_BASE


class Finite(click.FloatRange):
    """A number in a range; neither NaN, which lies in every one, nor infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"must be a finite number; got {value}", param, ctx)
        return number


BASE = click.option(
    "--base",
    default=10.0,
    show_default=True,
    type=Finite(1, LARGEST_BASE),
    help="Risk = base ** hardness: the largest risk.",
)
TASK = click.argument("task", type=click.Path(exists=True, dir_okay=False))
CACHE = click.option(
    "--cache",
    default=1.0,
    show_default=True,
    type=Finite(0, 2**20),
    help="GiB of probabilities kept in a temporary file; what does not fit is predicted again.",
)
FORMAT = click.option(
    "--format",
    "format_",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "csv"]),
    help="What is printed to stdout.",
)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that reads SOURCEs; the command takes them as the one argument `reading`."""
    options = (
        click.option(
            "--source-config",
            "configs",
            multiple=True,
            metavar="[SOURCE=]FILE",
            help="source.toml that says what a source's files do not; with several sources SOURCE=FILE, repeated.",
        ),
        click.option(
            "--trust",
            multiple=True,
            metavar="SOURCE",
            help="Run code that this source's files hold or name; may be repeated.",
        ),
        click.option(
            "--missing-channels",
            type=click.Choice(["zero", "repeat"]),
            help="What stands for channels that the task lacks: zeros, or copies of one that it has; else an error.",
        ),
    )

    @functools.wraps(command)
    def collected(
        *args: Any,
        configs: tuple[str, ...],
        trust: tuple[str, ...],
        missing_channels: str | None,
        **rest: Any,
    ) -> Any:
        return command(*args, reading=Reading(configs, trust, missing_channels), **rest)

    for option in reversed(options):
        collected = option(collected)
    return collected


@dataclass(frozen=True)
class Reading:
    """How the SOURCEs of a command are read."""

    configs: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    missing_channels: str | None = None

    def load(self, paths: Sequence[str]) -> tuple[list[Any], list[str]]:
        """The sources that load, and a sentence for each that does not; notes and warnings go to stderr."""
        read = self.reader(paths)
        sources, failed = [], []
        for path in paths:
            try:
                sources.append(read(path))
            except ValueError as error:
                failed.append(str(error))
                continue
            except OSError as error:
                failed.append(f"{error.filename or path}: {error.strerror or error}")
                continue
            notes(sources[-1].notes, "note")
        if not sources:
            raise ValueError("; ".join(failed))
        return sources, failed

    def reader(self, paths: Sequence[str]) -> Callable[[Any], Any]:
        """What reads one of the paths as the options say; what is wrong with the options themselves is said at once."""
        from transfer_risk.adapters import load_source

        configs = self._configs(paths)
        if strange := [t for t in self.trust if t not in paths]:
            raise click.BadParameter(
                f"must be a SOURCE as it is written on the command line; got {', '.join(strange)}",
                param_hint="--trust",
            )
        notes(
            [f"{path} is trusted: code in its files runs as you" for path in self.trust], "WARNING"
        )

        def read(path: str) -> Any:
            source = load_source(path, config=configs.get(path), trust=path in self.trust)
            return replace(
                source, missing_channels=self.missing_channels or source.missing_channels
            )

        return read

    def one(self, path: str) -> Any:
        """The only source of a command."""
        return self.load([path])[0][0]

    def _configs(self, paths: Sequence[str]) -> dict[str, str]:
        """File by source: SOURCE=FILE, or a plain FILE where there is one source."""
        found = {}
        for text in self.configs:
            source = next((p for p in paths if text.startswith(f"{p}=")), None)
            if source is None and len(paths) != 1:
                which = "SOURCE as it is written" if paths else "with a SOURCE"
                raise click.BadParameter(
                    f"must be SOURCE=FILE, {which} on the command line; got {text}",
                    param_hint="--source-config",
                )
            found[source or paths[0]] = text.removeprefix(f"{source}=")
        return found


def load_runs(paths: Sequence[str]) -> tuple[list[Any], list[str]]:
    """The runs that load and have whole maps, and a sentence for each that does not."""
    from transfer_risk.runs import load_run
    from transfer_risk.runstats import check_maps

    runs, failed = [], []
    for path in paths:
        try:
            run = load_run(path)
            check_maps(run)
        except ValueError as error:
            failed.append(str(error))
        else:
            runs.append(run)
    if not runs:
        raise ValueError("; ".join(failed))
    return runs, failed


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings of the library and of what it uses as one line on stderr each, without file and line."""

    def show(message: Warning | str, *_place: Any) -> None:
        notes([" ".join(str(message).split())], "warning")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def notes(sentences: Sequence[str], kind: str) -> None:
    """Sentences on stderr, each behind the word that says what it is."""
    for sentence in sentences:
        click.echo(f"{kind}: {sentence}", err=True)


def fail(sentences: Sequence[str]) -> None:
    """Name what went wrong with some inputs, and exit 1 if anything did."""
    notes(sentences, "error")
    if sentences:
        sys.exit(1)
