"""Do the scores choose the source that fine-tunes best? Every score of `score --probe` against the Dice reached, by recipe.

For each target of the tissue and the partition tasks its five other tasks are the candidates. Beside the scores stand random
choice, same modality, same class or institution, and the source that is best on its own task. Writes results/ranking.csv
(one row per target and source: scores, and the Dice reached by each recipe) and results/ranking_summary.csv (Kendall,
weighted Kendall, Spearman, top-1, regret in Dice points, and that against the regret of a random choice and of LEEP on the
same target, with 95 % t intervals over targets). A killed run goes on.

`--seed 12` audits the scores on other subjects, with the recipes that `recipes.py --seed 12` confirms and after its 1,000
iterations too; and, with tuned decisions as `tuned.py` has them, with the recipe, its encoder frozen or not, and with CE +
Dice, nothing frozen. The results are ranking_confirmed*.csv then. Any other seed audits what `tuned.py` of that seed
confirms, with tuned decisions, in ranking_unfrozen*.csv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

import transfer_risk as tr
from transfer_risk import study

AUDITED = ("vanilla", "risk-map", study.PROBED)
TUNED = {
    study.PROBED_DICE: study.RECIPES[study.PROBED_DICE],
    **study.UNFROZEN,
}
"""What is audited with tuned decisions on other subjects."""
OTHERS = {
    "type": int,
    "help": "Of other subjects than seed 10's: 12 for recipes with Dice, others for nothing frozen.",
}
AGAINST = ("random", "leep")
"""Choices whose regret is taken from that of each score, target by target."""
NAIVE = ("same_modality", "same_class", "same_institution", "own_dice")
"""Class is for tissue, institution for tumours; in a table of both neither."""


def main() -> None:
    """Run at the asked size, print and write the tables."""
    further = {**study.DATA_OPTIONS, "--seed": OTHERS}
    options = study.job_options(__doc__, further, seeds=(None, study.SECOND, study.THIRD))
    name, dice = "ranking", dice_of
    if options.seed is not None:
        name, dice = "ranking_unfrozen", unfrozen_dice
    if options.seed == study.SECOND:
        name, dice = "ranking_confirmed", confirmed_dice
    parts = []
    plans = study.transfer_studies(options)
    for plan in plans:
        tasks = study.TASKS[plan.anatomy]
        own = tasks[:3] if options.size == "smoke" else tasks
        targets = own[: 1 if options.size == "smoke" else 6]
        pairs = [(s, t) for t in targets for s in own if s != t]
        table = scores_of(plan, own, targets, plan.prepare(pairs))
        reached = wide(dice(plan, pairs))
        parts.append(table.merge(reached, on=["task", "seed", "source"]))
    table = pd.concat(parts, ignore_index=True)
    study.write_table(table, options.out / f"{name}.csv", digits="%.6g")
    reached = [c.removeprefix("reached[")[:-1] for c in table if c.startswith("reached[")]
    cohorts = [*(plan.anatomy for plan in plans), *(["all"] if len(plans) > 1 else [])]
    summary = pd.DataFrame([row for a in cohorts for r in reached for row in audited(table, a, r)])
    study.write_table(summary, options.out / f"{name}_summary.csv")
    regret = summary[summary["measure"] == "regret"]
    print(regret.to_string(index=False, float_format="{:.2f}".format))


def scores_of(
    plan: study.TransferStudy, tasks: tuple[str, ...], targets: tuple[str, ...], own: pd.DataFrame
) -> pd.DataFrame:
    """One row per target, seed and source: scores, and the naive choices, among them its Dice on its `own` task."""
    jobs = [
        {"anatomy": plan.anatomy, "seed": seed, "task": target, "candidates": " ".join(tasks)}
        | {"folder": str(plan.place(seed))}
        for target in targets
        for seed in plan.seeds
    ]
    path = plan.folder / f"scores-{plan.cohort}-{plan.first_seed}.csv"
    scores = study.run_jobs(jobs, score, path, processes=plan.processes, progress=plan.progress)
    table = scores.drop(columns=["candidates", "folder"]).merge(own, on=["source", "seed"])
    parts = table["source"].str.rsplit("-", n=1, expand=True)
    wanted = table["task"].str.rsplit("-", n=1, expand=True)
    table["same_modality"] = (parts[1] == wanted[1]).astype(float)
    kind = "same_class" if plan.anatomy == "tissue" else "same_institution"
    table[kind] = (parts[0] == wanted[0]).astype(float)
    return table


def dice_of(plan: study.TransferStudy, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """Dice in per cent after the last stop, with the argmax, of the pairs in each recipe."""
    jobs = plan.jobs(pairs, {r: study.RECIPES[r] for r in AUDITED})
    rows = plan.run(jobs, f"ranking-{plan.cohort}-{plan.first_seed}")
    return rows[(rows["decision"] == "argmax") & (rows["iterations"] == plan.size.stops[-1])]


def confirmed_dice(plan: study.TransferStudy, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """The same of the confirmed recipes, after long training too, and of those with tuned decisions."""
    recipes = {r: study.RECIPES[r] for r in study.CONFIRMED}
    jobs = plan.jobs(pairs, recipes, stops=(*plan.size.stops, *plan.size.long), tuned="none")
    plain = plan.run(jobs, f"ranking-{plan.cohort}-{plan.first_seed}")
    jobs = plan.jobs(pairs, TUNED, stops=plan.ends, tuned="every")
    both = plan.run(jobs, f"ranking-tuned-{plan.cohort}-{plan.first_seed}")
    tuned = both[both["decision"] == "tuned"]
    rows = pd.concat([plain, tuned.assign(recipe=tuned["recipe"] + ", tuned")])
    return by_iterations(rows, plan.ends)


def unfrozen_dice(plan: study.TransferStudy, pairs: list[tuple[str, str]]) -> pd.DataFrame:
    """The same, with tuned decisions, of what is recommended and the steps to it."""
    jobs = plan.jobs(pairs, study.RECOMMENDED, stops=plan.ends, tuned="every")
    rows = plan.run(jobs, f"ranking-unfrozen-{plan.cohort}-{plan.first_seed}")
    return by_iterations(rows[rows["decision"] == "tuned"], plan.ends)


def by_iterations(rows: pd.DataFrame, ends: Sequence[int]) -> pd.DataFrame:
    """Rows of these numbers of iterations, all but the first named in the recipe."""
    rows = rows[rows["iterations"].isin(ends)]
    words = rows["recipe"] + ", " + rows["iterations"].astype(str) + " iterations"
    return rows.assign(recipe=rows["recipe"].where(rows["iterations"] == ends[0], words))


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """A column `reached[recipe]` for each recipe: Dice in [0, 1], by task, seed and source."""
    key = ["target", "seed", "source"]
    table = rows.pivot_table(index=key, columns="recipe", values="dice") / 100
    table.columns = [f"reached[{name}]" for name in table.columns]
    return table.reset_index().rename(columns={"target": "task"})


def score(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every score of every candidate for one target."""
    task = study.cohort_task(job["folder"], "target", job["task"])
    names = [name for name in job["candidates"].split() if name != job["task"]]
    sources = [study.cohort_source(job["folder"], name) for name in names]
    ranking = tr.rank_sources(sources, task, probe=True)
    own = {source.name: name for source, name in zip(sources, names, strict=True)}
    return [
        {"source": own[s.source]}
        | {n: s.estimates[n].value for n in (*tr.SCORES, "leep_normalised")}
        for s in ranking.scores
    ]


def audited(table: pd.DataFrame, anatomy: str, recipe: str) -> list[dict[str, Any]]:
    """Each measure of each score for one cohort (or all) and recipe, with its interval over targets."""
    own = table if anatomy == "all" else table[table["anatomy"] == anatomy]
    own = own.assign(task=own["task"] + ", seed " + own["seed"].astype(str))
    naive = [n for n in NAIVE if n in own and own[n].notna().all()]
    names = [*tr.SCORES, *naive]
    results = own[["task", "source"]].assign(dice=own[f"reached[{recipe}]"])
    audit = tr.audit(own[["task", "source", *names]], results, names=names)
    verdicts = pd.DataFrame([vars(v) for v in audit.verdicts])
    verdicts["target"] = verdicts["task"].str.partition(", seed ")[
        0
    ]  # seeds of a target are no units
    means = verdicts.groupby(["score", "target"])[list(tr.MEASURES)].mean()

    def over_targets(name: str, measure: str) -> tr.Estimate:
        return tr.Estimate.mean(means.loc[name, measure].to_numpy(), bounds=tr.MEASURES[measure])

    rows = []
    for name in audit.scores:
        estimates = {measure: over_targets(name, measure) for measure in tr.MEASURES}
        for other in AGAINST:
            paired = estimates["regret"] - over_targets(other, "regret")
            estimates[f"regret_against_{other}"] = paired
        for measure, estimate in estimates.items():
            row = {"anatomy": anatomy, "recipe": recipe, "score": name, "measure": measure}
            row |= {"value": estimate.value} | study.ends(estimate) | {"targets": estimate.cases}
            rows.append(row)
    return rows


if __name__ == "__main__":
    study.run_program(main)
