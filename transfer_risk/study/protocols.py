"""Studies of transfers: their cohorts and sources, their jobs and the rows that these give."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transfer_risk.callbacks import Tell
from transfer_risk.evaluation import evaluate, pooled_mean
from transfer_risk.files import write_text
from transfer_risk.layouts.reading import recognised
from transfer_risk.study.cohorts import TASKS, pretrain_source, write_cohorts
from transfer_risk.study.jobs import Row, Work, run_jobs
from transfer_risk.study.programs import positive, tell
from transfer_risk.study.sizes import LESIONS, PREPARED, PROBE_STEPS, SIZES, Size
from transfer_risk.study.transfers import transfer

if TYPE_CHECKING:
    import pandas as pd

Tuned = Literal["last", "every", "none"]
DATA_OPTIONS: dict[str, dict[str, Any]] = {
    "--data": {"type": Path, "help": "Folder of iSeg-2019 or FeTS instead of the embedded cohort."},
    "--partitions": {"type": Path, "help": "Partitioning csv of FeTS."},
    "--allow-missing": {
        "action": "store_true",
        "help": "Of --data: go on with the complete cases of an incomplete folder.",
    },
    "--seeds": {
        "type": positive,
        "help": "How many, instead of the size's; other subjects each, with --data other trainings on one split.",
    },
}
"""Further options of a program's `job_options` for `transfer_studies`: whose data, how many seeds."""
TRANSFER_OPTIONS: dict[str, dict[str, Any]] = {
    "--paper": {
        "dest": "size",
        "action": "store_const",
        "const": "paper",
        "help": "The paper's protocol: width 32, 5,000 iterations, lr 1e-4.",
    },
    **DATA_OPTIONS,
}
"""The same of a study that can be run as large as the paper's."""
CHOSEN = (10, 11)
"""Seeds on whose subjects recipes were chosen: nothing is confirmed on them."""
SECOND, THIRD = 12, 13
"""Seeds of what is published: of recipes and tuned decisions, and of what was decided after those."""


@dataclass(frozen=True)
class TransferStudy:
    """Transfers within one kind of cohort.

    Args:
        folder: Receives cohorts, sources, fine-tuned models and rows; what is there is not made again.
        anatomy: `tissue`, `tumour` or `partitions` (see `cohorts`).
        size: Of everything.
        first_seed: Seeds count from here.
        processes: Each with one thread.
        t1: Skull-stripped T1 of a brain to deform instead of the embedded one.
        data: Folder of real data (iSeg-2019 or FeTS) instead of the embedded cohort.
        partitions: Partitioning csv of FeTS.
        allow_missing: Go on with the complete cases of an incomplete folder of real data; those left out are told.
        progress: Called with a line for each job that ends.
    """

    folder: Path
    anatomy: str
    size: Size
    first_seed: int = 0
    processes: int = 1
    t1: Path | None = None
    data: Path | None = None
    partitions: Path | None = None
    allow_missing: bool = False
    progress: Tell | None = None

    @property
    def seeds(self) -> range:
        """All seeds."""
        return range(self.first_seed, self.first_seed + self.size.seeds)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Ordered pairs (source, target) of the tasks of `tissue` or `partitions`, as many as the size has."""
        return list(permutations(TASKS[self.anatomy], 2))[:: self.size.every]

    @property
    def fresh(self) -> list[tuple[str, str]]:
        """A pair for each target, for models from scratch, which take nothing of the source but its layout."""
        return [(source, target) for target, source in {t: s for s, t in self.pairs}.items()]

    @property
    def ends(self) -> tuple[int, ...]:
        """The last stop and the long one, of one training."""
        return (*self.size.stops[-1:], *self.size.long)

    @property
    def cohort(self) -> str:
        """Anatomy, and what it is made of instead of the embedded brain."""
        brain = f"-{self.t1.name.partition('.')[0]}" if self.t1 else ""
        return f"{self.anatomy}{'-real' if self.data else brain}"

    def place(self, seed: int) -> Path:
        """Folder of the cohort of a seed."""
        return self.folder / f"{self.cohort}-{seed}"

    def prepare(self, pairs: Iterable[Sequence[str]]) -> pd.DataFrame:
        """Write the cohorts and pretrain the sources of the pairs, where they are not there yet; `own_dice` of each source.

        That is Dice in [0, 1] on the test cases of the source's own task, by `source` and `seed`.

        Raises:
            ValueError: if the folder holds cohorts of a study with other settings.
        """
        common: dict[str, Any] = {name: getattr(self.size, name) for name in PREPARED}
        common |= {"anatomy": self.anatomy}
        for name in ("data", "partitions", "t1"):
            path = getattr(self, name)
            common[name] = str(path.resolve()) if path else ""
        for seed in self.seeds:
            _claim(self.place(seed), common, note=not self.data)
        sources = sorted({source for source, _ in pairs})
        cohorts = [common | {"folder": str(self.place(s)), "seed": s} for s in self.seeds]
        complete = {"allow_missing": self.allow_missing}
        self._prepare("cohorts", [c | complete for c in cohorts], _write)
        for seed in self.seeds:
            _claim(self.place(seed), common, note=True)
        made = [c | {"source": s} for c in cohorts for s in sources]
        return self._prepare("sources", made, _pretrain)[["source", "seed", "own_dice"]]

    def _prepare(self, name: str, jobs: Sequence[Mapping[str, Any]], work: Work) -> pd.DataFrame:
        path = self.folder / f"{name}-{self.cohort}.csv"
        return run_jobs(jobs, work, path, processes=self.processes, progress=self.progress)

    def jobs(
        self,
        pairs: Iterable[Sequence[str]],
        recipes: Mapping[str, Mapping[str, Any]],
        *,
        stops: Sequence[int] | None = None,
        labels: Mapping[str, Any] | None = None,
        tuned: Tuned = "last",
    ) -> list[dict[str, Any]]:
        """One job for each pair (source, target), seed and recipe, for `run`.

        Args:
            pairs: Of task names.
            recipes: Options of `Recipe` by name; others than the size's learning rate and the seed's are its defaults.
            stops: Instead of the size's; an empty one makes no job.
            labels: Columns that the rows start with.
            tuned: Whether the decision is tuned after the `last` of `stops`, after `every` stop or after `none`; the model
                is kept as it was when that was done last.
        """
        steps = self.size.stops if stops is None else tuple(stops)
        made: list[dict[str, Any]] = []
        if not steps:
            return made
        for source, target in pairs:
            for seed in self.seeds:
                for name, options in recipes.items():
                    own = {"lr": self.size.lr, "seed": seed} | dict(options)
                    later = [s + PROBE_STEPS for s in steps] if name == "vanilla" else []
                    measured = " ".join(map(str, sorted({*steps, *later})))
                    moments = {"last": str(steps[-1]), "every": measured, "none": ""}
                    made.append(
                        {
                            **(labels or {}),
                            "anatomy": self.anatomy,
                            "source": source,
                            "target": target,
                            "seed": seed,
                            "recipe": name,
                            "stops": measured,
                            "options": json.dumps(own),
                            "tuned": moments[tuned],
                            "folder": str(self.place(seed)),
                        }
                    )
        return made

    def run(self, jobs: Sequence[Mapping[str, Any]], name: str) -> pd.DataFrame:
        """Rows of all jobs: iterations, decision, and Dice, recall and precision in per cent; a killed run goes on."""
        path = self.folder / f"{name}.csv"
        table = run_jobs(jobs, transfer, path, processes=self.processes, progress=self.progress)
        return table.drop(columns=["stops", "options", "tuned", "folder"])


def transfer_studies(options: argparse.Namespace) -> list[TransferStudy]:
    """`transfer_study` of both cohorts; of user's data, of partitions where there are some, else of tissue."""
    own = ["partitions" if options.partitions else "tissue"]
    return [transfer_study(options, anatomy) for anatomy in (own if options.data else TASKS)]


def transfer_study(options: argparse.Namespace, anatomy: str) -> TransferStudy:
    """The study that a program's options ask for; seeds count from 10, or from `--seed`.

    Raises:
        ValueError: if `--t1` is no file or stands beside `--data`, `--data` or `--partitions` is not there, one of `--data`,
            `--partitions` and `--allow-missing` lacks another, or `--seed` does not mean other subjects.
    """
    t1, seed = getattr(options, "t1", None), getattr(options, "seed", None)
    if t1 and not t1.is_file():
        raise ValueError(f"--t1 must be a NIfTI file, a T1 without skull; there is none at {t1}")
    data, partitions = (getattr(options, name, None) for name in ("data", "partitions"))
    allow_missing = getattr(options, "allow_missing", False)
    if t1 and data:
        raise ValueError(f"--t1 must stand without --data, another cohort; got {t1} and {data}")
    if data and not data.is_dir():
        raise ValueError(f"--data must be a folder; there is none at {data}")
    if data and seed is not None:
        raise ValueError(
            f"--seed is of other simulated subjects and must stand without --data; got {seed} and {data}"
        )
    if seed in CHOSEN:
        chosen = " and ".join(map(str, CHOSEN))
        raise ValueError(
            f"--seed must be another than {chosen}, on whose subjects recipes were chosen; got {seed}"
        )
    if partitions and not partitions.is_file():
        raise ValueError(f"--partitions must be a csv file; there is none at {partitions}")
    if allow_missing and not data:
        raise ValueError("--allow-missing needs --data, the folder that is incomplete; got none")
    if partitions and not data:
        raise ValueError("--partitions needs --data, the folder of FeTS that it divides; got none")
    if data and not partitions and (anatomy == "partitions" or _fets(data)):
        raise ValueError(
            "--data needs --partitions, the csv of FeTS (partitioning_2.csv); got none"
        )
    size = SIZES[options.size]
    if anatomy == "partitions" and options.size == "full":
        size = replace(size, **LESIONS)
    if getattr(options, "seeds", None) is not None:
        size = replace(size, seeds=options.seeds)
    return TransferStudy(
        options.work,
        anatomy,
        size,
        first_seed=10 if seed is None else seed,
        processes=options.processes,
        t1=t1,
        data=data,
        partitions=partitions,
        allow_missing=allow_missing,
        progress=tell,
    )


def _fets(data: Path) -> bool:
    """Whether a data folder is, or holds, one of FeTS."""
    places = [data, *data.iterdir()] if data.is_dir() else []
    return any(recognised(place) == "fets" for place in places if place.is_dir())


def _claim(place: Path, settings: Mapping[str, Any], *, note: bool) -> None:
    """Refuse a folder whose cohorts were made with other settings, or by another version; note them, or leave it as it is.

    Raises:
        ValueError: naming the folder and what differs.
    """
    path, wanted = place / "settings.json", {**settings, "version": version("transfer-risk")}
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if other := [k for k in wanted if wanted[k] != there.get(k)]:
            words = ", ".join(
                f"{k} {there.get(k) or 'none'}, not {wanted[k] or 'none'}" for k in other
            )
            raise ValueError(
                f"{place}: holds cohorts of another study ({words}); give another --work"
            )
    elif note:
        place.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted))


def _write(job: Mapping[str, Any]) -> list[Row]:
    write_cohorts(
        job["folder"],
        anatomy=job["anatomy"],
        seed=job["seed"],
        spacing=job["spacing"],
        cases=job["cases"],
        t1=job["t1"] or None,
        data=job["data"] or None,
        partitions=job["partitions"] or None,
        allow_missing=job["allow_missing"],
        note=tell,
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
    return [{"own_dice": pooled_mean(measures)}]
