"""Commands that check: doctor before a run, audit of scores after it."""

from __future__ import annotations

import sys

import rich_click as click

from transfer_risk.cli.progress import status
from transfer_risk.cli.shared import FORMAT, TASK, Reading, notes, source_options


@click.command("doctor")
@TASK
@click.argument("source", nargs=-1, type=click.Path())
@click.option(
    "--format", "format_", default="table", show_default=True, type=click.Choice(["table", "json"])
)
@source_options
def doctor_command(task: str, source: tuple[str, ...], format_: str, reading: Reading) -> None:
    """Check TASK, and whether each SOURCE fits it, without a full run; exit code 1 where there is an error."""
    from transfer_risk.doctor import diagnose, findings_text

    read = reading.reader(source)
    with status() as progress:
        findings = diagnose(task, source, read=read, progress=progress)
    click.echo(findings_text(findings, format_), nl=False)
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


@click.command("audit")
@click.argument("scores", nargs=-1, required=True, type=click.Path(exists=True))
@click.argument("results", type=click.Path(exists=True, dir_okay=False))
@click.option("--score", "names", multiple=True, help="Only this score column; may be repeated.")
@FORMAT
@click.option(
    "--out", type=click.Path(file_okay=False), help="Folder for audit.csv, targets.csv, audit.json."
)
def audit_command(
    scores: tuple[str, ...], results: str, names: tuple[str, ...], format_: str, out: str | None
) -> None:
    """Do the SCORES choose the source that fine-tunes best, by the Dice of the table RESULTS?

    SCORES are folders or files that `score --out` wrote, or tables with the columns task, source and any scores. RESULTS has
    the columns task, source, dice (0 to 1), and perhaps seed, case, class, over which it is averaged. Regret is in points.
    """
    from transfer_risk.auditing import audit
    from transfer_risk.reports import audit_text, check_audit_folder, write_audit
    from transfer_risk.scoretables import read_scores
    from transfer_risk.usertables import read_table

    if out:
        check_audit_folder(out)
    made = audit(read_scores(scores), read_table(results), names=names)
    click.echo(audit_text(made, format_), nl=False)
    if out:
        write_audit(made, out)
    notes(made.notes, "note")
