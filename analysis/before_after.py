"""What fine-tuning does to the risk map, claim by claim of the paper's section III-E, always beside vanilla.

For every third of the 30 ordered pairs of the six tissue tasks (as table1.py): area above a hardness of .5, number and size
of high-risk regions, distances of high-risk voxels to the border of the source's prediction and of the target's labels,
before and after fine-tuning, on one span. Writes results/before_after.csv (one row per pair, seed, method, quantity) and
results/before_after_summary.csv (mean change over pairs with t interval). A killed run goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

import transfer_risk as tr

METHODS = ("vanilla", "risk-map")
QUANTITIES = (
    *("dice", "transferability", "area_50", "components", "component_size"),
    *("distance_source", "distance_target"),
)


def change(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fine-tune one source on one target by each method; what changed, on one span over all maps."""
    place = Path(job["folder"])
    source = tr.load_source(place / "sources" / job["source"])
    target = tr.cohort_task(place, "target", job["target"])
    with tempfile.TemporaryDirectory() as name:
        for method in METHODS:
            recipe = tr.Recipe(
                method=method, iterations=job["iterations"], lr=job["lr"], seed=job["seed"]
            )
            tr.finetune(source, target, recipe, out=Path(name) / method)
        comparison = tr.compare([tr.load_run(Path(name) / method) for method in METHODS])
    return [
        {
            "method": c.run,
            "quantity": c.quantity,
            "before": c.before.value,
            "after": c.after.value,
            "change": c.difference.value,
        }
        for c in comparison.changes
        if c.quantity in QUANTITIES
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean before, after and change over pairs (means over seeds), with a t interval of the change."""
    pairs = table.groupby(["quantity", "method", "source", "target"], sort=False)
    means = pairs[["before", "after", "change"]].mean()
    rows = []
    for (quantity, method), block in means.groupby(level=[0, 1], sort=False):
        estimate = tr.Estimate.mean(block["change"].to_numpy())
        low, high = estimate.interval()
        row = {"quantity": quantity, "method": method}
        row |= {k: block[k].mean() for k in ("before", "after", "change")}
        rows.append(row | {"low": low, "high": high, "pairs": estimate.cases})
    return pd.DataFrame(rows)


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = tr.study_options(__doc__, tr.TRANSFER_OPTIONS)
    study = tr.transfer_study(options, "tissue")
    tasks = tr.TISSUE_TASKS[:2] if options.size == "smoke" else tr.TISSUE_TASKS
    study.prepare(tasks)
    pairs = list(permutations(tasks, 2))[:: {"smoke": 2, "quick": 6}.get(options.size, 3)]
    common = {"size": options.size, "iterations": study.size.stops[-1], "lr": study.size.lr}
    jobs = [
        {"source": source, "target": target, "seed": seed}
        | common
        | {"folder": str(study.place(seed))}
        for source, target in pairs
        for seed in study.seeds
    ]
    table = tr.run_study(
        jobs,
        change,
        study.folder / "before_after.csv",
        processes=study.processes,
        progress=study.progress,
    ).drop(columns="folder")
    table.to_csv(options.out / "before_after.csv", index=False, float_format="%.6g")
    short = summary(table)
    short.to_csv(options.out / "before_after_summary.csv", index=False, float_format="%.4g")
    print(short.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    tr.run_program(main)
