"""Writing a run folder: every file whole or not there, the newest resumable state, and no run mixed with another."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from transfer_risk.evaluation import Measure
from transfer_risk.files import digest, explained, path_from, read_json, stale, write_text, written
from transfer_risk.recipes import Recipe
from transfer_risk.runs import input_files
from transfer_risk.runtables import Stage, log_text, metrics_text
from transfer_risk.sources import Source
from transfer_risk.tasks import Task
from transfer_risk.tomlfiles import read_toml

PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel")


@dataclass(frozen=True, eq=False)
class RunFolder:
    """A run that is being written.

    Args:
        path: Its folder.
        config: Table of config.toml.
        inputs: SHA-256 by path of task, source, images and labels.
    """

    path: Path
    config: dict[str, Any]
    inputs: dict[str, str]

    @classmethod
    def of(
        cls, path: str | Path, source: Source, task: Task, recipe: Recipe, *, resume: bool = False
    ) -> RunFolder:
        """A new folder, of which nothing is written yet, or one that was begun with the same configuration and inputs.

        Raises:
            ValueError: if task or source are no files, the folder holds something else, another configuration (the first
                difference is named) or changed inputs, or `resume` finds nothing to go on with.
        """
        folder = Path(path)
        if resume and not (folder / "config.toml").is_file():
            raise ValueError(f"{folder}: has no config.toml; there is nothing to resume")
        for name, kind in ((task.path, "task"), (source.path, "source")):
            if not name:
                raise ValueError(
                    f"{kind} must have been loaded from a file to be recorded in a run folder; save it, load it, or leave "
                    "out away"
                )
        config: dict[str, Any] = {
            "format": 1,
            "task": _relative(task.path, folder),
            "source": _relative(source.path, folder),
            **asdict(recipe),
        }
        result = cls(folder, config, _hashes(source, task))
        result._check()
        return result

    def _check(self) -> None:
        if not self.begun:
            others = [p for p in self.path.glob("*") if not stale(p)]
            if others == [self.path / "manifest.json"]:
                self.manifest()  # of a run that was killed as it began, or an error
            elif others:
                raise ValueError(f"{self.path}: is not empty and no run; choose another --out")
            return
        old = read_toml(self.path / "config.toml")
        for key in dict.fromkeys((*old, *self.config)):
            if old.get(key) != self.config.get(key):
                raise ValueError(
                    f"{self.path}: is a run with {key} = {old.get(key)!r}, not {self.config.get(key)!r}; choose another "
                    "--out, or the same options to resume it"
                )
        inputs = self.manifest()["inputs"]
        for name in dict.fromkeys((*inputs, *self.inputs)):
            if self.inputs.get(name) != inputs.get(name):
                raise ValueError(
                    f"{self.path}: {name} has changed since the run began; choose another --out"
                )

    def begin(self) -> None:
        """Write manifest and configuration if there are none, and remove what a kill left half-written."""
        import tomli_w

        for path in self.path.rglob(".*"):
            if stale(path):
                path.unlink()
        if not self.begun:
            self.write_manifest({"finished": False})
            write_text(self.path / "config.toml", tomli_w.dumps(self.config))

    @property
    def begun(self) -> bool:
        """Whether there is a run in the folder; config.toml is written after manifest.json."""
        return (self.path / "config.toml").is_file()

    @property
    def finished(self) -> bool:
        """Whether everything is there."""
        return self.begun and bool(self.manifest()["finished"])

    def manifest(self) -> dict[str, Any]:
        """Content of manifest.json."""
        path = self.path / "manifest.json"
        try:
            with explained(path):
                content: dict[str, Any] = read_json(path)
                if not isinstance(content["finished"], bool) or not isinstance(
                    content["inputs"], dict
                ):
                    raise ValueError("finished must be true or false, and inputs a table")
        except ValueError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path}: is no manifest ({reason}); choose another --out") from None
        return content

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        """Write manifest.json: the content, versions and input hashes."""
        versions = {name: version(name) for name in PACKAGES} | {
            "python": platform.python_version(),
            "transfer-risk": version("transfer-risk"),
        }
        table = {
            "format": 1,
            "seed": self.config["seed"],
            "threads": torch.get_num_threads(),
            "versions": versions,
            "inputs": self.inputs,
            **content,
        }
        write_text(self.path / "manifest.json", json.dumps(table, indent=2) + "\n")

    def write_state(self, state: Mapping[str, Any]) -> None:
        """Replace the resumable state."""
        content = io.BytesIO()  # torch's own writer answers a full disk with an internal error
        torch.save(dict(state), content)
        with written(self.path / "checkpoint" / "state.pt") as temporary:
            Path(temporary).write_bytes(content.getbuffer())

    def read_state(self) -> dict[str, Any] | None:
        """The newest resumable state; None where there is none."""
        path = self.path / "checkpoint" / "state.pt"
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
        except Exception as error:  # torch, zipfile and pickle raise many kinds for a damaged file
            raise ValueError(
                f"{path}: is damaged ({type(error).__name__}: {error}); remove {path.parent}, and the run begins anew"
            ) from None
        return state

    def write_log(self, rows: Sequence[tuple[float, ...]]) -> None:
        """Write log.csv."""
        write_text(self.path / "log.csv", log_text(rows))

    def write_metrics(self, stages: Mapping[Stage, Sequence[Measure]]) -> None:
        """Write metrics.csv."""
        write_text(self.path / "metrics.csv", metrics_text(stages))


def _relative(path: str, folder: Path) -> str:
    """From the folder; a link stays the link, since what a task file says is relative to where it was found."""
    place = Path(path).parent.resolve() / Path(path).name
    return path_from(folder.resolve(), place)


def _hashes(source: Source, task: Task) -> dict[str, str]:
    """SHA-256 by name of everything that goes in: the task file, the source, each case's images and label."""
    found = {"task": Path(task.path), **input_files(task.cases)}
    digests = {path: digest(path) for path in set(found.values())}  # 4D: one of many channels
    return _source_hashes(source) | {name: digests[path] for name, path in found.items()}


def _source_hashes(source: Source) -> dict[str, str]:
    """SHA-256 of a source as it was loaded, wherever its files lie: its weights, and what else is known of it."""
    weights = hashlib.sha256()
    for name, tensor in sorted(source.network.state_dict().items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    left = ("name", "network", "prepare", "stored", "path", "notes", "trained", "licence")
    known = {f.name: getattr(source, f.name) for f in fields(source) if f.name not in left}
    described = hashlib.sha256(repr(sorted(known.items())).encode())
    return {
        "source/weights": weights.hexdigest(),
        "source/description": described.hexdigest(),
    }
