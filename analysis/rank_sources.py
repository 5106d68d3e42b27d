"""Rank six tissue sources for each of six tissue targets of the embedded cohort; writes results/rank_sources.csv.

Sources and targets are different pseudo-subjects on different scanners: the source of the target's own name is among them.
Columns are those of the ranking.csv that `transfer-risk score --out` writes. A killed run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transfer_risk as tr


def main() -> None:
    """Run at the asked size and write the table."""
    options = tr.study_options(__doc__, {"--seeds": tr.TRANSFER_OPTIONS["--seeds"]})
    study = tr.transfer_study(options, "tissue")
    tasks = tr.TISSUE_TASKS[:2] if options.size == "smoke" else tr.TISSUE_TASKS
    study.prepare(tasks)
    jobs = [
        {"seed": seed, "task": target, "candidates": " ".join(tasks)}
        | {"folder": str(study.place(seed))}
        for target in tasks
        for seed in study.seeds
    ]
    path = study.folder / "rank_sources.csv"
    table = tr.run_study(jobs, rank, path, processes=study.processes, progress=study.progress)
    table = table.drop(columns=["candidates", "folder"])
    table.to_csv(options.out / "rank_sources.csv", index=False, float_format="%.6g")
    print(table.pivot_table(index="source", columns="task", values="leep_normalised").round(3))


def rank(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per source, in the columns of ranking.csv, without what is another at each run or target."""
    folder = Path(job["folder"])
    sources = [tr.load_source(folder / "sources" / name) for name in job["candidates"].split()]
    ranking = tr.rank_sources(sources, tr.cohort_task(folder, "target", job["task"]), by="leep")
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "licence") and "[" not in k}
        for row in ranking.rows()
    ]


if __name__ == "__main__":
    tr.run_program(main)
