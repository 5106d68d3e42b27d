"""Does the risk map show where negative transfer happens: worse than a model trained from scratch, voxel by voxel?

For all pairs of tissue tasks and of institutions' tumour tasks of the embedded cohort: fine-tuned models (vanilla and
risk-map) against one trained from scratch on the same cases for as many iterations, on the test cases. A voxel is lost where
the fine-tuned model is wrong and the other right. The transfers are those of the other studies of the same folder and size:
what is there is not trained again. Writes results/negative_transfer.csv (one row per pair, seed, recipe and
scope: shares, AUROC of -T and of nearness to the border, Dice), negative_transfer_deciles.csv (share of lost voxels by tenth
of hardness) and negative_transfer_summary.csv (means over pairs, t intervals). A killed run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import transfer_risk as tr
from transfer_risk import study

UNITS = ("anatomy", "recipe", "scope")
BESIDE = (
    *("lost", "gained", "wrong", "auroc_wrong", "auroc_gained", "auroc_lost_gained"),
    *("auroc_matched", "auroc_boundary", "dice", "dice_scratch", "dice_difference"),
)
BOUNDS = dict.fromkeys(("auroc", "auroc_matched"), (0.0, 1.0))
"""Where intervals of these end."""


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.TRANSFER_OPTIONS)
    jobs = [job for plan in study.transfer_studies(options) for job in jobs_of(plan)]
    rows = study.run_jobs(
        jobs,
        measured,
        options.work / f"negative_transfer_rows{'-real' if options.data else ''}.csv",
        processes=options.processes,
        progress=study.tell,
    ).drop(columns=["folder", "student", "scratch"])
    deciles = [name for name in rows if name.startswith("decile_")]
    table = rows.drop(columns=deciles)
    short = summary(table)
    for name, made, digits in (
        ("negative_transfer", table, "%.5g"),
        ("negative_transfer_deciles", by_decile(rows, deciles), "%.5g"),
        ("negative_transfer_summary", short, "%.4g"),
    ):
        study.write_table(made, options.out / f"{name}.csv", digits=digits)
    print(short.to_string(index=False, float_format="{:.3g}".format))


def jobs_of(plan: study.TransferStudy) -> list[dict[str, Any]]:
    """What is to be measured on one cohort, after its models were trained where they are not there yet."""
    plan.prepare(plan.pairs)
    tuned = plan.jobs(plan.pairs, study.BOTH)
    scratch = plan.jobs(plan.fresh, study.SCRATCH)
    plan.run([*scratch, *tuned], f"negative_transfer-{plan.cohort}")
    references = {(job["target"], job["seed"]): str(study.model_path(job)) for job in scratch}
    return [
        {name: job[name] for name in ("anatomy", "seed", "recipe", "source", "target", "folder")}
        | {"iterations": plan.size.stops[-1], "student": str(study.model_path(job))}
        | {"scratch": references[job["target"], job["seed"]]}
        for job in tuned
    ]


def measured(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per scope; Dice in per cent is that of the whole task in each of them."""
    task, source = study.tasks_of(job)
    found = tr.negative_transfer(
        source,
        task,
        student=tr.load_source(job["student"]),
        scratch=tr.load_source(job["scratch"]),
    )
    low, high = found.difference.interval()
    dice = {
        "cases": found.difference.cases,
        "dice": 100 * found.student.value,
        "dice_scratch": 100 * found.scratch.value,
        "dice_difference": 100 * found.difference.value,
        "difference_low": 100 * low,
        "difference_high": 100 * high,
    }
    return [row | dice for row in found.rows()]


def by_decile(rows: pd.DataFrame, deciles: Sequence[str]) -> pd.DataFrame:
    """Share of lost voxels in each tenth of the voxels of a scope, 10 = riskiest; one row each."""
    keys = ["anatomy", "seed", "recipe", "source", "target", "scope"]
    three = rows[rows["scope"].isin(["all", "background", "foreground"])][[*keys, *deciles]]
    long = three.melt(keys, list(deciles), "decile", "lost", ignore_index=False)
    long["decile"] = long["decile"].str.removeprefix("decile_").astype(int)
    return long.sort_index(kind="stable")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over pairs, seeds averaged first, with t intervals of the AUROC, of how far above nearness it is, and of Dice.

    A pair without a lost voxel has no AUROC and does not count there; `pairs` is the number that have one. Pairs of one
    target share the model from scratch: intervals that end in `shared` are over targets, their pairs averaged. `below` is
    the number of pairs in which fine-tuning ended below it.
    """
    table = table.assign(auroc_above_boundary=table["auroc"] - table["auroc_boundary"])
    with_interval = ("auroc", "auroc_matched", "auroc_above_boundary", "dice_difference")
    numbers = [*dict.fromkeys(("auroc", *BESIDE, *with_interval))]
    means = table.groupby([*UNITS, "source", "target"], sort=False)[numbers].mean()
    result = []
    for names, block in means.groupby(level=list(UNITS), sort=False):
        estimates = {n: study.over_pairs(block[n], bounds=BOUNDS.get(n)) for n in numbers}
        auroc, _ = estimates["auroc"]
        row = dict(zip(UNITS, names, strict=True)) | {"auroc": auroc.value}
        row |= study.ends(auroc) | {"pairs": auroc.cases}
        for name in numbers[1:]:
            own, _ = estimates[name]
            row |= own.columns(name) if name in with_interval else {name: own.value}
        for name in with_interval:
            row |= study.ends(estimates[name][1], f"{name}_", "_shared")
        gains = block["dice_difference"]
        row |= {"dice_difference_median": gains.median(), "below": int((gains < 0).sum())}
        result.append(row)
    return pd.DataFrame(result)


if __name__ == "__main__":
    study.run_program(main)
