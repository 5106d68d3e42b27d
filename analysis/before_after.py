"""What fine-tuning does to the risk map, claim by claim of the paper's section III-E, always beside vanilla.

For all ordered pairs of tissue tasks and of institutions' tumour tasks: area above a hardness of .5, number and size of
high-risk regions, distances of high-risk voxels to the border of the source's prediction and of the target's labels, before
and after fine-tuning, on the test cases and on one span per pair. The transfers are those of the other studies of the same
folder and size: what is there is not trained again. Writes results/before_after.csv (one row per pair, seed, recipe,
quantity) and results/before_after_summary.csv (means over pairs with t intervals, and intervals over targets). A killed run
goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

import transfer_risk as tr
from transfer_risk import study

QUANTITIES = (
    *("dice", "transferability", "area_50", "components", "component_size"),
    *("distance_source", "distance_target"),
)
TABLE = ["anatomy", "source", "target", "seed", "recipe", "quantity"]


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.TRANSFER_OPTIONS)
    jobs = [job for plan in study.transfer_studies(options) for job in jobs_of(plan)]
    path = options.work / f"before_after_rows{'-real' if options.data else ''}.csv"
    rows = study.run_jobs(jobs, changed, path, processes=options.processes, progress=study.tell)
    table = rows[[*TABLE, "before", "after", "change"]]
    study.write_table(table, options.out / "before_after.csv", digits="%.6g")
    short = summary(table)
    study.write_table(short, options.out / "before_after_summary.csv")
    print(short.to_string(index=False, float_format="{:.4g}".format))


def jobs_of(plan: study.TransferStudy) -> list[dict[str, Any]]:
    """One job per pair and seed, after its models were trained where they are not there yet."""
    plan.prepare(plan.pairs)
    made = plan.jobs(plan.pairs, study.BOTH)
    plan.run(made, f"before_after-{plan.cohort}")
    jobs: dict[tuple[Any, ...], dict[str, Any]] = {}
    for job in made:
        shared = {name: job[name] for name in ("anatomy", "source", "target", "seed", "folder")}
        jobs.setdefault(tuple(shared.values()), shared)[job["recipe"]] = str(study.model_path(job))
    return list(jobs.values())


def changed(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each recipe changed for one pair, on one span over all maps; means over test cases."""
    task, source = study.tasks_of(job)
    students = {name: tr.load_source(job[name]) for name in study.BOTH}
    changes = tr.map_changes(source, task, students)
    return [
        {
            "recipe": c.run,
            "quantity": c.quantity,
            "before": c.before.value,
            "after": c.after.value,
            "change": c.difference.value,
        }
        for c in changes
        if c.quantity in QUANTITIES
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pairs (of means over seeds), with t intervals of the change and of its difference to vanilla's.

    Those that end in `shared` are over targets, their pairs averaged.
    """
    groups = ["anatomy", "quantity", "recipe", "source", "target"]
    means = table.groupby(groups, sort=False)[["before", "after", "change"]].mean()
    means = means.where(means["change"].notna())  # all three of the same pairs
    rows = []
    for (anatomy, quantity, recipe), block in means.groupby(level=[0, 1, 2], sort=False):
        row = {"anatomy": anatomy, "quantity": quantity, "recipe": recipe}
        row |= {name: block[name].mean() for name in ("before", "after")}
        vanilla = means.xs((anatomy, quantity, "vanilla"), level=[0, 1, 2])["change"]
        own = block["change"].droplevel([0, 1, 2])
        for name, values in (("change", own), ("against_vanilla", own - vanilla)):
            mean, units = study.over_pairs(values)
            row |= mean.columns(name) | study.ends(units, f"{name}_", "_shared")
        rows.append(row | {"pairs": int(own.notna().sum())})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    study.run_program(main)
