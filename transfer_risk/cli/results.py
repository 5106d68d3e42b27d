"""Commands that show what came out: compare, demo."""

from __future__ import annotations

import rich_click as click

from transfer_risk.cli.progress import status
from transfer_risk.cli.shared import BASE, FORMAT, fail, load_runs


@click.command("compare")
@click.argument("run", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False))
@FORMAT
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    help="Folder for changes.csv, contrasts.csv, per_case.csv and comparison.json.",
)
@BASE
def compare_command(run: tuple[str, ...], format_: str, out: str | None, base: float) -> None:
    """Compare each RUN before and after fine-tuning, and the RUNs with each other."""
    from transfer_risk.comparison import compare
    from transfer_risk.summaries import (
        check_comparison_folder,
        comparison_text,
        write_comparison,
    )

    if out:
        check_comparison_folder(out)
    runs, failed = load_runs(run)
    with status() as progress:
        comparison = compare(runs, base=base, progress=progress)
    click.echo(comparison_text(comparison, format_), nl=False)
    if out:
        write_comparison(comparison, out)
    fail(failed)


@click.command("demo")
@click.option("--quick", is_flag=True, help="Smaller images, fewer iterations: under a minute.")
@click.option(
    "--out",
    default="demo",
    show_default=True,
    type=click.Path(file_okay=False),
    help="New or empty folder for data, tasks, sources, ranking, maps, runs and figures.",
)
def demo_command(quick: bool, out: str) -> None:
    """Rank six small sources on the embedded cohort, fine-tune the best by five methods, and show maps and changes."""
    from transfer_risk.demo import run_demo

    with status() as progress:
        text = run_demo(out, quick=quick, progress=progress)
    click.echo(text, nl=False)
