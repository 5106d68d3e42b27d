"""Table III of the paper, few-shot: the source CSF on T1, fine-tuned with 400, 100 and 50 labelled slices of five targets.

Where a target has fewer than 400 training slices, all of them are used. Cohorts, options and results are those of table1.py:
results/table3.csv and results/table3_summary.csv.
"""

from __future__ import annotations

import transfer_risk as tr
from transfer_risk import study

SOURCE = "csf-t1"
SLICES = (400, 100, 50)


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.TRANSFER_OPTIONS)
    plan = study.transfer_study(options, "tissue")
    pairs = [(SOURCE, target) for target in study.TISSUE_TASKS if target != SOURCE]
    if options.size == "smoke":
        pairs = pairs[:1]
    plan.prepare(pairs)
    jobs = []
    for slices in SLICES:
        subset = fewer(plan, slices)
        recipes = {name: study.RECIPES[name] | subset for name in study.METHODS}
        for stops in (plan.size.stops, plan.size.long):
            jobs += plan.jobs(pairs, recipes, stops=stops, labels={"slices": slices})
    table = plan.run(jobs, "table3")
    groups = ["slices", "iterations", "decision"]
    study.write_transfer_table(table, options.out / "table3.csv", groups=groups)


def fewer(plan: study.TransferStudy, slices: int) -> dict[str, int]:
    """The option for so many slices, or none where the training cases have no more: the runs of Table I then."""
    task = study.cohort_task(
        plan.place(plan.first_seed), "target", "gm-t1"
    )  # all share their images
    every = len(tr.training_slices(task.split("train"), task))
    return {} if slices >= every else {"n_slices": slices}


if __name__ == "__main__":
    study.run_program(main)
