"""From the CSVs of studies to figures: the command line of a program that draws, and files that are checked first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transfer_risk.plotting import save_figure
from transfer_risk.study.programs import program_options, tell

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

DPI = 200


def read_results(path: str | Path, columns: Sequence[str], *, program: str) -> pd.DataFrame:
    """Rows of a study.

    Args:
        path: CSV.
        columns: That it must have; others may stand beside them.
        program: Which writes it, as typed after `python`.

    Raises:
        ValueError: if there is no such file, or it is no CSV with these columns and at least one row.
    """
    import pandas as pd

    if not Path(path).is_file():
        raise ValueError(f"{path}: is not there; python {program} writes it")
    try:
        table = pd.read_csv(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path}: is no CSV ({error}); python {program} writes it") from error
    missing = [name for name in columns if name not in table]
    if missing or table.empty:
        lack = f"the columns {', '.join(missing)}" if missing else "at least one row"
        found = ", ".join(table) if missing else "none"
        raise ValueError(f"{path}: must have {lack}; got {found}; python {program} writes it again")
    return table


def draw_results(
    description: str | None,
    draw: Callable[[dict[str, pd.DataFrame]], Figure],
    *,
    name: str,
    needs: Mapping[str, tuple[str, Sequence[str]]],
    example: Callable[[], dict[str, pd.DataFrame]],
    every: bool = True,
) -> None:
    """The command line of a program that draws results: `<name>.png`, or one sentence on stderr and exit code 1.

    Args:
        description: The program's docstring.
        draw: From tables by file name to the figure.
        name: Of the PNG.
        needs: Program that writes it, and columns, by file name.
        example: Tables of the same columns that are drawn with `--smoke`.
        every: Whether all files must be there; otherwise one is enough, and what is not there is said.
    """
    beside = Path(sys.argv[0]).resolve().parents[1] / "analysis" / "results"
    folder = {"type": Path, "default": beside, "help": "Folder of the CSVs."}
    options = program_options(
        description, {"--results": folder}, out=".", published=("full", "quick")
    )
    try:
        tables = example() if options.size == "smoke" else _tables(options.results, needs, every)
        save_figure(draw(tables), options.out / f"{name}.png", dpi=DPI)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _tables(
    folder: Path, needs: Mapping[str, tuple[str, Sequence[str]]], every: bool
) -> dict[str, pd.DataFrame]:
    there = [name for name in needs if (folder / name).is_file()]
    wanted = there if there and not every else list(needs)
    for name in needs.keys() - set(wanted):
        tell(f"{folder / name}: is not there and left out; python {needs[name][0]} writes it")
    return {n: read_results(folder / n, needs[n][1], program=needs[n][0]) for n in wanted}
