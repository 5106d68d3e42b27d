"""The command that trains: finetune."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from typing import Any

import rich_click as click

from transfer_risk.cli.progress import training
from transfer_risk.cli.shared import TASK, Reading, notes, source_options
from transfer_risk.methods import EFFECT, idle
from transfer_risk.recipes import Recipe


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each field of the recipe; what is not given stays out of the command's `given`."""
    for known in reversed(fields(Recipe)):
        name, default, text = known.name, known.default, known.metadata["text"]
        flag = f"--{name.replace('_', '-')}"
        methods = f" For {', '.join(EFFECT[name])}." if name in EFFECT else ""
        help_text = f"{text}{methods} [default: {default}]"
        if isinstance(default, bool):
            off = f"--no-{flag.removeprefix('--')}"  # where --config says yes
            option = click.option(f"{flag}/{off}", name, default=None, help=text)
        elif choices := known.metadata["choices"]:
            option = click.option(flag, name, type=click.Choice(choices), help=help_text)
        else:
            option = click.option(flag, name, type=type(default), help=help_text)
        command = option(command)
    return command


@click.command("finetune")
@TASK
@click.argument("source", type=click.Path())
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Run folder.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    help="TOML file of options, such as another run's config.toml; options given here go first.",
)
@click.option("--resume", is_flag=True, help="Only go on with a run that was begun before.")
@source_options
@recipe_options
def finetune_command(
    task: str,
    source: str,
    out: str,
    config: str | None,
    resume: bool,
    reading: Reading,
    **options: Any,
) -> None:
    """Fine-tune SOURCE on TASK; measured and mapped before and after on the test cases."""
    from transfer_risk.channels import channel_note, channel_order
    from transfer_risk.classes import class_note
    from transfer_risk.finetuning import finetune
    from transfer_risk.layouts import load_task
    from transfer_risk.lineage import seen_note
    from transfer_risk.recipes import read_recipe
    from transfer_risk.summaries import run_text

    given = {name: value for name, value in options.items() if value is not None}
    try:
        table = (read_recipe(config) if config else {}) | given
        _refuse_idle(table, given)
        recipe = Recipe.of(table)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    model, target = reading.one(source), load_task(task)
    channel_order(model, target.channels)
    warnings = [channel_note(model, target.channels)]
    if recipe.init == "source":
        warnings.append(class_note(model.name, model.classes, target.classes))
        seen = seen_note(model, target, [c.id for c in target.split("test")], "test")
        warnings.append(
            f"{seen}: what is measured there is no measure for new cases" if seen else ""
        )
    notes([w for w in warnings if w], "warning")
    with training(recipe.iterations) as (tell, steps):
        finetune(
            model,
            target,
            recipe,
            out=out,
            resume=resume,
            command=sys.argv[1:],
            progress=steps,
            tell=tell,
            report=lambda text: click.echo(str(text), err=True),
        )
    click.echo(run_text(out))


def _refuse_idle(table: dict[str, Any], given: Collection[str]) -> None:
    """Raise UsageError where an option of the command line would do nothing."""
    for what, beside, why in idle(asdict(Recipe()) | table, given):
        raise click.UsageError(f"--{what.replace('_', '-')} has no effect with --{beside}{why}")
