"""Do the scores choose the source that fine-tunes best? Every score of `score --probe` against the Dice reached, by recipe.

For each target of the tissue and the partition tasks its five other tasks are the candidates. Beside the scores stand random
choice, same modality, same class or institution, and the source that is best on its own task. Writes results/ranking.csv
(one row per target and source: scores, and the Dice reached by each recipe) and results/ranking_summary.csv (Kendall,
weighted Kendall, Spearman, top-1, regret in Dice points, and that against the regret of a random choice and of LEEP on the
same target, with 95 % t intervals over targets). A killed run goes on.

`--seed 12` audits the scores on other subjects, with the recipes that `recipes.py --seed 12` confirms and after its 1,000
iterations too; the results are ranking_confirmed*.csv then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import transfer_risk as tr
from transfer_risk.auditing import MEASURES

AUDITED = ("vanilla", "risk-map", "probe + adaptive-risk")
OTHERS = {"type": int, "help": "Of other subjects than seed 10's: recipes with Dice, for long too."}
AGAINST = ("random", "leep")
"""Choices whose regret is taken from that of each score, target by target."""
NAIVE = ("same_modality", "same_class", "same_institution", "own_dice")
"""Class is for tissue, institution for tumours; in a table of both neither."""


def main() -> None:
    """Run at the asked size, print and write the tables."""
    seeds = {"--seeds": tr.TRANSFER_OPTIONS["--seeds"], "--seed": OTHERS}
    options = tr.study_options(__doc__, seeds)
    other = options.seed is not None
    name, recipes = ("ranking_confirmed", tr.CONFIRMED) if other else ("ranking", AUDITED)
    parts = []
    for anatomy, tasks in tr.TASKS.items():
        study = tr.transfer_study(options, anatomy)
        own = tasks[:3] if options.size == "smoke" else tasks
        targets = own[: 1 if options.size == "smoke" else 6]
        long = study.size.long if other else ()
        parts.append(scores_and_dice(study, own, targets, recipes, long))
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.6g")
    reached = [c.removeprefix("reached[")[:-1] for c in table if c.startswith("reached[")]
    summary = pd.DataFrame(
        [row for a in (*tr.TASKS, "all") for r in reached for row in audited(table, a, r)]
    )
    summary.to_csv(options.out / f"{name}_summary.csv", index=False, float_format="%.4g")
    regret = summary[summary["measure"] == "regret"]
    print(regret.to_string(index=False, float_format="{:.2f}".format))


def scores_and_dice(
    study: tr.TransferStudy,
    tasks: tuple[str, ...],
    targets: tuple[str, ...],
    recipes: tuple[str, ...],
    long: tuple[int, ...],
) -> pd.DataFrame:
    """One row per target, seed and source: scores, naive choices, and the Dice in [0, 1] reached by each recipe."""
    own = study.prepare(tasks)
    jobs = [
        {"anatomy": study.anatomy, "seed": seed, "task": target, "candidates": " ".join(tasks)}
        | {"folder": str(study.place(seed))}
        for target in targets
        for seed in study.seeds
    ]
    path = study.folder / f"scores-{study.anatomy}.csv"
    scores = tr.run_study(jobs, score, path, processes=study.processes, progress=study.progress)
    table = scores.drop(columns=["candidates", "folder"]).merge(own, on=["source", "seed"])
    parts = table["source"].str.rsplit("-", n=1, expand=True)
    wanted = table["task"].str.rsplit("-", n=1, expand=True)
    table["same_modality"] = (parts[1] == wanted[1]).astype(float)
    kind = "same_class" if study.anatomy == "tissue" else "same_institution"
    table[kind] = (parts[0] == wanted[0]).astype(float)
    pairs = [(s, t) for t in targets for s in tasks if s != t]
    named = {r: tr.RECIPES[r] for r in recipes}
    last, stops = study.size.stops[-1], (*study.size.stops, *long)
    jobs = study.jobs(pairs, named, stops=stops, tuned=not long)
    rows = study.run(jobs, f"ranking-{study.anatomy}")
    rows = rows[(rows["decision"] == "argmax") & rows["iterations"].isin((last, *long))]
    words = rows["recipe"] + ", " + rows["iterations"].astype(str) + " iterations"
    rows = rows.assign(recipe=rows["recipe"].where(rows["iterations"] == last, words))
    key = ["target", "seed", "source"]
    wide = rows.pivot_table(index=key, columns="recipe", values="dice") / 100
    wide.columns = [f"reached[{name}]" for name in wide.columns]
    wide = wide.reset_index().rename(columns={"target": "task"})
    return table.merge(wide, on=["task", "seed", "source"])


def score(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every score of every candidate for one target."""
    folder = Path(job["folder"])
    task = tr.cohort_task(folder, "target", job["task"])
    names = [name for name in job["candidates"].split() if name != job["task"]]
    sources = [tr.load_source(folder / "sources" / name) for name in names]
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
    means = verdicts.groupby(["score", "target"])[list(MEASURES)].mean()

    def over_targets(name: str, measure: str) -> tr.Estimate:
        return tr.Estimate.mean(means.loc[name, measure].to_numpy(), bounds=MEASURES[measure])

    rows = []
    for name in audit.scores:
        estimates = {measure: over_targets(name, measure) for measure in MEASURES}
        for other in AGAINST:
            paired = estimates["regret"] - over_targets(other, "regret")
            estimates[f"regret_against_{other}"] = paired
        for measure, estimate in estimates.items():
            low, high = estimate.interval()
            row = {"anatomy": anatomy, "recipe": recipe, "score": name, "measure": measure}
            row |= {"value": estimate.value, "low": low, "high": high}
            rows.append(row | {"targets": estimate.cases})
    return rows


if __name__ == "__main__":
    tr.run_program(main)
