"""Table I of the paper: five methods on all 30 ordered pairs of six tissue tasks (CSF, GM, WM on T1 and on T2).

On the embedded cohort, where source and target are other pseudo-subjects on another scanner, or with `--data` on the folder
of iSeg-2019, where the six tasks share their subjects as in the paper. Frozen encoder, Adam, the same order of the data for
every method. Writes results/table1.csv (one row per pair, seed, method, number of iterations and decision) and
results/table1_summary.csv (paired differences to vanilla over pairs, in points and relative, beside the paper's). A killed
run goes on.
"""

from __future__ import annotations

from transfer_risk import study

PAPER = {"class-weight": 0.40, "trs-map": 0.11, "risk-map": 1.59}
"""Mean gain over vanilla in Dice points, recomputed from the cells of the paper's Table I."""


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.TRANSFER_OPTIONS)
    plan = study.transfer_study(options, "tissue")
    plan.prepare(plan.pairs)
    recipes = {name: study.RECIPES[name] for name in study.METHODS}
    jobs = plan.jobs(plan.pairs, recipes)
    jobs += plan.jobs(plan.pairs, recipes, stops=plan.size.long)
    table = plan.run(jobs, "table1")
    study.write_transfer_table(table, options.out / "table1.csv", paper=PAPER)


if __name__ == "__main__":
    study.run_program(main)
