"""Commands that show what came out: demo."""

from __future__ import annotations

import rich_click as click

from transfer_risk.cli.shared import status


@click.command("demo")
@click.option("--quick", is_flag=True, help="Smaller images, fewer iterations: under a minute.")
@click.option(
    "--out", default="demo", show_default=True, type=click.Path(file_okay=False), help="Folder."
)
def demo_command(quick: bool, out: str) -> None:
    """Rank six small sources on the embedded cohort, write risk maps and a figure."""
    from transfer_risk.demo import run_demo

    with status() as progress:
        text = run_demo(out, quick=quick, progress=progress)
    click.echo(text, nl=False)
