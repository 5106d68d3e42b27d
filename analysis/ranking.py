"""Do the scores choose the source that fine-tunes best? Every score of `score --probe` against the Dice reached, by recipe.

For each target of the tissue and the partition tasks its five other tasks are the candidates. Beside the scores stand
random choice, same modality, same class, and the source that is best on its own task. Writes results/ranking.csv (one row
per target and source: scores, and the Dice reached by each recipe) and results/ranking_summary.csv (Kendall, weighted
Kendall, Spearman, top-1, regret in Dice points, with 95 % t intervals over targets). A killed run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import transfer_risk as tr

AUDITED = ("vanilla", "risk-map", "probe + adaptive-risk")
MEASURES = ("kendall", "weighted_kendall", "spearman", "top1", "regret")


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = tr.study_options(__doc__, {"--seeds": tr.TRANSFER_OPTIONS["--seeds"]})
    parts = []
    for anatomy, tasks in tr.TASKS.items():
        study = tr.transfer_study(options, anatomy)
        own = tasks[:3] if options.size == "smoke" else tasks
        parts.append(scores_and_dice(study, own, own[: 1 if options.size == "smoke" else 6]))
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(options.out / "ranking.csv", index=False, float_format="%.6g")
    summary = pd.DataFrame(
        [row for a in (*tr.TASKS, "all") for r in AUDITED for row in audited(table, a, r)]
    )
    summary.to_csv(options.out / "ranking_summary.csv", index=False, float_format="%.4g")
    regret = summary[summary["measure"] == "regret"]
    print(regret.to_string(index=False, float_format="{:.2f}".format))


def scores_and_dice(
    study: tr.TransferStudy, tasks: tuple[str, ...], targets: tuple[str, ...]
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
    table["same_class"] = (parts[0] == wanted[0]).astype(float)  # or institution
    pairs = [(s, t) for t in targets for s in tasks if s != t]
    rows = study.run(
        study.jobs(pairs, {r: tr.RECIPES[r] for r in AUDITED}), f"ranking-{study.anatomy}"
    )
    last = rows[(rows["decision"] == "argmax") & (rows["iterations"] == study.size.stops[-1])]
    wide = (
        last.pivot_table(index=["target", "seed", "source"], columns="recipe", values="dice") / 100
    )
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
    names = [*tr.SCORES, "same_modality", "same_class", "own_dice"]
    results = own[["task", "source"]].assign(dice=own[f"reached[{recipe}]"])
    audit = tr.audit(own[["task", "source", *names]], results, names=names)
    verdicts = pd.DataFrame([vars(v) for v in audit.verdicts])
    verdicts["target"] = verdicts["task"].str.partition(", seed ")[
        0
    ]  # seeds of a target are no units
    means = verdicts.groupby(["score", "target"])[list(MEASURES)].mean()
    rows = []
    for name in audit.scores:
        for measure in MEASURES:
            estimate = tr.Estimate.mean(means.loc[name, measure].to_numpy())
            low, high = estimate.interval()
            row = {"anatomy": anatomy, "recipe": recipe, "score": name, "measure": measure}
            row |= {"value": estimate.value, "low": low, "high": high}
            rows.append(row | {"targets": estimate.cases})
    return rows


if __name__ == "__main__":
    tr.run_program(main)
