"""Tables that users have: CSV files read with what is unknown, and checked rows of tasks and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "Sequence[Mapping[str, Any]] | pd.DataFrame"
KEYS = ("task", "source")
UNKNOWN = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None")
"""Numbers that a table does not know; a task, source, case or class may have such a name."""


def read_table(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a CSV file, such as the Dice that fine-tuning reached; what is unknown is NaN.

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


def checked_frame(
    what: str, table: Table, columns: Sequence[str], unique: Sequence[str]
) -> pd.DataFrame:
    """The table as a data frame of its own, with task and source as text.

    Args:
        what: Its name, for messages.
        table: Left as it is.
        columns: That must be there, task and source among them.
        unique: Those in which all rows differ.

    Raises:
        ValueError: if a column is missing, task or source is empty, or rows repeat.
    """
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
