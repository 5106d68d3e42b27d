"""One transfer between two tasks of a cohort, as a job of a study: fine-tuned once and measured on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer_risk.adapters import save_source
from transfer_risk.decisions import tune_decision
from transfer_risk.evaluation import evaluate, pooled_mean
from transfer_risk.features import Features
from transfer_risk.files import write_text
from transfer_risk.fitting import fit
from transfer_risk.recipes import Recipe
from transfer_risk.sources import Source
from transfer_risk.study.cohorts import cohort_source, cohort_task
from transfer_risk.study.jobs import Row
from transfer_risk.tasks import Task
from transfer_risk.training import begin, finish


def transfer(job: Mapping[str, Any]) -> list[Row]:
    """Measures of one transfer at each of its stops, of its recipe's decision and at some of them of a tuned one too.

    What was done once is read from the folder, whichever study asks.
    """
    path = model_path(job).with_suffix(".json")
    if path.is_file():
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    task, source = tasks_of(job)
    stops = [int(stop) for stop in job["stops"].split()]
    recipe = Recipe(iterations=stops[-1], **json.loads(job["options"]))
    start = begin(source, task, recipe)
    features = Features.of(start.student, start.samples, recipe)
    rows = []
    for stop in stops:
        now = replace(recipe, iterations=stop)
        fit(start.state, start.student, start.samples, now, features=features)
        rows.append(_row(finish(start, task, now), task, stop))
        if str(stop) in job["tuned"].split():
            decision = tune_decision(start.student, task, cases=start.training)
            rows.append(_row(replace(start.student, decision=decision), task, stop))
            trained = {**start.student.trained, "iterations": stop}
            save_source(replace(start.student, trained=trained), model_path(job))
    write_text(path, json.dumps(rows))
    return rows


TOLD = ("anatomy", "source", "target", "seed", "stops", "options", "tuned")
"""What determines a transfer; further columns of a job are labels."""


def tasks_of(job: Mapping[str, Any]) -> tuple[Task, Source]:
    """Target task and source of a job."""
    target = cohort_task(job["folder"], "target", job["target"])
    return target, cohort_source(job["folder"], job["source"])


def model_path(job: Mapping[str, Any]) -> Path:
    """Where the fine-tuned model of a job is kept, as it was when its decision was tuned last."""
    told = {name: job[name] for name in TOLD}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return Path(job["folder"]) / "transfers" / digest


def _row(student: Source, task: Task, stop: int) -> Row:
    measures = evaluate(student, task, distances=False)
    row: Row = {"iterations": stop, "decision": student.decision.kind}
    for name in ("dice", "recall", "precision"):
        row[name] = 100 * pooled_mean(measures, name)
    return row
