"""Table III of the paper, few-shot: the source CSF on T1, fine-tuned with 400, 100 and 50 labelled slices of five targets.

Where a target has fewer than 400 training slices, all of them are used. Cohorts, options and results are those of table1.py:
results/table3.csv and results/table3_summary.csv.
"""

from __future__ import annotations

import transfer_risk as tr

SOURCE = "csf-t1"
SLICES = (400, 100, 50)


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = tr.study_options(__doc__, tr.TRANSFER_OPTIONS)
    study = tr.transfer_study(options, "tissue")
    study.prepare([SOURCE])
    pairs = [(SOURCE, target) for target in tr.TISSUE_TASKS if target != SOURCE]
    if options.size == "smoke":
        pairs = pairs[:1]
    jobs = []
    for slices in SLICES:
        subset = {"n_slices": fewer(study, slices)}
        recipes = {name: tr.RECIPES[name] | subset for name in tr.METHODS}
        jobs += study.jobs(pairs, recipes, labels={"slices": slices})
    table = study.run(jobs, "table3")
    groups = ["slices", "iterations", "decision"]
    tr.write_transfer_table(table, options.out / "table3.csv", groups=groups)


def fewer(study: tr.TransferStudy, slices: int) -> int:
    """The number of slices, or 0 (all) where the training cases have no more."""
    task = tr.cohort_task(
        study.place(study.first_seed), "target", "gm-t1"
    )  # all share their images
    return 0 if slices >= len(tr.training_slices(task.split("train"), task)) else slices


if __name__ == "__main__":
    tr.run_program(main)
