"""A finished run folder as fine-tuning leaves it, from arrays; for tests of what reads run folders."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import tomli_w
from blob_folder import SHAPE, write_dataset

import transfer_risk as tr
from transfer_risk.imagefiles import write
from transfer_risk.volumes import read

LOG = ["iteration", "loss", "lr", "fg_share", "seconds"]
METRICS = ["case", "class", "stage", "dice", "hd95", "recall", "precision"]


def measure(predicted, labels, k):
    """Dice, HD95 (left unknown), recall and precision of class k, empty where unknown."""
    a, b = predicted == k, labels == k
    both = (a & b).sum()
    ratio = lambda x, y: x / y if y else ""  # noqa: E731
    return ratio(2 * both, a.sum() + b.sum()), "", ratio(both, b.sum()), ratio(both, a.sum())


def write_run(
    path, task_path, stages, *, method="vanilla", scratch=False, iterations=40, cases=None
):
    """Write a run.

    Args:
        path: Folder.
        task_path: Task file.
        stages: Transferability and predicted classes by stage and case id, (X, Y, Z) each.
        method: Name of the loss.
        scratch: Whether it started from random weights.
        iterations: Rows of log.csv.
        cases: Test cases; those of `stages` where not given.
    """
    path, task = Path(path), tr.load_task(task_path)
    path.mkdir(parents=True)
    ids = cases or list(stages["after"])
    config = {
        "format": 1,
        "task": os.path.relpath(task_path, path),
        "source": "../source",
        "method": method,
        "init": "random" if scratch else "source",
        "iterations": iterations,
        "seed": 0,
    }
    (path / "config.toml").write_text(tomli_w.dumps(config))
    manifest = {
        "format": 1,
        "finished": True,
        "cases": {"train": [], "validation": [], "test": ids},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    rng = np.random.default_rng(0)
    with open(path / "log.csv", "w", newline="") as file:
        log = csv.writer(file)
        log.writerow(LOG)
        for i in range(1, iterations + 1):
            loss = 0.2 + np.exp(-i / iterations * 5) + 0.1 * rng.random()
            log.writerow([i, loss, 1e-4, 0.2 + 0.05 * rng.random(), 0.1 * i])
    with open(path / "metrics.csv", "w", newline="") as file:
        metrics = csv.writer(file)
        metrics.writerow(METRICS)
        for stage, maps in stages.items():
            for case in (c for c in task.cases if c.id in maps):
                values, predicted = maps[case.id]
                volume = read(case, task, every_slice=True)
                for what, array in (
                    ("transferability", values.astype(np.float32)),
                    ("prediction", predicted.astype(np.int16)),
                ):
                    write(path / "maps" / stage / f"{case.id}_{what}.nii.gz", array, volume.affine)
                for k, name in enumerate(task.classes[1:], start=1):
                    metrics.writerow([case.id, name, stage, *measure(predicted, volume.labels, k)])
    return path


def make_task(root, *, cases=14, classes=("a", "b"), name="data"):
    write_dataset(root / name, cases=cases, classes=classes)
    return tr.write_tasks(root / name, root / "tasks")[0]


def stage(task, *, wrong, seed, low=-3.0):
    """Random maps, and predictions with that share of the voxels replaced."""
    rng = np.random.default_rng(seed)
    maps = {}
    for case in task.split("test"):
        labels = read(case, task).labels
        other = rng.integers(0, len(task.classes), size=SHAPE)
        predicted = np.where(rng.random(SHAPE) < wrong, other, labels)
        maps[case.id] = (low * rng.random(SHAPE), predicted)
    return maps
