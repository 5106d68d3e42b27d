"""Transfers between the tasks of a cohort, as jobs of a study: each fine-tuned once and measured on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transfer_risk.adapters import load_source, save_source
from transfer_risk.cohorts import cohort_task, pretrain_source, write_cohorts
from transfer_risk.decisions import tune_decision
from transfer_risk.evaluation import evaluate
from transfer_risk.features import Features
from transfer_risk.files import write_text
from transfer_risk.fitting import fit
from transfer_risk.recipes import Recipe
from transfer_risk.studies import Row, run_study
from transfer_risk.tasks import Source, Task
from transfer_risk.training import begin

if TYPE_CHECKING:
    import pandas as pd

RECIPES: dict[str, dict[str, Any]] = {
    **{m: {"method": m} for m in ("vanilla", "class-weight", "trs-map", "risk-map", "class-mean")},
    "CE + Dice": {"method": "vanilla", "dice_weight": 1.0},
    "probe": {"method": "vanilla", "head": "probe"},
    "probe + eep-risk": {"method": "eep-risk", "head": "probe"},
    "probe + adaptive-risk": {"method": "adaptive-risk", "head": "probe"},
}
"""Options by name: the five methods of the paper's tables, then what stands beside and beyond them."""
METHODS = tuple(RECIPES)[:5]
PROBE_STEPS = 30
"""Steps that a probe head costs, about: vanilla is measured that much later too, to be matched in time."""


@dataclass(frozen=True)
class Size:
    """How large a study of transfers is.

    Args:
        spacing: Voxel size of the embedded cohort in mm.
        cases: Of each of its cohorts.
        width: Features of the first level of the U-Nets.
        depth: Their levels.
        pretraining: Iterations of pretraining.
        stops: Iterations of fine-tuning after which it is measured; the last one ends it.
        lr: Learning rate of fine-tuning.
        seeds: Number of seeds: other subjects, other weights.
    """

    spacing: float
    cases: int
    width: int
    depth: int
    pretraining: int
    stops: tuple[int, ...]
    lr: float
    seeds: int


SIZES = {
    "smoke": Size(8.0, 4, 4, 3, 3, (1, 2), 1e-3, 1),
    "quick": Size(3.0, 7, 8, 4, 200, (50, 100), 1e-3, 1),
    "full": Size(3.0, 10, 8, 4, 400, (50, 200), 1e-3, 1),
    "paper": Size(1.0, 20, 32, 5, 5_000, (5_000,), 1e-4, 3),
}
"""`full` is what two cores can do; `paper` is the paper's protocol, with three seeds."""


@dataclass(frozen=True)
class TransferStudy:
    """Transfers within one kind of cohort.

    Args:
        folder: Receives cohorts, sources, fine-tuned models and rows; what is there is not made again.
        anatomy: `tissue`, `tumour` or `partitions` (see `cohorts`).
        size: Of everything.
        first_seed: Seeds count from here.
        processes: Each with one thread.
        data: Folder of real data (iSeg-2019 or FeTS) instead of the embedded cohort.
        partitions: Partitioning csv of FeTS.
        progress: Called with a line for each job that ends.
    """

    folder: Path
    anatomy: str
    size: Size
    first_seed: int = 0
    processes: int = 1
    data: Path | None = None
    partitions: Path | None = None
    progress: Callable[[str], None] | None = None

    @property
    def seeds(self) -> range:
        """All seeds."""
        return range(self.first_seed, self.first_seed + self.size.seeds)

    def place(self, seed: int) -> Path:
        """Folder of the cohort of a seed."""
        return self.folder / f"{self.anatomy}-{seed}"

    def prepare(self, sources: Iterable[str]) -> None:
        """Write the cohorts and pretrain the sources of all seeds, where they are not there yet."""
        common = asdict(self.size) | {"anatomy": self.anatomy}
        common |= {"data": str(self.data or ""), "partitions": str(self.partitions or "")}
        del common["stops"], common["lr"], common["seeds"]
        cohorts = [common | {"folder": str(self.place(s)), "seed": s} for s in self.seeds]
        for name, work, jobs in (
            ("cohorts", _write, cohorts),
            ("sources", _pretrain, [c | {"source": s} for c in cohorts for s in sources]),
        ):
            path = self.folder / f"{name}-{self.anatomy}.csv"
            run_study(jobs, work, path, processes=self.processes, progress=self.progress)

    def jobs(
        self,
        pairs: Iterable[Sequence[str]],
        recipes: Mapping[str, Mapping[str, Any]],
        *,
        stops: Sequence[int] = (),
    ) -> list[dict[str, Any]]:
        """One job for each pair (source, target), seed and recipe, for `run`.

        Args:
            pairs: Of task names.
            recipes: Options of `Recipe` by name; others than the size's learning rate and the seed's are its defaults.
            stops: Instead of the size's.
        """
        steps = tuple(stops) or self.size.stops
        made = []
        for source, target in pairs:
            for seed in self.seeds:
                for name, options in recipes.items():
                    own = {"lr": self.size.lr, "seed": seed} | dict(options)
                    later = [s + PROBE_STEPS for s in steps] if name == "vanilla" else []
                    made.append(
                        {
                            "anatomy": self.anatomy,
                            "source": source,
                            "target": target,
                            "seed": seed,
                            "recipe": name,
                            "stops": " ".join(map(str, sorted({*steps, *later}))),
                            "options": json.dumps(own),
                            "tuned": str(steps[-1]),
                            "folder": str(self.place(seed)),
                        }
                    )
        return made

    def run(self, jobs: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
        """Rows of all jobs: iterations, decision, and Dice, recall and precision in per cent; a killed run goes on."""
        path = self.folder / f"{name}.csv"
        table = run_study(jobs, transfer, path, processes=self.processes, progress=self.progress)
        return table.drop(columns=["stops", "options", "tuned", "folder"])


def transfer(job: Mapping[str, Any]) -> list[Row]:
    """Measures of one transfer at each of its stops, of the argmax and at one of them of a tuned decision too.

    What was done once is read from the folder, whichever study asks.
    """
    path = model_path(job).with_suffix(".json")
    if path.is_file():
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    task, source = tasks_of(job)
    stops = [int(stop) for stop in job["stops"].split()]
    recipe = Recipe(iterations=stops[-1], **json.loads(job["options"]))
    start = begin(source, task, recipe)
    features = Features.of(start.student, start.samples, recipe)
    rows = []
    for stop in stops:
        now = replace(recipe, iterations=stop)
        fit(start.state, start.student, start.samples, now, features=features)
        rows.append(_row(start.student, task, stop))
        if str(stop) == job["tuned"]:
            decision = tune_decision(start.student, task, cases=start.training)
            rows.append(_row(replace(start.student, decision=decision), task, stop))
            save_source(start.student, model_path(job))
    write_text(path, json.dumps(rows))
    return rows


def tasks_of(job: Mapping[str, Any]) -> tuple[Task, Source]:
    """Target task and source of a job."""
    place = Path(job["folder"])
    target = cohort_task(place, "target", job["target"])
    return target, load_source(place / "sources" / job["source"])


def model_path(job: Mapping[str, Any]) -> Path:
    """Where the fine-tuned model of a job is kept, as it was when its decision was tuned."""
    told = {k: v for k, v in job.items() if k not in ("folder", "recipe")}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return Path(job["folder"]) / "transfers" / digest


def _row(student: Source, task: Task, stop: int) -> Row:
    measures = evaluate(student, task, distances=False)
    row: Row = {"iterations": stop, "decision": student.decision.kind}
    for name in ("dice", "recall", "precision"):
        row[name] = 100 * float(np.nanmean([getattr(m, name) for m in measures]))
    return row


def _write(job: Mapping[str, Any]) -> list[Row]:
    write_cohorts(
        job["folder"],
        anatomy=job["anatomy"],
        seed=job["seed"],
        spacing=job["spacing"],
        cases=job["cases"],
        data=job["data"] or None,
        partitions=job["partitions"] or None,
    )
    return [{"done": True}]


def _pretrain(job: Mapping[str, Any]) -> list[Row]:
    source, task = pretrain_source(
        job["folder"],
        job["source"],
        seed=job["seed"],
        iterations=job["pretraining"],
        width=job["width"],
        depth=job["depth"],
    )
    measures = evaluate(source, task, distances=False)
    return [{"own_dice": float(np.nanmean([m.dice for m in measures]))}]
