"""Tables of scores: which columns they have, how a ranking is written, and how such files are read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer_risk.files import read_json, write_text
from transfer_risk.intervals import Estimate
from transfer_risk.outfolders import check_tables
from transfer_risk.textrows import csv_text, known
from transfer_risk.usertables import KEYS, Table, checked_frame, read_table

if TYPE_CHECKING:
    import pandas as pd

    from transfer_risk.ranking import Ranking
    from transfer_risk.scoring import Score

Row = dict[str, Any]
SCORES = (
    *("leep", "leep_balanced", "leep_loo", "eep_dice", "eep_dice_argmax", "dice", "nce"),
    *("probe_dice", "probe_log_likelihood"),
)
NO_SCORES = ("rank", "cases", "pixels", "seconds", "seed", "diff_next", "p_next", "licence")
NO_SCORE_ENDINGS = ("_low", "_high", "_floor")
FLOORS = {"leep": "leep_floor", "leep_loo": "leep_loo_floor", "nce": "leep_floor"}
"""Column of what an uninformative source gets, by score."""
PER_CASE = ("source", "case", "score", "class", "value")
"""Columns of per_case.csv."""
TABLES = {
    "ranking.csv": ("rank", "source", "leep"),
    "ranking.json": ("task", "ranking"),
    "per_case.csv": PER_CASE,
}
"""What `write_ranking` writes, by the columns or keys of each."""


def ranking_rows(scores: Sequence[Score], by: str) -> list[Row]:
    """One row per source, best first, in the columns of ranking.csv; unknown = None.

    Args:
        scores: Best first.
        by: The score of which differences to the next source are taken.
    """
    following = [*scores[1:], None]
    return [
        _row(rank, own, other, by)
        for rank, (own, other) in enumerate(zip(scores, following, strict=True), start=1)
    ]


def ranking_json(ranking: Ranking) -> str:
    """Content of ranking.json."""
    return json.dumps({"task": ranking.task, "ranking": ranking.rows()}, indent=2) + "\n"


def check_ranking_folder(out: str | Path) -> None:
    """Raise ValueError or OSError, before sources are ranked, where `write_ranking` could not or must not write."""
    check_tables(out, TABLES, "score")


def write_ranking(ranking: Ranking, out: str | Path) -> None:
    """Write ranking.csv, ranking.json and per_case.csv."""
    per_case = [
        dict(zip(PER_CASE, (s.source, *row), strict=True))
        for s in ranking.scores
        for row in s.per_case
    ]
    write_text(Path(out) / "ranking.csv", csv_text(ranking.rows()))
    write_text(Path(out) / "ranking.json", ranking_json(ranking))
    write_text(Path(out) / "per_case.csv", csv_text(per_case))


def read_ranking(path: str | Path) -> list[Row]:
    """Rows of a ranking.csv or ranking.json, or of the folder that `write_ranking` wrote; what is unknown is None or NaN.

    Raises:
        ValueError: naming the file, if it holds no ranking.
    """
    file = _file(Path(path))
    try:
        rows = _rows(file)
    except ValueError:
        rows = []
    if not rows or not all("source" in row for row in rows):
        raise ValueError(f"{file}: holds no ranking; score --out writes ranking.csv and .json")
    return rows


def read_scores(paths: Sequence[str | Path]) -> list[Row]:
    """Rows of score tables: folders that `score --out` wrote, a ranking.json or ranking.csv of them, CSV with a task column.

    Raises:
        ValueError: naming the file, if it is no such table or does not say which task it belongs to.
    """
    return [row for path in paths for row in _with_task(_file(Path(path)))]


def score_frame(scores: Table) -> pd.DataFrame:
    """Scores with task and source as text, one row each.

    Raises:
        ValueError: if a column is missing or a pair occurs twice.
    """
    return checked_frame("scores", scores, KEYS, KEYS)


def score_columns(frame: pd.DataFrame, names: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Make the score columns numbers, in place; their names, and a sentence on columns that are no numbers.

    Without `names` these are all columns of numbers but counts, intervals, floors and class-wise scores.

    Raises:
        ValueError: if a named column is missing or no number, or there is none at all.
    """
    import pandas as pd

    if absent := [name for name in names if name not in frame]:
        raise ValueError(f"scores must have a column {absent[0]}; they have {list(frame.columns)}")
    columns, ignored = [], []
    for name in dict.fromkeys(names or [c for c in frame.columns if _may_be_score(c)]):
        try:
            frame[name] = pd.to_numeric(frame[name]).astype(float)
        except (ValueError, TypeError) as error:
            if names:
                raise ValueError(f"score {name} must be a number in every row ({error})") from None
            ignored.append(name)
        else:
            columns.append(name)
    if not columns:
        raise ValueError(f"scores must have a column of numbers; they have {list(frame.columns)}")
    return columns, [f"not numbers, ignored: {', '.join(ignored)}"] if ignored else []


def _file(path: Path) -> Path:
    """The file of a ranking, of its folder or itself.

    Raises:
        ValueError: if the folder holds none.
    """
    if not path.is_dir():
        return path
    files = [path / name for name in ("ranking.json", "ranking.csv")]
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise ValueError(f"{path}: holds no ranking; score --out writes ranking.csv and .json")
    return found


def _rows(file: Path) -> list[Row]:
    """Rows of a file, with a task as far as they have one."""
    if file.suffix.lower() != ".json":
        return read_table(file)
    rows: list[Row] = _document(file)["ranking"]
    return rows


def _with_task(file: Path) -> list[Row]:
    """Rows of a file, with the task of a ranking.json beside it where they have none."""
    rows, document = _rows(file), file.with_suffix(".json")
    if file.suffix.lower() != ".json":
        if "task" in rows[0]:
            return rows
        if not document.is_file():
            raise ValueError(
                f"{file}: must have a column task, or {document.name} of the same ranking beside it; it has neither"
            )
    task = _document(document)["task"]
    return [{"task": task, **row} for row in rows]


def _document(path: Path) -> Any:
    """Content of a ranking.json."""
    document = read_json(path)
    rows = document.get("ranking") if isinstance(document, dict) else None
    listed = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    if not listed or "task" not in document:
        raise ValueError(
            f'{path}: must be {{"task": ..., "ranking": [...]}}, as score --out writes'
        )
    return document


def _row(rank: int, own: Score, following: Score | None, by: str) -> dict[str, Any]:
    values = own.estimates
    difference = _difference(values[by], following.estimates[by] if following else None)
    row: dict[str, Any] = {
        "rank": rank,
        "source": own.source,
        **values["leep"].columns("leep"),
        **{name: values[name].value for name in ("leep_floor", "leep_normalised", "leep_balanced")},
        **{name: values[name].value for name in ("leep_loo", "leep_loo_floor")},
        **values["eep_dice"].columns("eep_dice"),
        **{name: values[name].value for name in ("eep_dice_argmax", "dice", "nce")},
        **difference,
        "cases": len(own.cases),
        "pixels": own.pixels,
        "seconds": round(own.seconds, 2),
        "licence": own.licence or None,
        **{name: e.value for name, e in values.items() if "[" in name},
    }
    for name in ("probe_dice", "probe_log_likelihood"):
        row[name] = values[name].value if name in values else None
    for name in ("leep_normalised", *(n for n in SCORES if n not in ("leep", "eep_dice"))):
        if name not in values:
            row[f"{name}_low"] = row[f"{name}_high"] = None
            continue
        row[f"{name}_low"], row[f"{name}_high"] = values[name].interval()
    return known(row)


def _difference(own: Estimate, following: Estimate | None) -> dict[str, float | None]:
    """Paired difference to the next source; None for the last one."""
    if following is None:
        return dict.fromkeys(("diff_next", "diff_next_low", "diff_next_high", "p_next"))
    difference = own - following
    return {**difference.columns("diff_next"), "p_next": difference.p_value}


def _may_be_score(name: str) -> bool:
    return (
        name not in (*KEYS, *NO_SCORES) and "[" not in name and not name.endswith(NO_SCORE_ENDINGS)
    )
