"""The command that trains: finetune."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import rich_click as click

from transfer_risk.cli.shared import TASK, Reading, bar, notes, source_options
from transfer_risk.recipes import CHOICES, EFFECT, Recipe

OPTIONS = {  # option of the recipe -> what it does
    "method": "Loss; risk-map is the paper's.",
    "iterations": "Steps.",
    "lr": "Learning rate.",
    "batch": "Slices (2D) or patches (3D) per step.",
    "optimiser": "sgd has momentum 0.9.",
    "schedule": "Of the learning rate; cosine ends at 0.",
    "freeze": "encoder (what the source says), none, or a regular expression on parameter names.",
    "head": "auto keeps it for equally many classes, with the same names or none in common.",
    "init": "random: from scratch, nothing frozen; the reference for negative transfer.",
    "n_cases": "Few-shot: only so many training cases, nested by seed; 0 = all.",
    "n_slices": "Few-shot: only so many training slices, nested by seed; 0 = all.",
    "validation": "Share of the training cases that is kept for tuning the decision.",
    "dice_weight": "Weight of a soft Dice loss that is added.",
    "augment": "Flips and intensity changes; the risk map moves with the image.",
    "decision": "Stored in the model; later commands apply it.",
    "base": "Risk = base ** hardness.",
    "extent": "What hardness is scaled over.",
    "clip": "Low percentile of transferability that takes the place of its minimum.",
    "min_range": "Nats; a smaller range of transferability counts as constant.",
    "divisor": "What the risk-weighted sum is divided by: foreground of batch or image, or all pixels.",
    "min_foreground": "The divisor is at least this share of the valid pixels.",
    "exponential": "trs-map weighs with exp(-T) instead of 1 + H.",
    "seed": "Of subsets, new weights and the order of the data.",
    "device": "Where torch computes.",
    "precision": "bf16 is autocast.",
    "cache": "GiB for the features of a frozen encoder.",
    "checkpoint": "Iterations between resumable states.",
}


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each field of the recipe; what is not given stays out of the command's `given`."""
    defaults = Recipe()
    for name, text in reversed(OPTIONS.items()):
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        methods = f" For {', '.join(EFFECT[name])}." if name in EFFECT else ""
        help_text = f"{text}{methods} [default: {default}]"
        if isinstance(default, bool):
            off = f"--no-{flag.removeprefix('--')}"  # where --config says yes
            option = click.option(f"{flag}/{off}", name, default=None, help=text)
        elif name in CHOICES:
            option = click.option(flag, name, type=click.Choice(CHOICES[name]), help=help_text)
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
    from transfer_risk.finetuning import finetune
    from transfer_risk.layouts import load_task
    from transfer_risk.lineage import seen_note
    from transfer_risk.recipes import read_recipe
    from transfer_risk.summaries import run_text

    given = {name: value for name, value in options.items() if value is not None}
    try:
        recipe = Recipe.of((read_recipe(config) if config else {}) | given)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _refuse_idle(given, recipe)
    model, target = reading.one(source), load_task(task)
    channel_order(model, target.channels)
    warnings = [channel_note(model, target.channels)]
    if recipe.init == "source":
        seen = seen_note(model, target, [c.id for c in target.split("test")], "test")
        warnings.append(
            f"{seen}: what is measured there is no measure for new cases" if seen else ""
        )
    notes([w for w in warnings if w], "warning")
    with bar(recipe.iterations) as progress:
        finetune(
            model,
            target,
            recipe,
            out=out,
            resume=resume,
            command=sys.argv[1:],
            progress=progress,
            report=lambda text: click.echo(str(text), err=True),
        )
    click.echo(run_text(out))


def _refuse_idle(given: dict[str, Any], recipe: Recipe) -> None:
    """Raise UsageError where an option of the command line would do nothing."""
    for name in (n for n, value in given.items() if value is not False):
        methods = EFFECT.get(name, (recipe.method,))
        if recipe.method not in methods:
            raise click.UsageError(
                f"--{name.replace('_', '-')} has no effect with --method {recipe.method}; it is for {', '.join(methods)}"
            )
    if recipe.init == "random" and "freeze" in given:
        raise click.UsageError("--freeze has no effect with --init random, which trains everything")
    if recipe.init == "random" and given.get("head") == "keep":
        raise click.UsageError("--head keep has no effect with --init random, which draws it again")
    if recipe.divisor == "pixels" and "min_foreground" in given:
        raise click.UsageError("--min-foreground has no effect with --divisor pixels")
    scaled = [n for n in ("extent", "clip", "min_range") if n in given]
    if recipe.exponential and scaled:
        raise click.UsageError(
            f"--{scaled[0].replace('_', '-')} has no effect with --exponential, whose weight is no risk on a scale"
        )
