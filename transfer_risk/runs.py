"""Run folders: what a fine-tuning leaves behind, and how it is read again.

config.toml   format, task and source as paths from the folder, and every option as resolved
manifest.json format, finished, cases of train, validation and test, versions, seeds, input hashes, command, timings
log.csv       iteration, loss, lr, fg_share, seconds
metrics.csv   case, class, stage (before or after), dice, hd95, recall, precision; empty = unknown
model/        itself a source
maps/before/ and maps/after/   <case>_risk, <case>_transferability and <case>_prediction (class numbers) .nii.gz
checkpoint/   the newest resumable state
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.evaluation import Measure
from transfer_risk.files import digest, read_json
from transfer_risk.imagefiles import file_and_channel, load
from transfer_risk.layouts import load_task
from transfer_risk.riskmap import Span
from transfer_risk.runtables import Stage, read_log, read_metrics, stages_of
from transfer_risk.tasks import Case, Task
from transfer_risk.tomlfiles import read_toml
from transfer_risk.volumes import Volume, read


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Args:
        path: Its folder.
        config: Table of config.toml.
        manifest: Content of manifest.json.
        measures: Measures of the test cases by stage.
    """

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    measures: dict[Stage, tuple[Measure, ...]]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def method(self) -> str:
        """Loss that it was trained with."""
        return str(self.config["method"])

    @property
    def from_scratch(self) -> bool:
        """Whether nothing was transferred: the reference for negative transfer."""
        return bool(self.config["init"] == "random")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those whose maps and measures it has."""
        return stages_of(self.config["init"])

    @cached_property
    def task(self) -> Task:
        """The target, from its task file.

        Raises:
            ValueError: naming the file, if it is no longer what the run was measured with.
        """
        path = self.path / self.config["task"]
        task = load_task(path)
        self._check_unchanged("task", path)
        return task

    @property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of everything that went in, by name, as far as the manifest has it."""
        found: dict[str, str] = self.manifest.get("inputs", {})
        return found

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The test cases that were evaluated and mapped."""
        ids = self.manifest["cases"]["test"]
        return tuple(c for c in self.task.cases if c.id in ids)

    @property
    def seen(self) -> list[str]:
        """Ids of the test cases that the source was trained on, as far as is known."""
        found: list[str] = self.manifest.get("seen", [])
        return found

    def volume(self, case: Case) -> Volume:
        """Images and labels of a test case, every slice.

        Raises:
            ValueError: naming the file, if it cannot be read, or is no longer what the run was measured with.
        """
        named = {
            path: name for name, path in input_files([case]).items()
        }  # 4D: one of many channels
        for path, name in named.items():
            self._check_unchanged(name, path)
        return read(case, self.task, every_slice=True)

    @cached_property
    def lacking(self) -> list[str]:
        """Classes that are labelled in a test case and unknown to the source: there is no mean over all classes before."""
        before = {(m.case, m.name): m.recall for m in self.measures.get("before", ())}
        unknown = [
            m.name
            for m in self.measures["after"]
            if before
            and not math.isnan(m.recall)
            and math.isnan(before.get((m.case, m.name), math.nan))
        ]
        return list(dict.fromkeys(unknown))

    @cached_property
    def span(self) -> Span:
        """Span of all its maps, over its stages and test cases; reads each of them once.

        Raises:
            ValueError: naming the file, if one is missing or damaged.
        """
        return reduce(
            or_,
            (
                Span.of(torch.from_numpy(self.transferability(stage, case)))
                for stage in self.stages
                for case in self.cases
            ),
        )

    def transferability(self, stage: Stage, case: Case) -> NDArray[np.float32]:
        """T (X, Y, Z) in nats, NaN where ignored, on the joint of the other test cases."""
        return np.asarray(self._load(stage, case, "transferability"), dtype=np.float32)

    def prediction(self, stage: Stage, case: Case) -> NDArray[np.int16]:
        """Class numbers (X, Y, Z) by the stored decision of the stage's model."""
        return np.asarray(self._load(stage, case, "prediction"), dtype=np.int16)

    def log(self) -> list[dict[str, float]]:
        """Rows of log.csv.

        Raises:
            ValueError: naming the file, if it is not as it was written.
        """
        return read_log(self.path / "log.csv")

    def _check_unchanged(self, name: str, path: Path) -> None:
        """Raise ValueError where a file is another than the input that the manifest has by the name."""
        recorded = self.inputs.get(name)
        if recorded and digest(path) != recorded:
            raise ValueError(
                f"{path}: has been changed since {self.path} was made, whose measures are of the old one; restore it, or "
                "fine-tune again"
            )

    def _load(self, stage: Stage, case: Case, what: str) -> NDArray[Any]:
        path = self.path / "maps" / stage / f"{case.id}_{what}.nii.gz"
        if not path.is_file():
            raise ValueError(
                f"{path}: no such file; start the same finetune command again, which makes lost maps again"
            )
        try:
            return load(str(path))[0]
        except ValueError as error:
            raise ValueError(
                f"{error}, or delete it and start the same finetune command again"
            ) from None


def input_files(cases: Iterable[Case]) -> dict[str, Path]:
    """Images and labels of cases, by the names of `Run.inputs`: `<case>/image 0` and so on, and `<case>/label`."""
    found = {}
    for case in cases:
        for number, image in enumerate(case.images):
            found[f"{case.id}/image {number}"] = Path(file_and_channel(image)[0])
        if case.label:
            found[label_name(case)] = Path(case.label)
    return found


def label_name(case: Case) -> str:
    """Name of a case's label among the `input_files`."""
    return f"{case.id}/label"


def load_run(path: str | Path) -> Run:
    """A finished run.

    Raises:
        ValueError: naming the folder, if it is no run, or one that is not finished.
    """
    folder = Path(path)
    if not (folder / "manifest.json").is_file() or not (folder / "config.toml").is_file():
        raise ValueError(
            f"{folder}: is no run folder (no config.toml and manifest.json); finetune --out makes one"
        )
    try:
        manifest = read_json(folder / "manifest.json")
        finished = manifest["finished"]
        _ = manifest["cases"]["test"] if finished else None  # known when it is
    except (ValueError, LookupError, TypeError):
        raise ValueError(
            f"{folder / 'manifest.json'}: is no manifest of a run, or damaged; fine-tune again"
        ) from None
    if not finished:
        raise ValueError(f"{folder}: is not finished; start the same command again to resume it")
    config = read_toml(folder / "config.toml")
    if missing := [name for name in ("task", "method", "init") if name not in config]:
        raise ValueError(
            f"{folder / 'config.toml'}: must have {missing[0]}, as finetune --out writes it, and has not; fine-tune again"
        )
    if not (folder / "metrics.csv").is_file():
        raise ValueError(
            f"{folder / 'metrics.csv'}: no such file; start the same finetune command again, which measures again"
        )
    return Run(folder, config, manifest, read_metrics(folder / "metrics.csv"))
