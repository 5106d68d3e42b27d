"""Rank six tissue sources for each of six tissue targets of the embedded cohort; writes results/rank_sources.csv.

Sources and targets are different pseudo-subjects on different scanners. Everything is seeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd

import transfer_risk as tr

SIZES = {  # spacing in mm, cases of a cohort, iterations, seeds
    "smoke": (6.0, 4, 3, 1),
    "quick": (3.0, 6, 200, 1),
    "full": (2.0, 10, 600, 3),
}


def rank_all(folder: Path, size: str, seed: int) -> list[dict[str, object]]:
    """One row per target and source, in the columns of ranking.csv."""
    spacing, cases, iterations, _ = SIZES[size]
    template = tr.load_template(spacing=spacing)
    tr.write_source_and_target(folder, cases=cases, seed=10 * seed, template=template)
    tasks = [tr.load_task(p) for p in tr.write_tasks(folder, folder / "tasks", binary=True)]
    sources = []
    for task in (t for t in tasks if t.name.startswith("source")):
        print(f"seed {seed}: pretraining {task.name}", file=sys.stderr)
        sources.append(tr.pretrain(task, width=8, depth=4, iterations=iterations, seed=seed))
    rows = []
    for task in (t for t in tasks if t.name.startswith("target")):
        print(f"seed {seed}: ranking for {task.name}", file=sys.stderr)
        ranking = tr.rank_sources(sources, task)
        common = {"size": size, "seed": seed, "task": task.name}
        rows += [common | _without_time_and_class(row) for row in ranking.rows()]
    return rows


def _without_time_and_class(row: dict[str, object]) -> dict[str, object]:
    """What is the same at each run, and has the same name for each target."""
    return {k: v for k, v in row.items() if k != "seconds" and "[" not in k}


def main() -> None:
    """Run at the asked size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    size = options.size or "full"
    rows = []
    for seed in range(SIZES[size][3]):
        with tempfile.TemporaryDirectory() as folder:
            rows += rank_all(Path(folder), size, seed)
    options.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "rank_sources.csv", index=False, float_format="%.6g")
    print(table.pivot_table(index="source", columns="task", values="leep_normalised").round(3))


if __name__ == "__main__":
    main()
