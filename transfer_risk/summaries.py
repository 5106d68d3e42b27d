"""Comparisons as tables, CSV and JSON."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

from transfer_risk.comparison import Change, Comparison, Contrast
from transfer_risk.evaluation import mean_dice
from transfer_risk.files import write_text
from transfer_risk.intervals import Estimate
from transfer_risk.outfolders import check_tables
from transfer_risk.quantities import quantity_of
from transfer_risk.runs import load_run
from transfer_risk.textrows import aligned, csv_text, known, listed, p_text
from transfer_risk.tomlfiles import read_toml

PER_CASE = ("run", "method", "stage", "case", "quantity", "value")
"""Columns of per_case.csv."""
TABLES = {
    "changes.csv": ("run", "quantity", "unit"),
    "contrasts.csv": ("first", "second"),
    "per_case.csv": PER_CASE,
    "comparison.json": ("task", "runs", "changes", "verdicts"),
}
"""What `write_comparison` writes, by the columns or keys of each."""


def comparison_text(comparison: Comparison, format_: str) -> str:
    """The comparison as `table`, `csv` (changes, one row per run and quantity) or `json`."""
    if format_ == "json":
        return json.dumps(_document(comparison), indent=2) + "\n"
    if format_ == "csv":
        return csv_text([_change(c) for c in comparison.changes])
    return _table(comparison)


def check_comparison_folder(out: str | Path) -> None:
    """Raise ValueError or OSError, before runs are compared, where `write_comparison` could not or must not write."""
    check_tables(out, TABLES, "compare")


def write_comparison(comparison: Comparison, out: str | Path) -> None:
    """Write changes.csv, contrasts.csv (of several runs; an older one goes), per_case.csv and comparison.json."""
    write_text(Path(out) / "changes.csv", comparison_text(comparison, "csv"))
    if comparison.contrasts:
        rows = [_contrast(c) for c in comparison.contrasts]
        write_text(Path(out) / "contrasts.csv", csv_text(rows))
    else:
        (Path(out) / "contrasts.csv").unlink(missing_ok=True)
    write_text(Path(out) / "per_case.csv", csv_text(comparison.rows()))
    write_text(Path(out) / "comparison.json", comparison_text(comparison, "json"))


def run_text(path: str | Path) -> str:
    """What a finished run reached, in a few lines: Dice before and after, decision, and what to do next."""
    run = load_run(path)
    lines = [f"{run.path}: {run.method} on {run.task.name}, {len(run.cases)} test cases"]
    for stage, rows in run.measures.items():
        if stage == "before" and run.lacking:
            lines.append(f"Dice before unknown: the source has no {listed(run.lacking)}")
            continue
        dice = mean_dice(rows, run.task.cases)
        if dice.cases:
            lines.append(f"Dice {stage:<6} {with_interval(dice)}")
    decision = read_toml(run.path / "model" / "source.toml")["decision"]
    offsets = ", ".join(f"{v:+.2f}" for v in decision["offsets"])
    lines.append(f"decision {decision['kind']}" + (f" ({offsets})" if offsets else ""))
    word = shlex.quote(str(path))
    return "\n".join(
        [*lines, f"next: transfer-risk compare {word}; transfer-risk plot {word} --out figure.png"]
    )


def with_interval(estimate: Estimate) -> str:
    """A mean over cases with its 95 % interval, where there is one."""
    low, high = estimate.interval()
    if estimate.units > 1:
        return f"{estimate.value:.3f} [{low:.3f}, {high:.3f}]"
    whose = "case" if estimate.cases == 1 else "patient"
    return f"{estimate.value:.3f} (one {whose}: no interval)"


def _document(comparison: Comparison) -> dict[str, Any]:
    runs = [
        {"run": r.name, "method": r.method, "from_scratch": r.from_scratch} for r in comparison.runs
    ]
    return {
        "task": comparison.runs[0].task.name,
        "cases": list(comparison.cases),
        "runs": runs,
        "span": [float(comparison.span.low), float(comparison.span.high)],
        "base": comparison.base,
        "changes": [_change(c) for c in comparison.changes],
        "contrasts": [_contrast(c) for c in comparison.contrasts],
        "verdicts": list(comparison.verdicts),
        "per_case": [known(row) for row in comparison.rows()],
    }


def _change(change: Change) -> dict[str, Any]:
    row: dict[str, Any] = {"run": change.run, "quantity": change.quantity}
    row |= {"unit": quantity_of(change.quantity).unit or None}
    for name in ("before", "after", "difference"):
        row |= known(getattr(change, name).columns(name))
    return row | known({"p": change.difference.p_value, "cases": change.difference.cases})


def _contrast(contrast: Contrast) -> dict[str, Any]:
    row: dict[str, Any] = {"first": contrast.first, "second": contrast.second}
    row |= known(contrast.difference.columns("difference"))
    tests = {"p": contrast.difference.p_value, "p_signed_rank": contrast.p_signed_rank}
    tests |= {"p_holm": contrast.p_holm, "cases": contrast.difference.cases}
    return row | known(tests)


def _table(comparison: Comparison) -> str:
    """Before and after of each run, runs against each other, and the verdicts."""
    span = comparison.span
    title = (
        f"task {comparison.runs[0].task.name}; {len(comparison.cases)} test cases; all maps on the span "
        f"[{float(span.low):.2f}, {float(span.high):.2f}] nats; means over cases, differences with 95 % intervals"
    )
    header = ("run", "method", "quantity", "before", "after", "after - before [95 %]", "p", "cases")
    methods = {r.name: r.method + " (scratch)" * r.from_scratch for r in comparison.runs}
    rows = [_change_cells(c, methods[c.run]) for c in comparison.changes if _shown(c.quantity)]
    blocks = ["\n".join([title, *aligned([header, *rows]), ""])]
    if comparison.contrasts:
        second = ("run", "against", "Dice points [95 %]", "p", "signed-rank p", "Holm p", "cases")
        lines = aligned([second, *map(_contrast_cells, comparison.contrasts)])
        blocks.append("\n".join([*lines, ""]))
    return "\n".join([*blocks, "\n".join(comparison.verdicts) + "\n"])


def _shown(quantity: str) -> bool:
    """Whether the table has it: HD95, recall and precision by class are left to CSV and JSON."""
    return "[" not in quantity or quantity.startswith(("dice", "risk_mass"))


def _change_cells(change: Change, method: str) -> tuple[str, ...]:
    quantity = quantity_of(change.quantity)
    digits, unit = quantity.digits, quantity.unit
    return (
        change.run,
        method,
        f"{change.quantity} ({unit})" if unit else change.quantity,
        _number(change.before.value, digits),
        _number(change.after.value, digits),
        _interval(change.difference, digits),
        p_text(change.difference.p_value),
        str(max(change.difference.cases, change.after.cases * math.isnan(change.before.value))),
    )


def _contrast_cells(contrast: Contrast) -> tuple[str, ...]:
    points = contrast.difference.scaled(100)
    tests = (points.p_value, contrast.p_signed_rank, contrast.p_holm)
    return (
        contrast.second,
        contrast.first,
        _interval(points, 1),
        *map(p_text, tests),
        str(points.cases),
    )


def _interval(estimate: Estimate, digits: int) -> str:
    low, high = estimate.interval()
    if math.isnan(low):
        return _signed(estimate.value, digits)
    return f"{_signed(estimate.value, digits)} [{_signed(low, digits)}, {_signed(high, digits)}]"


def _signed(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:+.{digits}f}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
