"""Rankings and audits as tables, CSV and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transfer_risk.auditing import MEASURES, Audit
from transfer_risk.files import write_text
from transfer_risk.outfolders import check_tables
from transfer_risk.ranking import Ranking
from transfer_risk.scoretables import ranking_json
from transfer_risk.textrows import aligned, csv_text, known, p_text

TABLES = {
    "audit.csv": ("score", "kendall"),
    "targets.csv": ("task", "score", "kendall"),
    "audit.json": ("means", "targets", "notes"),
}
"""What `write_audit` writes, by the columns or keys of each."""


def ranking_text(ranking: Ranking, format_: str) -> str:
    """The ranking as `table`, `csv` or `json`."""
    if format_ == "json":
        return ranking_json(ranking)
    return csv_text(ranking.rows()) if format_ == "csv" else _table(ranking)


def audit_text(audit: Audit, format_: str) -> str:
    """The means over targets as `table` or `csv`, or means and verdicts as `json`."""
    if format_ == "json":
        verdicts = [known(asdict(v)) for v in audit.verdicts]
        document = {"means": _means(audit), "targets": verdicts, "notes": audit.notes}
        return json.dumps(document, indent=2) + "\n"
    return csv_text(_means(audit)) if format_ == "csv" else _audit_table(audit)


def check_audit_folder(out: str | Path) -> None:
    """Raise ValueError or OSError, before scores are audited, where `write_audit` could not or must not write."""
    check_tables(out, TABLES, "audit")


def write_audit(audit: Audit, out: str | Path) -> None:
    """Write audit.csv (means over targets), targets.csv (one row per score and target) and audit.json."""
    write_text(Path(out) / "audit.csv", audit_text(audit, "csv"))
    write_text(Path(out) / "targets.csv", csv_text([asdict(v) for v in audit.verdicts]))
    write_text(Path(out) / "audit.json", audit_text(audit, "json"))


def _table(ranking: Ranking) -> str:
    """Columns that paste; the difference is that to the next row."""
    rows = ranking.rows()
    probed = any(row["probe_dice"] is not None for row in rows)
    header = (
        *("rank", "source", "LEEP [95 %]", "of floor", "EEP-Dice [95 %]", "Dice"),
        *(["probe-Dice [95 %]"] if probed else []),
        *("difference to next [95 %]", "p"),
    )
    lines = aligned([header, *(_cells(row, probed) for row in rows)])
    floor = f"LEEP floor of an uninformative source {rows[0]['leep_floor']:.4f} nats"
    size = f"{rows[0]['cases']} cases, {rows[0]['pixels']:,} voxels"
    title = f"task {ranking.task}, by {ranking.by}; {size}; {floor}"
    return "\n".join([title, *lines, _purpose(ranking.by), ""])


def _purpose(by: str) -> str:
    """Which fine-tuning a ranking is for (docs/results.md, audit)."""
    audited = "for fine-tuning with --head probe and a frozen encoder"
    own = (
        f"ranked {audited};"
        if by == "probe_dice"
        else f"{audited} --by probe_dice lost least in both audits;"
    )
    return f"{own}\nwith nothing frozen and a Dice loss no score was certain to beat a random choice (docs/results.md)"


def _cells(row: dict[str, Any], probed: bool) -> tuple[str, ...]:
    return (
        str(row["rank"]),
        row["source"],
        _interval(row, "leep", 4),
        _number(row["leep_normalised"], 2),
        _interval(row, "eep_dice", 3),
        _number(row["dice"], 3),
        *([_interval(row, "probe_dice", 3)] if probed else []),
        _interval(row, "diff_next", 4),
        p_text(row["p_next"]),
    )


def _interval(row: dict[str, Any], name: str, digits: int) -> str:
    """A value with its interval, where there is one."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return _number(value, digits)
    return f"{_number(value, digits)} [{_number(low, digits)}, {_number(high, digits)}]"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _means(audit: Audit) -> list[dict[str, Any]]:
    """One row per score: each measure's mean over targets, interval and number of targets where it is known."""
    rows = []
    for name in audit.scores:
        row: dict[str, Any] = {"score": name}
        for measure in MEASURES:
            estimate = audit.mean(name, measure)
            row |= estimate.columns(measure) | {f"{measure}_targets": estimate.cases}
        rows.append(known(row))
    return rows


def _audit_table(audit: Audit) -> str:
    header = (
        "score",
        "Kendall [95 %]",
        "weighted",
        "Spearman",
        "top-1",
        "regret [95 %]",
        "targets",
    )
    cells = [
        (
            row["score"],
            _interval(row, "kendall", 2) + _partly(row),
            *(_number(row[name], 2) for name in ("weighted_kendall", "spearman", "top1")),
            _interval(row, "regret", 2),
            str(row["regret_targets"]),
        )
        for row in _means(audit)
    ]
    sizes = {v.task: v.sources for v in audit.verdicts}
    few, many = min(sizes.values()), max(sizes.values())
    number = str(few) if few == many else f"{few} to {many}"
    title = (
        f"{len(sizes)} targets with {number} sources each; means over targets; regret: Dice points lost against the "
        "best source"
    )
    return "\n".join([title, *aligned([header, *cells]), ""])


def _partly(row: dict[str, Any]) -> str:
    """On how many targets the correlations are known, where those are not all."""
    known, total = row["kendall_targets"], row["regret_targets"]
    return f" (n = {known})" if 0 < known < total else ""
