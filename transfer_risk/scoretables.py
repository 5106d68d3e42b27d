"""Tables of scores and of results as users have them, checked and brought to one form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "Sequence[Mapping[str, Any]] | pd.DataFrame"
KEYS = ("task", "source")
NO_SCORES = ("rank", "cases", "pixels", "seconds", "seed", "diff_next", "p_next", "licence")
NO_SCORE_ENDINGS = ("_low", "_high", "_floor")
AVERAGED = ("seed", "case", "class")
UNKNOWN = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None")
"""Numbers that a table does not know; a task, source, case or class may have such a name."""


def read_scores(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Rows of score tables: folders that `score --out` wrote, a ranking.json or ranking.csv of them, CSV with a task column.

    Raises:
        ValueError: naming the file, if it is no such table or does not say which task it belongs to.
    """
    return [row for path in paths for row in _score_rows(Path(path))]


def read_reached(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a table of the Dice that fine-tuning reached, a CSV file.

    Raises:
        ValueError: naming the file, if it is no CSV or has no row.
    """
    import pandas as pd

    try:
        content = Path(path).read_bytes()  # once: it may be a pipe
        header = list(
            pd.read_csv(BytesIO(content), header=None, nrows=1, dtype=str).iloc[0].dropna()
        )
        names = dict.fromkeys((*KEYS, "case", "class"), str)
        unknown = {column: [""] if column in names else list(UNKNOWN) for column in header}
        frame = pd.read_csv(BytesIO(content), dtype=names, keep_default_na=False, na_values=unknown)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path}: is no readable CSV table ({error})") from None
    if frame.empty:
        raise ValueError(f"{path}: must have rows below its header; it has none")
    if not isinstance(
        frame.index, pd.RangeIndex
    ):  # pandas takes the first columns for an index then
        raise ValueError(
            f"{path}: must have as many values in each row as its header has; it has more"
        )
    if twice := sorted({str(name) for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: must have different columns; {', '.join(twice)} is there twice")
    return list(frame.to_dict("records"))


def score_frame(scores: Table) -> pd.DataFrame:
    """Scores with task and source as text, one row each.

    Raises:
        ValueError: if a column is missing or a pair occurs twice.
    """
    return _frame("scores", scores, KEYS, KEYS)


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


def reached_dice(results: Table) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Mean Dice by task and source, over what all its sources have of seeds, classes and cases; what was dropped.

    Raises:
        ValueError: if a column is missing, rows repeat, Dice is no number in [0, 1], or a task's sources share no case.
    """
    import pandas as pd

    table = pd.DataFrame(results)
    averaged = [name for name in AVERAGED if name in table]
    frame = _frame("results", table, (*KEYS, "dice"), (*KEYS, *averaged))
    try:
        frame["dice"] = pd.to_numeric(frame["dice"]).astype(float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"dice of results must be a number in every row ({error})") from None
    outside = frame["dice"][(frame["dice"] < 0) | (frame["dice"] > 1)]
    if len(outside):
        end = ". Divide per cent by 100" if (outside > 1).all() else ""
        raise ValueError(f"dice of results must lie in [0, 1]; got {outside.iloc[0]:g}{end}")
    if "case" not in averaged:
        frame["case"] = ""
    cells_of = ["case", *(name for name in ("class", "seed") if name in averaged)]
    given = frame[cells_of].notna()
    frame[cells_of] = frame[cells_of].astype(object).where(given, "").astype(str)
    unknown = int(frame["dice"].isna().sum())
    notes = [f"{unknown} rows of results have no Dice and do not count"] if unknown else []
    made = {}
    frame = frame[frame["dice"].notna()]
    for task, rows in frame.groupby("task", sort=False):
        _check_filled(str(task), rows[cells_of])
        cell = list(cells_of)
        if "seed" in cell and not _share(rows, "seed"):
            cell.remove("seed")
            notes.append(
                f"task {task}: its sources have no seed in common; each is averaged over its own"
            )
        cells = rows.groupby(["source", *cell], sort=False)["dice"].mean().unstack(cell)
        common = cells.dropna(axis=1)
        if common.empty:
            raise ValueError(
                f"results of task {task}: its sources must share a {' and a '.join(cell)} with known Dice"
            )
        if lost := [
            c if isinstance(c, str) else " ".join(c)
            for c in cells.columns.difference(common.columns)
        ]:
            parts = [{"class": "classes", "seed": "seeds"}[name] for name in cell[1:]]
            what = f"cases, or {' or '.join(parts)} of them," if parts else "cases"
            notes.append(
                f"task {task}: {len(lost)} {what} lack Dice of some source and are dropped for all: "
                f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
            )
        over_seeds = common.T.groupby(level=[n for n in cell if n != "seed"], sort=False).mean()
        by_case = over_seeds.groupby(level="case", sort=False).mean()
        made[str(task)] = {str(source): float(dice) for source, dice in by_case.mean().items()}
    return made, notes


def _check_filled(task: str, cells: pd.DataFrame) -> None:
    """Raise ValueError where a column is empty in some rows of a task: rows over all cases or classes among the others."""
    for name in cells:
        empty = int((cells[name] == "").sum())
        if 0 < empty < len(cells):
            raise ValueError(
                f"results of task {task}: {name} must be given in all rows or in none; it is empty in {empty} of "
                f"{len(cells)}. Leave out the rows that are means over the others, or fill it in"
            )


def _share(rows: pd.DataFrame, column: str) -> bool:
    """Whether all sources have one value of the column in common."""
    return bool(set.intersection(*(set(own[column]) for _, own in rows.groupby("source"))))


def _score_rows(path: Path) -> list[dict[str, Any]]:
    if path.is_dir():
        path = path / ("ranking.json" if (path / "ranking.json").is_file() else "ranking.csv")
    if path.suffix.lower() == ".json":
        document = _json(path)
        return [{"task": document["task"], **row} for row in document["ranking"]]
    rows = read_reached(path)
    beside = path.with_suffix(".json")
    if "task" in rows[0]:
        return rows
    if not beside.is_file():
        raise ValueError(
            f"{path}: must have a column task, or {beside.name} of the same ranking beside it; it has neither"
        )
    name = _json(beside)["task"]
    return [{"task": name, **row} for row in rows]


def _json(path: Path) -> Any:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no readable JSON ({error})") from None
    rows = document.get("ranking") if isinstance(document, dict) else None
    listed = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    if not listed or "task" not in document:
        raise ValueError(
            f'{path}: must be {{"task": ..., "ranking": [...]}}, as score --out writes'
        )
    return document


def _frame(what: str, table: Table, columns: Sequence[str], unique: Sequence[str]) -> pd.DataFrame:
    """The table as a data frame of its own, whose columns are there and whose rows differ in the `unique` ones."""
    import pandas as pd

    frame = pd.DataFrame(table).copy()
    if missing := [name for name in columns if name not in frame]:
        raise ValueError(
            f"{what} must have the columns {', '.join(columns)}; {missing[0]} is not among {list(frame.columns)}"
        )
    for name in KEYS:
        if frame[name].isna().any():
            raise ValueError(f"{name} of {what} must be given in every row; it is empty in some")
        frame[name] = frame[name].astype(str)
    repeated = frame[frame.duplicated(list(unique))]
    if len(repeated):
        row = ", ".join(f"{name} {repeated.iloc[0][name]}" for name in unique)
        raise ValueError(
            f"{what} must have one row for each {', '.join(unique)}; {row} occurs twice. "
            "Keep one recipe (method, iterations) in a table"
        )
    return frame


def _may_be_score(name: str) -> bool:
    return (
        name not in (*KEYS, *NO_SCORES) and "[" not in name and not name.endswith(NO_SCORE_ENDINGS)
    )
