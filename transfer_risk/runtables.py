"""Tables of a run folder, log.csv and metrics.csv: as they are written, and read again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from transfer_risk.evaluation import Measure
from transfer_risk.quantities import MEASURES

Stage = Literal["before", "after"]
LOG = ("iteration", "loss", "lr", "fg_share", "seconds")
METRICS = ("case", "class", "stage", *MEASURES)


def stages_of(init: str) -> tuple[Stage, ...]:
    """Those that say something about transfer: what random weights had before training says nothing."""
    return ("before", "after") if init == "source" else ("after",)


def log_text(rows: Sequence[tuple[float, ...]]) -> str:
    """Content of log.csv."""
    return _csv(LOG, [[int(row[0]), *(f"{v:.6g}" for v in row[1:])] for row in rows])


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows of log.csv.

    Raises:
        ValueError: naming the file, if it is not as it was written.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [{k: float(row[k]) for k in LOG} for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: must be the table that finetune wrote, of numbers, with the columns {', '.join(LOG)} ({error}); "
            "restore it, or fine-tune again with another --out"
        ) from None


def metrics_text(stages: Mapping[Stage, Sequence[Measure]]) -> str:
    """Content of metrics.csv; an unknown number is empty."""
    cells = [
        [m.case, m.name, stage, *(_cell(getattr(m, name)) for name in MEASURES)]
        for stage, rows in stages.items()
        for m in rows
    ]
    return _csv(METRICS, cells)


def read_metrics(path: Path) -> dict[Stage, tuple[Measure, ...]]:
    """Rows of metrics.csv by stage.

    Raises:
        ValueError: naming the file, if it is not as it was written.
    """
    found: dict[Stage, list[Measure]] = {"before": [], "after": []}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                numbers = [float(row[name]) if row[name] else math.nan for name in MEASURES]
                stage: Stage = "before" if row["stage"] == "before" else "after"
                found[stage].append(Measure(row["case"], row["class"], *numbers))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: must be the table that finetune wrote, with commas ({error}); restore it, or delete it and start "
            "the same finetune command again"
        ) from None
    return {"before": tuple(found["before"]), "after": tuple(found["after"])}


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
