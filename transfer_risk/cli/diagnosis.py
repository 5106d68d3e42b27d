"""Commands that look at data and sources: tasks, score, map."""

from __future__ import annotations

import re

import rich_click as click

from transfer_risk.cli.progress import status
from transfer_risk.cli.shared import (
    BASE,
    CACHE,
    FORMAT,
    TASK,
    Finite,
    Reading,
    fail,
    notes,
    source_options,
)


@click.command("tasks")
@click.argument("root", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the task files."
)
@click.option(
    "--layout",
    type=click.Choice(["nnunet", "msd", "iseg2019", "fets", "pairs"]),
    help="Recognised where not given.",
)
@click.option("--binary", is_flag=True, help="One task for each class on each channel.")
@click.option(
    "--fold",
    metavar="K/N",
    help="Test cases are fold K of N (from 0) instead of 30 %; of splits_final.json where there is one.",
)
@click.option(
    "--group",
    metavar="REGEX",
    help="Finds the patient in a case's id (first group, or whole match); only a splits_final.json may divide one.",
)
@click.option(
    "--partitions",
    type=click.Path(exists=True, dir_okay=False),
    help="Partitioning csv of FeTS: one task for each partition on T1, T2 and FLAIR.",
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Go on with the complete cases of an incomplete folder, and without a folder that has no labels.",
)
def tasks_command(
    root: str,
    out: str,
    layout: str | None,
    binary: bool,
    fold: str | None,
    group: str | None,
    partitions: str | None,
    allow_missing: bool,
) -> None:
    """Write a task file for each task found under ROOT."""
    from transfer_risk.layouts import write_tasks

    failed: list[str] = []
    paths = write_tasks(
        root,
        out,
        layout=layout,
        binary=binary,
        fold=_fold(fold),
        group=_expression(group),
        partitions=partitions,
        allow_missing=allow_missing,
        note=lambda sentence: notes([sentence], "note"),
        failed=failed.append,
    )
    for path in paths:
        click.echo(path)
    fail(failed)


@click.command("score")
@TASK
@click.argument("source", nargs=-1, required=True, type=click.Path())
@click.option(
    "--by",
    default="auto",
    show_default=True,
    help="Score that orders the sources; auto: probe_dice where all can be probed, else leep. Others: leep_balanced, "
    "leep_loo, eep_dice, eep_dice_argmax, dice, nce, probe_log_likelihood.",
)
@FORMAT
@click.option(
    "--out",
    type=click.Path(file_okay=False),
    help="Folder for ranking.csv, ranking.json and per_case.csv.",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Add probe_dice, the Dice of a linear classifier on the last features on cases left out, where --by is another.",
)
@CACHE
@source_options
def score_command(
    task: str,
    source: tuple[str, ...],
    by: str,
    probe: bool,
    format_: str,
    out: str | None,
    cache: float,
    reading: Reading,
) -> None:
    """Rank the SOURCEs for TASK."""
    from transfer_risk.layouts import load_task
    from transfer_risk.ranking import AUTO, rank_sources
    from transfer_risk.reports import ranking_text
    from transfer_risk.scoretables import SCORES, check_ranking_folder, write_ranking

    if by not in (AUTO, *SCORES):
        raise click.BadParameter(
            f"must be {AUTO} or one of {', '.join(SCORES)}; got {by!r}", param_hint="--by"
        )
    if out:
        check_ranking_folder(out)
    target = load_task(task)
    sources, failed = reading.load(source)
    with status() as progress:
        ranking = rank_sources(
            sources, target, by=by, probe=probe, cache=int(cache * 2**30), progress=progress
        )
    click.echo(ranking_text(ranking, format_), nl=False)
    if out:
        write_ranking(ranking, out)
    notes(list(dict.fromkeys(w for s in ranking.scores for w in s.warnings)), "warning")
    fail(
        [
            *failed,
            *ranking.failed.values(),
            *(f"dropped for all: {r}" for r in ranking.dropped.values()),
        ]
    )


@click.command("map")
@TASK
@click.argument("source", type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(file_okay=False), help="Folder for the NIfTI maps."
)
@click.option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["test", "train", "all"]),
    help="Cases to map.",
)
@click.option(
    "--case",
    "ids",
    multiple=True,
    help="Write only this case, on joint and span of all; may be repeated.",
)
@click.option("--hardness", is_flag=True, help="Write the hardness maps too.")
@BASE
@click.option(
    "--clip",
    default=0.0,
    show_default=True,
    type=Finite(0, 100, max_open=True),
    help="Percentile of transferability that takes the place of its minimum; 0 = off.",
)
@click.option(
    "--in-sample",
    is_flag=True,
    help="One joint of all mapped cases, as for training weights (with --split train); else that of the other cases.",
)
@CACHE
@source_options
def map_command(
    task: str,
    source: str,
    out: str,
    split: str,
    ids: tuple[str, ...],
    hardness: bool,
    base: float,
    clip: float,
    in_sample: bool,
    cache: float,
    reading: Reading,
) -> None:
    """Write the transfer risk maps of SOURCE on TASK, in each image's own geometry.

    For each case <case>_risk.nii.gz (1 to base; 0: ignored) and <case>_transferability.nii.gz (nats; NaN: ignored).
    """
    from transfer_risk.channels import channel_note
    from transfer_risk.layouts import load_task
    from transfer_risk.lineage import seen_note
    from transfer_risk.mapping import leak_note, lone_note, write_maps

    target = load_task(task)
    cases = target.split(split)
    if unknown := [i for i in ids if i not in {c.id for c in cases}]:
        raise click.BadParameter(
            f"task {target.name} has no {'' if split == 'all' else split + ' '}case {', '.join(unknown)}; it has "
            f"{', '.join(c.id for c in cases)}; --split has others",
            param_hint="--case",
        )
    model = reading.one(source)
    with status() as progress:
        paths, failed = write_maps(
            model,
            target,
            out,
            cases=cases,
            only=ids or None,
            hardness=hardness,
            base=base,
            clip=clip,
            in_sample=in_sample,
            cache=int(cache * 2**30),
            progress=progress,
        )
    click.echo(f"{len(paths)} maps in {out}")
    mapped = [c.id for c in cases]
    warnings = [channel_note(model, target.channels), seen_note(model, target, mapped, "mapped")]
    used = [c for c in cases if c.id not in failed]
    warnings.append(leak_note(target, cases) if in_sample else lone_note(used))
    notes([w for w in warnings if w], "warning")
    fail(list(failed.values()))


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, folds = text.partition("/")
    if not (number.isdigit() and folds.isdigit()):
        raise click.BadParameter(f"must be K/N, such as 0/5; got {text!r}", param_hint="--fold")
    return int(number), int(folds)


def _expression(text: str | None) -> str | None:
    try:
        re.compile(text or "")
    except re.error as error:
        raise click.BadParameter(
            f"must be a regular expression, such as '^(patient\\d+)'; got {text!r} ({error})",
            param_hint="--group",
        ) from None
    return text
