"""Table II of the paper: five methods on all 30 ordered pairs of six tumour tasks (institution and modality).

On the embedded cohort (institutions 13, 14, 17 and 18 differ in subjects, scanner, noise and resolution; the tasks of 14
share its subjects), or with `--data` and `--partitions` on the folder of FeTS 2021 with the paper's partitioning_2.csv.
Frozen encoder, Adam, the same order of the data for every method; the risk map also with a bounded divisor.
Writes results/table2.csv (one row per pair, seed, method, number of iterations and decision) and results/table2_summary.csv
(paired differences to vanilla over pairs, in points and relative, beside the paper's). A killed run goes on.
"""

from __future__ import annotations

from transfer_risk import study

PAPER = {"class-weight": 0.33, "trs-map": 0.21, "risk-map": 1.89}
"""Mean gain over vanilla in Dice points, recomputed from the cells of the paper's Table II."""

BOUNDED = {"risk-map, min_foreground .05": study.RECIPES["risk-map"] | {"min_foreground": 0.05}}
"""The divisor kept from falling to a handful of pixels; its argmax alone."""


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.TRANSFER_OPTIONS)
    plan = study.transfer_study(options, "partitions")
    plan.prepare(plan.pairs)
    recipes = {name: study.RECIPES[name] for name in study.METHODS}
    jobs = []
    for stops in (plan.size.stops, plan.size.long):
        jobs += plan.jobs(plan.pairs, recipes, stops=stops)
        jobs += plan.jobs(plan.pairs, BOUNDED, stops=stops, tuned="none")
    table = plan.run(jobs, "table2")
    study.write_transfer_table(table, options.out / "table2.csv", paper=PAPER)


if __name__ == "__main__":
    study.run_program(main)
