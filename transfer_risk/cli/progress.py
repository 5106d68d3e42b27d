"""Progress on stderr: a line that says what is under way, a bar of iterations; neither where stderr is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from transfer_risk.callbacks import Steps, Tell

ESTIMATED = 12  # iterations after which the time is estimated


@contextmanager
def status() -> Iterator[Tell]:
    """A line on stderr that says what is under way; nothing where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("reading") as status:
        yield status.update


@contextmanager
def training(total: int) -> Iterator[tuple[Tell, Steps]]:
    """Two functions that show a training on stderr: what is under way on a line, and iterations as a bar in its place.

    Nothing of them is shown where stderr is no terminal; a first estimate of the time that it will take is, everywhere.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("loss {task.fields[loss]:.3f}"), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    drawn = bar.add_task("", total=total, loss=float("nan"))
    line = console.status("reading")
    clock: list[tuple[int, float]] = []

    def tell(text: str) -> None:
        if bar.live.is_started:
            bar.stop()
        line.update(text)
        line.start()

    def step(iteration: int, loss: float) -> None:
        line.stop()
        bar.start()
        bar.update(drawn, completed=iteration, loss=loss)
        clock.append((iteration, time.monotonic()))
        if len(clock) == ESTIMATED:
            (first, start), (last, now) = clock[1], clock[-1]
            seconds = (now - start) / (last - first) * (total - last)
            console.print(f"about {seconds / 60:.1f} min for {total - last:,} more iterations")

    line.start()
    try:
        yield tell, step
    finally:
        line.stop()
        if bar.live.is_started:
            bar.stop()
