"""Commands that make or use a model: pretrain, predict."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import rich_click as click

from transfer_risk.cli.progress import training
from transfer_risk.cli.shared import TASK, Finite, Reading, fail, source_options


@click.command("predict")
@click.argument("source", type=click.Path())
@click.argument("image", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the label maps."
)
@click.option("--probabilities", is_flag=True, help="Write the class probabilities too.")
@source_options
def predict_command(
    source: str, image: tuple[str, ...], out: str, probabilities: bool, reading: Reading
) -> None:
    """Segment each IMAGE with SOURCE: label maps in the image's own geometry.

    The channels of one examination are files <case>_0000.nii.gz, <case>_0001.nii.gz and so on of one folder, or a 4D file.
    """
    from transfer_risk.examinations import write_predictions

    model = reading.one(source)
    paths, failed = write_predictions(
        model, image, out, probabilities=probabilities, tell=partial(click.echo, err=True)
    )
    for path in paths:
        click.echo(path)
    click.echo(f"decision: {model.decision.kind}", err=True)
    fail(failed)


def _count(flag: str, default: int, text: str) -> Callable[[Any], Any]:
    """An option that is a whole number of at least 1."""
    whole = click.IntRange(min=1)
    return click.option(flag, default=default, show_default=True, type=whole, help=text)


@click.command("pretrain")
@TASK
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder of the new source."
)
@_count("--iterations", 2000, "Training steps.")
@_count("--batch", 8, "Slices per step.")
@click.option(
    "--lr",
    default=1e-3,
    show_default=True,
    type=Finite(min=0, min_open=True),
    help="Learning rate of Adam.",
)
@_count("--width", 32, "Channels of the first level.")
@_count("--depth", 5, "Levels of the U-Net.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0, 2**63 - 1),
    help="Of weights and order of the data.",
)
@click.option("--licence", default="", help="SPDX name to record.")
def pretrain_command(task: str, out: str, **options: Any) -> None:
    """Train a 2D U-Net on TASK from scratch: a new source, measured on the test cases."""
    from transfer_risk.layouts import load_task
    from transfer_risk.pretraining import pretrain, save_measured
    from transfer_risk.summaries import with_interval

    target = load_task(task)
    with training(options["iterations"]) as (tell, steps):
        make = partial(pretrain, target, progress=steps, tell=tell, **options)
        dice = save_measured(make, target, out, tell=tell)
    if dice is None:
        click.echo(f"{out}: not measured, as the task has no test case")
        return
    cases = f"{dice.cases} test case{'' if dice.cases == 1 else 's'}"
    click.echo(f"{out}: Dice {with_interval(dice)} on {cases}")
