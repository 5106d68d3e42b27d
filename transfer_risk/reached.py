"""The Dice that fine-tuning reached, by task and source, over what all sources of a task have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transfer_risk.usertables import KEYS, Table, checked_frame

if TYPE_CHECKING:
    import pandas as pd

AVERAGED = ("case", "class", "seed")
"""Columns that may be there, and over which Dice is averaged."""


def reached_dice(results: Table) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Mean Dice by task and source, over what all its sources have of seeds, classes and cases; what was dropped.

    Raises:
        ValueError: if a column is missing, rows repeat, Dice is no number in [0, 1], or a task's sources share no case.
    """
    frame, cell = _results(results)
    unknown = int(frame["dice"].isna().sum())
    notes = [f"{unknown} rows of results have no Dice and do not count"] if unknown else []
    made = {}
    for task, rows in frame[frame["dice"].notna()].groupby("task", sort=False):
        made[str(task)], own = _over_common(str(task), rows, cell)
        notes += own
    return made, notes


def _results(results: Table) -> tuple[pd.DataFrame, list[str]]:
    """Results with Dice as numbers, and the columns of a cell as text, case among them; and the names of those columns."""
    import pandas as pd

    table = pd.DataFrame(results)
    unique = [name for name in ("seed", "case", "class") if name in table]
    frame = checked_frame("results", table, (*KEYS, "dice"), (*KEYS, *unique))
    try:
        frame["dice"] = pd.to_numeric(frame["dice"]).astype(float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"dice of results must be a number in every row ({error})") from None
    outside = frame["dice"][(frame["dice"] < 0) | (frame["dice"] > 1)]
    if len(outside):
        end = ". Divide per cent by 100" if (outside > 1).all() else ""
        raise ValueError(f"dice of results must lie in [0, 1]; got {outside.iloc[0]:g}{end}")
    if "case" not in frame:
        frame["case"] = ""
    cell = [name for name in AVERAGED if name in frame]
    given = frame[cell].notna()
    frame[cell] = frame[cell].astype(object).where(given, "").astype(str)
    return frame, cell


def _over_common(
    task: str, rows: pd.DataFrame, cell: Sequence[str]
) -> tuple[dict[str, float], list[str]]:
    """Mean Dice by source over the cells that all sources of a task have, and sentences on what was dropped.

    A mean over seeds first, then over classes, then over cases.
    """
    _check_filled(task, rows[list(cell)])
    notes = []
    if "seed" in cell and not _share(rows, "seed"):
        cell = [name for name in cell if name != "seed"]
        notes.append(
            f"task {task}: its sources have no seed in common; each is averaged over its own"
        )
    cells = rows.groupby(["source", *cell], sort=False)["dice"].mean().unstack(list(cell))
    common = cells.dropna(axis=1)
    if common.empty:
        raise ValueError(
            f"results of task {task}: its sources must share a {' and a '.join(cell)} with known Dice"
        )
    if len(lost := cells.columns.difference(common.columns)):
        notes.append(_dropped(task, [c if isinstance(c, str) else " ".join(c) for c in lost], cell))
    over_seeds = common.T.groupby(level=[n for n in cell if n != "seed"], sort=False).mean()
    by_case = over_seeds.groupby(level="case", sort=False).mean()
    return {str(source): float(dice) for source, dice in by_case.mean().items()}, notes


def _dropped(task: str, lost: Sequence[str], cell: Sequence[str]) -> str:
    """A sentence on the cells that some source lacks."""
    parts = [{"class": "classes", "seed": "seeds"}[name] for name in cell[1:]]
    what = f"cases, or {' or '.join(parts)} of them," if parts else "cases"
    return (
        f"task {task}: {len(lost)} {what} lack Dice of some source and are dropped for all: "
        f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
    )


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
