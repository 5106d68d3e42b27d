"""Is it the decision? The recipe, vanilla and a model from scratch, each with its decision tuned.

Much of what one loss has over another is where it puts the threshold, which tuned offsets of the log-probabilities move
for free. Offsets are tuned on the training cases of each run. The subjects are those of `recipes.py --seed 12`, with
the same frozen encoder and order of the data, all 30 pairs of each cohort. Beside the recipe stand vanilla,
also with 30 iterations more (about what a probe head costs), CE + Dice, the same after a probe head (the recipe without
its weights), the recipe itself and CE + Dice with nothing frozen, and two models from scratch (nothing frozen; plain
cross-entropy, and CE + Dice) for each target, which its five pairs share; after 50 iterations vanilla, CE + Dice, the
recipe and scratch alone. Writes results/tuned.csv (one row per pair, recipe, number of iterations and decision), and
paired differences of the same decision to each reference: vanilla matched in time (results/tuned_summary.csv), vanilla
of as many iterations (tuned_plain_summary.csv), CE + Dice (tuned_dice_), the probe head with CE + Dice (tuned_probe_),
the recipe itself (tuned_recipe_), CE + Dice with nothing frozen (tuned_unfrozen_) and the models from
scratch (tuned_scratch_, tuned_scratch_dice_). A killed run goes on.

To tune decisions and to freeze nothing was decided after these subjects had been seen. With another `--seed` that is
measured on others: vanilla and the recipe, vanilla and CE + Dice with nothing frozen, and both models from scratch,
after 50 iterations too, in results/tuned_confirmed*.csv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from transfer_risk import study

REFERENCES = {
    "": study.LONGER,
    "_plain": "vanilla",
    "_dice": study.DICE,
    "_probe": study.UNWEIGHTED,
    "_recipe": study.PROBED_DICE,
    "_unfrozen": study.DICE_UNFROZEN,
    "_scratch": "scratch",
    "_scratch_dice": study.SCRATCH_DICE,
}
"""What the recipes are compared with, by the end of the summary's name."""
CONFIRMING = {
    "": study.LONGER,
    "_plain": "vanilla",
    "_recipe": study.PROBED_DICE,
    "_unfrozen": study.VANILLA_UNFROZEN,
    "_scratch": "scratch",
    "_scratch_dice": study.SCRATCH_DICE,
}
"""The same where what was decided after these is measured."""
SEED = {
    "type": int,
    "help": f"Of the subjects and of the training; {study.SECOND} where not given.",
}


def main() -> None:
    """Run at the asked size, print and write the tables."""
    further = {**study.DATA_OPTIONS, "--seed": SEED}
    options = study.job_options(__doc__, further, seeds=(None, study.SECOND, study.THIRD))
    name, jobs, references = "tuned_confirmed", confirming, CONFIRMING
    if options.seed in (None, study.SECOND):
        name, jobs, references = "tuned", jobs_of, REFERENCES
        options.seed = None if options.data else study.SECOND
    parts = [rows_of(plan, jobs(plan), name) for plan in study.transfer_studies(options)]
    table = study.with_longer(pd.concat(parts, ignore_index=True))
    summaries = {end: summary_of(table, reference) for end, reference in references.items()}
    study.write_summaries(table, options.out / f"{name}.csv", summaries)


def summary_of(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences to a recipe, by decision, in the regimes that it was trained in."""
    trained = table.loc[table["recipe"] == reference, "regime"]
    own = table[table["regime"].isin(trained)]
    return study.recipe_summary(own, ["regime", "decision"], reference)


def rows_of(plan: study.TransferStudy, jobs: list[dict[str, Any]], name: str) -> pd.DataFrame:
    """Rows of one cohort; those from scratch stand beside each pair of their target."""
    plan.prepare(plan.pairs)
    table = plan.run(jobs, f"{name}-{plan.cohort}")
    pairs = pd.DataFrame(plan.pairs, columns=["source", "target"])
    scratch = table["recipe"].isin(study.FRESH)
    shared = table[scratch].drop(columns="source").merge(pairs, on="target")
    return pd.concat([table[~scratch], shared[table.columns]], ignore_index=True)


def jobs_of(plan: study.TransferStudy) -> list[dict[str, Any]]:
    """Each recipe and each target from scratch; at the first stop the confirmed recipes and scratch alone."""
    confirmed = {name: study.RECIPES[name] for name in study.CONFIRMED}
    brief, long = stops_of(plan)
    jobs = every(plan, confirmed, brief)
    return jobs + every(plan, confirmed | study.SIMPLER | study.UNFROZEN, long)


def confirming(plan: study.TransferStudy) -> list[dict[str, Any]]:
    """What was decided after those, on other subjects."""
    return [job for stops in stops_of(plan) for job in every(plan, study.RECOMMENDED, stops)]


def stops_of(plan: study.TransferStudy) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The first stop, of runs of their own; and the last and the long one, of one run."""
    return plan.size.stops[:1], plan.ends


def every(
    plan: study.TransferStudy, recipes: Mapping[str, Mapping[str, Any]], stops: Sequence[int]
) -> list[dict[str, Any]]:
    """Recipes on all pairs, and each target from scratch; decisions tuned at every stop."""
    common: dict[str, Any] = {"labels": {"slices": 0}, "stops": stops, "tuned": "every"}
    jobs: list[dict[str, Any]] = plan.jobs(plan.pairs, recipes, **common)
    jobs += plan.jobs(plan.fresh, study.FRESH, **common)
    return jobs


if __name__ == "__main__":
    study.run_program(main)
