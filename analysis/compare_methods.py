"""Fine-tuning methods against vanilla on pairs of source and target of the embedded cohort, tissue and tumour.

Sources come from other pseudo-subjects and another scanner than the target. Every method has the same frozen encoder,
data order, learning rate and iterations; each model is measured with its argmax and with a decision tuned on the training
cases. Writes results/compare_methods.csv (one row per pair, seed, method and decision) and
results/compare_methods_summary.csv (paired differences to vanilla over pairs, with t intervals). A killed run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import transfer_risk as tr

METHODS = ("vanilla", "class-weight", "trs-map", "risk-map", "class-mean")
SIZES = {  # spacing in mm, cases, iterations of pretraining and of fine-tuning, pairs, seeds
    "smoke": (8.0, 4, 3, 2, 1, 1),
    "quick": (3.0, 7, 200, 100, 2, 1),
    "full": (3.0, 10, 400, 200, 6, 3),
}


def main() -> None:
    """Run at the asked size, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--iterations", type=int, help="Of fine-tuning, instead of the size's.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", type=Path, help="Folder for cohorts and sources; kept.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    size = options.size or "full"
    folder = options.work or options.out / "work" / size
    *_, default, pairs, seeds = SIZES[size]
    iterations = options.iterations or default
    sources_only = [
        {"folder": str(folder), "size": size, "anatomy": anatomy, "seed": seed}
        for anatomy in tr.PAIRS
        for seed in range(seeds)
    ]
    tell = _tell
    tr.run_study(
        sources_only, prepare, folder / "prepared.csv", processes=options.processes, progress=tell
    )
    jobs = [
        {"size": size, "anatomy": anatomy, "source": source, "target": target, "seed": seed}
        | {"iterations": iterations, "method": method, "folder": str(folder)}
        for anatomy, all_pairs in tr.PAIRS.items()
        for source, target in all_pairs[:pairs]
        for seed in range(seeds)
        for method in METHODS
    ]
    table = tr.run_study(
        jobs, fine_tune, folder / "rows.csv", processes=options.processes, progress=tell
    )
    table = table.drop(columns="folder")
    name = "compare_methods" if iterations == default else f"compare_methods_{iterations}"
    options.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.4f")
    short = summary(table)
    short.to_csv(options.out / f"{name}_summary.csv", index=False, float_format="%.2f")
    print(short.to_string(index=False, float_format="{:.2f}".format))


def prepare(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write the cohorts of one anatomy and seed, and pretrain its sources."""
    spacing, cases, iterations, *_ = SIZES[job["size"]]
    tr.prepare_cohorts(
        Path(job["folder"]) / f"{job['anatomy']}-{job['seed']}",
        sorted({source for source, _ in tr.PAIRS[job["anatomy"]]}),
        anatomy=job["anatomy"],
        seed=job["seed"],
        spacing=spacing,
        cases=cases,
        iterations=iterations,
    )
    return [{"done": True}]


def fine_tune(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fine-tune one source on one target by one method; Dice, recall and precision by decision."""
    folder = Path(job["folder"]) / f"{job['anatomy']}-{job['seed']}"
    task = tr.cohort_task(folder, "target", job["target"])
    source = tr.load_source(folder / "sources" / job["source"])
    recipe = tr.Recipe(
        method=job["method"], iterations=job["iterations"], lr=1e-3, seed=job["seed"]
    )
    student = tr.finetune(source, task, recipe)
    rows = []
    for decision in (student.decision, tr.tune_decision(student, task)):
        measures = tr.evaluate(replace(student, decision=decision), task, distances=False)
        means = {k: [getattr(m, k) for m in measures] for k in ("dice", "recall", "precision")}
        rows.append(
            {"decision": decision.kind} | {k: float(np.nanmean(v)) for k, v in means.items()}
        )
    return rows


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means and paired differences to vanilla in points over pairs (means over seeds), with t intervals."""
    numbers = ["dice", "recall", "precision"]
    return tr.paired_summary(
        table.assign(**(100 * table[numbers])),
        ["anatomy", "decision"],
        method="method",
        pair=["source", "target"],
        value="dice",
        reference="vanilla",
        beside=["recall", "precision"],
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
