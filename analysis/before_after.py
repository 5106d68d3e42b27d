"""What fine-tuning does to the risk map, claim by claim of the paper's section III-E, always beside vanilla.

For pairs of source and target tissue of the embedded cohort: area above a hardness of .5, number and size of high-risk
regions, distances of high-risk voxels to the border of the source's prediction and of the target's labels, before and after
fine-tuning, on one span. Writes results/before_after.csv (one row per pair, seed, method, quantity) and
results/before_after_summary.csv (mean change over pairs with t interval). A killed run goes on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import transfer_risk as tr

METHODS = ("vanilla", "risk-map")
QUANTITIES = (
    *("dice", "transferability", "area_50", "components", "component_size"),
    *("distance_source", "distance_target"),
)
SIZES = {  # spacing in mm, cases, iterations of pretraining and of fine-tuning, pairs, seeds
    "smoke": (8.0, 6, 3, 2, 1, 1),
    "quick": (3.0, 7, 200, 100, 2, 1),
    "full": (3.0, 10, 400, 200, 6, 1),
}


def change(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fine-tune one source on one target by each method; what changed, on one span over all maps."""
    spacing, cases, pretraining, iterations, *_ = SIZES[job["size"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tr.prepare_cohorts(
            folder,
            [job["source"]],
            anatomy="tissue",
            seed=job["seed"],
            spacing=spacing,
            cases=cases,
            iterations=pretraining,
        )
        source = tr.load_source(folder / "sources" / job["source"])
        target = tr.cohort_task(folder, "target", job["target"])
        for method in METHODS:
            recipe = tr.Recipe(method=method, iterations=iterations, lr=1e-3, seed=job["seed"])
            tr.finetune(source, target, recipe, out=folder / method)
        comparison = tr.compare([tr.load_run(folder / method) for method in METHODS])
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    size = options.size or "full"
    *_, pairs, seeds = SIZES[size]
    jobs = [
        {"size": size, "source": source, "target": target, "seed": seed}
        for source, target in tr.PAIRS["tissue"][:pairs]
        for seed in range(seeds)
    ]
    table = tr.run_study(
        jobs,
        change,
        options.out / "before_after.csv",
        processes=options.processes,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    short = summary(table)
    short.to_csv(options.out / "before_after_summary.csv", index=False, float_format="%.4g")
    print(short.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
