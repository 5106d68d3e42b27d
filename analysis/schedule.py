"""The paper's schedule of learning on six pairs: Adam at lr 1e-4 for 5,000 iterations, measured on the way.

The other studies take fewer steps at lr 1e-3, ten times the paper's; this one asks whether that changes what they say.
Three pairs of the tissue and three of the partition tasks at the size of the other studies: vanilla, the paper's
risk map and `probe + adaptive-risk`. Writes results/schedule.csv (one row per pair, seed, method, iterations
and decision) and results/schedule_summary.csv (paired differences to vanilla). A killed run goes on.
"""

from __future__ import annotations

import pandas as pd

from transfer_risk import study

NAMES = ("vanilla", "risk-map", study.PROBED)
RECIPES = {name: study.RECIPES[name] | {"lr": 1e-4} for name in NAMES}
STOPS = (200, 1_000, 2_000, 5_000)


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.DATA_OPTIONS)
    parts = [rows_of(plan, options.size) for plan in study.transfer_studies(options)]
    table = pd.concat(parts, ignore_index=True)
    groups = ["anatomy", "iterations", "decision"]
    study.write_transfer_table(table, options.out / "schedule.csv", groups=groups)


def rows_of(plan: study.TransferStudy, size: str) -> pd.DataFrame:
    """Rows of the pairs of one cohort."""
    pairs = study.PAIRS[plan.anatomy][: 1 if size == "smoke" else 3]
    plan.prepare(pairs)
    stops = STOPS if size == "full" else plan.size.stops
    return plan.run(plan.jobs(pairs, RECIPES, stops=stops), f"schedule-{plan.cohort}")


if __name__ == "__main__":
    study.run_program(main)
