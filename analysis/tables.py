"""Write the result tables of README.md and docs/*.md again, from results/*.csv; `--check` says which are out of date.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is one of the functions of this file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.S)


def interval_coverage() -> str:
    """Coverage by number of cases, method and spread of lesion size."""
    table = pd.read_csv(RESULTS / "interval_coverage.csv")
    methods = list(dict.fromkeys(table["method"]))
    header = ["spread of log size", "cases", *methods]
    rows = []
    for (sigma, cases), block in table.groupby(["sigma", "cases"]):
        own = block.set_index("method")
        cells = [
            f"{100 * own.coverage[m]:.1f} [{100 * own.coverage_low[m]:.1f}, {100 * own.coverage_high[m]:.1f}]"
            for m in methods
        ]
        rows.append([f"{sigma:g}", str(cases), *cells])
    return markdown(header, rows)


def compare_methods() -> str:
    """Dice, recall and precision, and the paired difference to vanilla, by anatomy, decision and method."""
    table = pd.read_csv(RESULTS / "compare_methods_summary.csv")
    header = ["cohort", "decision", "method", "Dice", "recall", "precision"]
    header.append("difference to vanilla [95 %]")
    rows = [
        [
            *(r.anatomy, r.decision, f"`{r.method}`"),
            *(f"{v:.1f}" for v in (r.dice, r.recall, r.precision)),
            _difference(r.difference, r.low, r.high, own=r.method),
        ]
        for r in table.itertuples()
    ]
    return markdown(header, rows)


def before_after() -> str:
    """What fine-tuning changes in the risk map, by method."""
    table = pd.read_csv(RESULTS / "before_after_summary.csv")
    header = ["quantity", "method", "before", "after", "change [95 % over pairs]"]
    rows = [
        [
            *(r.quantity, f"`{r.method}`", f"{r.before:.3g}", f"{r.after:.3g}"),
            f"{r.change:+.3g} [{r.low:+.3g}, {r.high:+.3g}]",
        ]
        for r in table.itertuples()
    ]
    return markdown(header, rows)


def benchmark_training() -> str:
    """Speed of fine-tuning against the plain loop."""
    table = pd.read_csv(RESULTS / "benchmark_training.csv")
    header = ["width", "plain fp32, s per step", "fp32", "bf16", "outside the arithmetic"]
    rows = [
        [
            *(str(r.width), f"{r.plain_s:.3f}", f"{r.fp32_ratio:.2f}x", f"{r.bf16_ratio:.2f}x"),
            f"{100 * r.overhead_share:.1f} %",
        ]
        for r in table.itertuples()
    ]
    return markdown(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (interval_coverage, compare_methods, before_after, benchmark_training)
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _difference(value: float, low: float, high: float, *, own: str) -> str:
    return "-" if own == "vanilla" else f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def rewritten(text: str) -> str:
    """The text with its tables as the results are now."""
    return MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text)


def main() -> None:
    """Write, or check, every document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Exit with 1 where a table differs.")
    options = parser.parse_args()
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        old = path.read_text(encoding="utf-8")
        new = rewritten(old)
        if new != old:
            stale.append(path.relative_to(ROOT))
            if not options.check:
                path.write_text(new, encoding="utf-8")
    print(", ".join(map(str, stale)) or "every table is up to date")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
