"""Peak memory of scoring, mapping and predicting 3D cases in windows; writes results/benchmark_memory.csv.

`ratio` is the peak beyond imports and one window's forward pass, over the case's float32 probabilities; for one case and
for many. Each figure is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

import transfer_risk as tr
from transfer_risk import study

SIZES = {  # shape of a case, window, channels, numbers of cases, what is done
    "smoke": ((48, 48, 31), (32, 32, 32), (1,), (2,), ("score",)),
    "quick": ((240, 240, 155), (96, 96, 96), (1,), (1, 3), ("score", "map", "predict")),
    "full": ((240, 240, 155), (96, 96, 96), (1, 4), (1, 20), ("score", "map", "predict")),
}
CLASSES = ("background", "a", "b", "c")
CACHE = 2**33  # bytes on disk: no case is predicted twice


def write_case(folder: Path, shape: tuple[int, ...], channels: int) -> None:
    """Noise images and a label by brightness, for cost alone."""
    rng = np.random.default_rng(0)
    for k in range(channels):
        image = rng.normal(100, 10, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"channel{k}.nii.gz")
    label = np.digitize(image, [105, 110, 120]).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "label.nii.gz")


def task_of(folder: Path, channels: int, cases: int) -> tr.Task:
    """A task in which every case is the same files."""
    names = tuple(f"channel{k}" for k in range(channels))
    images = tuple(str(folder / f"{name}.nii.gz") for name in names)
    made = tuple(tr.Case(f"c{k}", images, str(folder / "label.nii.gz")) for k in range(cases))
    return tr.Task("memory", CLASSES, names, made)


def make_source(window: tuple[int, ...], names: tuple[str, ...]) -> tr.Source:
    """A small untrained 3D U-Net of MONAI."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, len(names), len(CLASSES), (4, 8), (2,)).eval()
    seen = tr.Preprocessing(size=window)
    return tr.Source("memory", network, CLASSES, names, spatial_dims=3, preprocessing=seen)


def print_peak(folder: Path, size: str, what: str, channels: int, cases: int) -> None:
    """Do one thing and print this process's peak memory in MiB; `window` is a single forward pass."""
    from monai.inferers.utils import sliding_window_inference  # noqa: F401  (an import, like the others)

    window = SIZES[size][1]
    task = task_of(folder, channels, cases)
    source = make_source(window, task.channels)
    source.predict(torch.rand(1, channels, *window))
    if what == "score":
        tr.score(source, task, cases=task.cases, cache=CACHE)
    elif what == "map":
        with tempfile.TemporaryDirectory() as out:
            tr.write_maps(source, task, out, cases=task.cases, cache=CACHE)
    elif what == "predict":
        for case in task.cases:
            tr.predict(source, case.images)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(folder: Path, size: str, what: str, channels: int, cases: int) -> float:
    """Peak memory in MiB of a process that does one thing."""
    command = [sys.executable, __file__, "--peak", str(folder), size, what, str(channels)]
    made = subprocess.run([*command, str(cases)], capture_output=True, text=True, check=True)
    return float(made.stdout.splitlines()[-1])


def measure(size: str, channels: int) -> list[dict[str, object]]:
    """Rows of the table for cases of so many channels."""
    shape, _, _, numbers, things = SIZES[size]
    case_mib = len(CLASSES) * 4 * float(np.prod(shape)) / 2**20
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), shape, channels)
        window = peak(Path(folder), size, "window", channels, 1)
        for what in things:
            for cases in numbers:
                beyond = peak(Path(folder), size, what, channels, cases) - window
                row = {"what": what, "channels": channels, "cases": cases, "case_mib": case_mib}
                rows.append(row | {"beyond_mib": beyond, "ratio": beyond / case_mib})
                print(rows[-1])
    return rows


def main() -> None:
    """Run at the asked size, print and write the figures."""
    options = study.program_options(__doc__, {"--peak": {"nargs": 5, "help": argparse.SUPPRESS}})
    if options.peak:
        folder, size, what, channels, cases = options.peak
        print_peak(Path(folder), size, what, int(channels), int(cases))
        return
    size = options.size
    rows = [row for channels in SIZES[size][2] for row in measure(size, channels)]
    study.write_table(pd.DataFrame(rows), options.out / "benchmark_memory.csv")


if __name__ == "__main__":
    study.run_program(main)
