"""Is it the decision? The recommended recipe, vanilla and a model from scratch, each with its decision tuned.

Much of what one loss has over another is where it puts the threshold, which tuned offsets of the log-probabilities move
for free. Offsets are tuned on the training cases of each run. The subjects are those of `recipes.py --seed 12`, with
the same frozen encoder and order of the data, all 30 pairs of each cohort. Beside the recommended recipe stand vanilla,
also with 30 iterations more (about what a probe head costs), CE + Dice, the same after a probe head (the recipe without
its weights), and one model from scratch (nothing frozen) for each target, which its five pairs share. Writes
results/tuned.csv (one row per pair, recipe, number of iterations and decision), and paired differences of the same
decision to each reference: vanilla matched in time (results/tuned_summary.csv), vanilla of as many iterations
(tuned_plain_summary.csv), CE + Dice (tuned_dice_), the probe head with CE + Dice (tuned_probe_) and the model from
scratch (tuned_scratch_). A killed run goes on.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

import transfer_risk as tr

SCRATCH = {"scratch": {"method": "vanilla", "init": "random"}}
UNWEIGHTED = "probe + CE + Dice"
PROBED = {UNWEIGHTED: {"method": "vanilla", "head": "probe", "dice_weight": 1.0}}
REFERENCES = {
    "": tr.LONGER,
    "_plain": "vanilla",
    "_dice": "CE + Dice",
    "_probe": UNWEIGHTED,
    "_scratch": "scratch",
}
"""What the recipes are compared with, by the end of the summary's name."""
SEED = {"type": int, "default": 12, "help": "Of the subjects and of the training."}


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = tr.study_options(__doc__, {"--seed": SEED})
    parts = [rows_of(tr.transfer_study(options, anatomy)) for anatomy in tr.TASKS]
    table = tr.with_longer(pd.concat(parts, ignore_index=True))
    groups = ["regime", "decision"]
    summaries = {end: tr.recipe_summary(table, groups, r) for end, r in REFERENCES.items()}
    tr.write_summaries(table, options.out / "tuned.csv", summaries)


def rows_of(study: tr.TransferStudy) -> pd.DataFrame:
    """Rows of one cohort; those from scratch stand beside each pair of their target."""
    study.prepare(sorted({source for source, _ in study.pairs}))
    table = study.run(jobs_of(study), f"tuned-{study.anatomy}")
    pairs = pd.DataFrame(study.pairs, columns=["source", "target"])
    scratch = table["recipe"].isin(SCRATCH)
    shared = table[scratch].drop(columns="source").merge(pairs, on="target")
    return pd.concat([table[~scratch], shared[table.columns]], ignore_index=True)


def jobs_of(study: tr.TransferStudy) -> list[dict[str, Any]]:
    """Each recipe, and each target from scratch, briefly and for long in one run; decisions tuned at every stop."""
    recipes = {name: tr.RECIPES[name] for name in tr.CONFIRMED} | PROBED
    targets = {target: source for source, target in study.pairs}
    fresh = [(source, target) for target, source in targets.items()]
    long, labels = (*study.size.stops[-1:], *study.size.long), {"slices": 0}
    jobs = study.jobs(study.pairs, recipes, labels=labels, stops=long)
    jobs += study.jobs(fresh, SCRATCH, labels=labels, stops=long)
    return [job | {"tuned": job["stops"]} for job in jobs]


if __name__ == "__main__":
    tr.run_program(main)
