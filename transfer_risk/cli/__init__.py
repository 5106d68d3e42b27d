"""The command `transfer-risk`: parse, call one library function, print. Nothing heavy is imported at the top."""

from __future__ import annotations

from typing import Any

import rich_click as click

from transfer_risk import __version__
from transfer_risk.cli import checks, diagnosis, finetuning, models, plots, results
from transfer_risk.cli.shared import fail, plain_warnings


class Commands(click.RichGroup):
    """Turns the library's errors into one sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with plain_warnings():
                return super().invoke(ctx)
        except (ValueError, FloatingPointError, OSError) as error:
            reason = str(error)
            if isinstance(error, OSError) and error.strerror:
                reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            fail([reason])
        except (RuntimeError, MemoryError) as error:
            from transfer_risk.sources import out_of_memory

            if not out_of_memory(error):
                raise
            fail(["there is not enough memory; give a smaller --batch, or sources a smaller size"])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="transfer-risk")
def main() -> None:
    """Which pretrained segmentation model to start from, where its classes do not explain your labels, did fine-tuning help.

    TASK is a task file (`transfer-risk tasks` writes them); SOURCE a model file or folder (docs/models.md), or a run folder.
    """


for command in (
    diagnosis.tasks_command,
    diagnosis.score_command,
    diagnosis.map_command,
    checks.doctor_command,
    checks.audit_command,
    models.pretrain_command,
    finetuning.finetune_command,
    models.predict_command,
    results.compare_command,
    plots.plot_command,
    results.demo_command,
):
    main.add_command(command)
