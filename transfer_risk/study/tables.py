"""Tables of studies: rows of transfers, and what they come to over pairs of tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer_risk.files import write_text
from transfer_risk.intervals import Estimate
from transfer_risk.significance import holm, signed_rank_p
from transfer_risk.study.sizes import PROBE_STEPS

if TYPE_CHECKING:
    import pandas as pd

LONGER = "vanilla, longer"
"""Vanilla for `PROBE_STEPS` more iterations: matched in time with a recipe that fits a probe."""
PROTOCOL = "as in the paper"
"""Either method of the paper's protocol, where it stands beside one that is trained otherwise."""
FREE = (-math.inf, math.inf)


def write_transfer_table(
    table: pd.DataFrame,
    path: str | Path,
    *,
    paper: Mapping[str, float] | None = None,
    groups: Sequence[str] = ("iterations", "decision"),
) -> pd.DataFrame:
    """Write the rows of a study, and beside them `<name>_summary.csv`, which is printed and returned.

    Only `regular` rows are in the summary.

    Args:
        table: Of `TransferStudy.run`.
        path: CSV of the rows.
        paper: The paper's mean gain over vanilla in Dice points by method, for a column `paper`.
        groups: Columns that divide the summary.

    Returns:
        As `paired_summary` of Dice, with `relative`, the difference in per cent of the reference's Dice.
    """
    made = recipe_summary(regular(table), groups)
    made["relative"] = 100 * made["difference"] / (made["dice"] - made["difference"])
    if paper:
        made["paper"] = made["recipe"].map(paper)
    write_summaries(table, path, {"": made})
    return made


def recipe_summary(
    table: pd.DataFrame, groups: Sequence[str], reference: str = "vanilla"
) -> pd.DataFrame:
    """`paired_summary` of the Dice of recipes over pairs of source and target, with intervals over targets too."""
    return paired_summary(
        table,
        groups,
        method="recipe",
        pair=["source", "target"],
        value="dice",
        reference=reference,
        beside=["recall", "precision"],
        shared="target",
    )


def write_summaries(
    table: pd.DataFrame, path: str | Path, summaries: Mapping[str, pd.DataFrame]
) -> None:
    """Write the rows of a study, and beside them each summary as `<name><end>_summary.csv` by its end; these are printed."""
    write_table(table, path, digits="%.2f")
    for end, made in summaries.items():
        summary = Path(path).with_name(f"{Path(path).stem}{end}_summary.csv")
        write_table(made, summary)
        print(f"{summary.name}:")
        print(made.to_string(index=False, float_format="{:.2f}".format))


def write_table(table: pd.DataFrame, path: str | Path, *, digits: str | None = "%.4g") -> None:
    """Write a CSV, whole or not at all; numbers have these digits, or all where there are none."""
    write_text(path, table.to_csv(index=False, float_format=digits, lineterminator="\n"))


def regular(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a study without vanilla's extra stops, which match others in time."""
    others = table.loc[table["recipe"] != "vanilla", "iterations"]
    return table[table["iterations"].isin(others)]


def with_longer(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `regime` first: anatomy, iterations and, where there are few, slices.

    Vanilla's extra stops become rows of a recipe `LONGER` of the stop that they match in time.
    """
    import pandas as pd

    own = regular(table)
    later = table.drop(own.index)
    later = later.assign(recipe=LONGER, iterations=later["iterations"] - PROBE_STEPS)
    made = pd.concat([own, later], ignore_index=True)
    words = made["anatomy"] + ", " + made["iterations"].astype(str) + " iterations"
    few = words + ", " + made["slices"].astype(str) + " slices"
    made.insert(0, "regime", words.where(made["slices"] == 0, few))
    return made


def over_pairs(
    values: pd.Series[float], *, shared: str = "target", bounds: tuple[float, float] | None = None
) -> tuple[Estimate, Estimate]:
    """Mean over pairs, and that over targets, of whose pairs the mean is taken first; NaN counts in neither.

    Pairs that share a target are alike, and the interval over pairs is too narrow then: that over targets stands beside it.

    Args:
        values: One for each pair.
        shared: Level of its index that holds the targets.
        bounds: Least and largest possible value, where intervals end; none where not given.
    """
    both = (values, values.groupby(level=shared).mean())
    pairs, targets = (Estimate.mean(v.to_numpy(), bounds=bounds or FREE) for v in both)
    return pairs, targets


def ends(estimate: Estimate, before: str = "", after: str = "") -> dict[str, float]:
    """The 95 % interval of an estimate for a row of a table: `low` and `high`, with something before and after.

    >>> {name: round(value, 1) for name, value in ends(Estimate.mean([1.0, 2.0, 3.0]), after="_shared").items()}
    {'low_shared': -0.5, 'high_shared': 4.5}
    """
    names = (f"{before}{end}{after}" for end in ("low", "high"))
    return dict(zip(names, estimate.interval(), strict=True))


def paired_summary(
    table: pd.DataFrame,
    groups: Sequence[str],
    *,
    method: str,
    pair: Sequence[str],
    value: str,
    reference: str,
    beside: Sequence[str] = (),
    shared: str = "",
) -> pd.DataFrame:
    """By group and method: the mean value over pairs and the paired difference to a reference method, with tests.

    Rows of one pair and method (seeds) are averaged first: pairs, not runs, are the units.

    Args:
        table: One row per run.
        groups: Columns that divide the table.
        method: Column of what is compared.
        pair: Columns that tell the units apart.
        value: Column that is compared.
        reference: Method that the others are compared with.
        beside: Columns whose means are given too.
        shared: One of `pair`, such as target: the units of a second interval, as for `over_pairs`.

    Returns:
        Columns of `groups`, `method`, `value` and `beside`, then difference, low, high (95 % t interval), p (t test) and
        pairs; better (pairs with a positive difference), median and worst of the differences, p_signed_rank (Wilcoxon)
        and p_holm (the same, corrected for the methods of the group); with `shared` low_shared, high_shared and units.
    """
    import pandas as pd

    means = table.groupby([*groups, method, *pair], sort=False)[[value, *beside]].mean()
    rows = []
    for names, block in means.groupby(level=list(groups), sort=False):
        wide = block[value].unstack(method)
        others: list[dict[str, Any]] = []
        for name in dict.fromkeys(block.index.get_level_values(method)):
            gains = wide[name] - wide[reference]
            difference, units = over_pairs(gains, shared=shared or pair[0])
            row = dict(zip(groups, names, strict=True)) | {method: name}
            row |= block.xs(name, level=method)[[value, *beside]].mean().to_dict()
            row |= {"difference": difference.value} | ends(difference)
            row |= {"p": difference.p_value, "pairs": difference.cases}
            row |= {
                "better": int((gains > 0).sum()),
                "median": gains.median(),
                "worst": gains.min(),
            }
            row |= {"p_signed_rank": signed_rank_p(gains.to_numpy()), "p_holm": math.nan}
            if shared:
                row |= ends(units, after="_shared") | {"units": units.cases}
            rows.append(row)
            if name != reference:
                others.append(rows[-1])
        for row, p in zip(others, holm([r["p_signed_rank"] for r in others]), strict=True):
            row["p_holm"] = p
    return pd.DataFrame(rows)
