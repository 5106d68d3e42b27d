"""The paper's schedule of learning on six pairs: Adam at lr 1e-4 for 5,000 iterations, measured on the way.

The other studies take fewer steps at lr 1e-3, ten times the paper's; this one asks whether that changes what they say.
Three pairs of the tissue and three of the partition tasks at the size of the other studies: vanilla, the paper's
risk map and `probe + adaptive-risk`. Writes results/schedule.csv (one row per pair, seed, method, iterations
and decision) and results/schedule_summary.csv (paired differences to vanilla). A killed run goes on.
"""

from __future__ import annotations

import pandas as pd

import transfer_risk as tr

NAMES = ("vanilla", "risk-map", "probe + adaptive-risk")
RECIPES = {name: tr.RECIPES[name] | {"lr": 1e-4} for name in NAMES}
STOPS = (200, 1_000, 2_000, 5_000)


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = tr.study_options(__doc__, {"--seeds": tr.TRANSFER_OPTIONS["--seeds"]})
    parts = [rows_of(tr.transfer_study(options, a), options.size) for a in tr.TASKS]
    table = pd.concat(parts, ignore_index=True)
    groups = ["anatomy", "iterations", "decision"]
    tr.write_transfer_table(table, options.out / "schedule.csv", groups=groups)


def rows_of(study: tr.TransferStudy, size: str) -> pd.DataFrame:
    """Rows of the pairs of one cohort."""
    pairs = tr.PAIRS[study.anatomy][: 1 if size == "smoke" else 3]
    study.prepare(sorted({source for source, _ in pairs}))
    stops = STOPS if size == "full" else study.size.stops
    return study.run(study.jobs(pairs, RECIPES, stops=stops), f"schedule-{study.anatomy}")


if __name__ == "__main__":
    tr.run_program(main)
