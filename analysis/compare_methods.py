"""Fine-tuning methods against vanilla on pairs of source and target of the embedded cohort, tissue and tumour, three seeds.

Sources come from other pseudo-subjects and another scanner than the target. Every method has the same frozen encoder,
data order, learning rate and iterations; each model is measured with its argmax and with a decision tuned on the training
cases. Writes results/compare_methods.csv (one row per pair, seed, method, iterations and decision) and
results/compare_methods_summary.csv (paired differences to vanilla over pairs, with t intervals). A killed run goes on.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from transfer_risk import study

SEEDS = {"smoke": 1, "quick": 1, "full": 3}


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__)
    parts = [
        rows_of(study.transfer_study(options, anatomy), options.size)
        for anatomy in ("tissue", "tumour")
    ]
    study.write_transfer_table(
        pd.concat(parts, ignore_index=True),
        options.out / "compare_methods.csv",
        groups=["anatomy", "iterations", "decision"],
    )


def rows_of(plan: study.TransferStudy, size: str) -> pd.DataFrame:
    """Rows of one anatomy, measured after the last iteration alone."""
    seeds = replace(plan.size, seeds=SEEDS[size], stops=plan.size.stops[-1:])
    own = replace(plan, first_seed=0, size=seeds)
    pairs = study.PAIRS[plan.anatomy][: {"smoke": 1, "quick": 2}.get(size)]
    own.prepare(pairs)
    recipes = {name: study.RECIPES[name] for name in study.METHODS}
    return own.run(own.jobs(pairs, recipes), f"compare_methods-{plan.anatomy}")


if __name__ == "__main__":
    study.run_program(main)
