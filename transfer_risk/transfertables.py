"""Tables of a study of transfers: rows, and what they come to over pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transfer_risk.studies import paired_summary

if TYPE_CHECKING:
    import pandas as pd


def write_transfer_table(
    table: pd.DataFrame,
    path: str | Path,
    *,
    paper: Mapping[str, float] | None = None,
    groups: Sequence[str] = ("iterations", "decision"),
    reference: str = "vanilla",
) -> pd.DataFrame:
    """Write the rows of a study, and beside them `<name>_summary.csv`, which is printed and returned.

    Only `regular` rows are in the summary.

    Args:
        table: Of `TransferStudy.run`.
        path: CSV of the rows.
        paper: The paper's mean gain over vanilla in Dice points by method, for a column `paper`.
        groups: Columns that divide the summary.
        reference: Recipe that the others are compared with.

    Returns:
        As `paired_summary` of Dice, with `relative`, the difference in per cent of the reference's Dice.
    """
    made = paired_summary(
        regular(table),
        groups,
        method="recipe",
        pair=["source", "target"],
        value="dice",
        reference=reference,
        beside=["recall", "precision"],
    )
    made["relative"] = 100 * made["difference"] / (made["dice"] - made["difference"])
    if paper:
        made["paper"] = made["recipe"].map(paper)
    table.to_csv(path, index=False, float_format="%.2f")
    summary = Path(path).with_name(f"{Path(path).stem}_summary.csv")
    made.to_csv(summary, index=False, float_format="%.4g")
    print(made.to_string(index=False, float_format="{:.2f}".format))
    return made


def regular(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a study without vanilla's extra stops, which match others in time."""
    others = table.loc[table["recipe"] != "vanilla", "iterations"]
    return table[table["iterations"].isin(others)]
