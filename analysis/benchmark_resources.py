"""What scoring costs besides the network: time share, memory and start-up; writes results/benchmark_resources.csv.

- share: LEEP and maps, and all that is neither reading nor a forward pass (all_scores_share), as shares of a float32
  scoring run of a U-Net of width 16, slices of 192 x 160;
- memory: growth of the peak from few to many slices, beside the cache budget; both processes run equally many forward
  passes, since the C library's allocator takes some tens of MiB more while it warms up;
- help: `transfer-risk --help` against an empty rich-click application with as many commands.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import torch

import transfer_risk as tr
from transfer_risk import study

SIZES = {  # slices of a case, cases for the share; few and many cases for memory; repeats of --help
    "smoke": (2, 2, (2, 4), 2),
    "quick": (10, 4, (2, 40), 7),
    "full": (10, 10, (1, 100), 15),
}
SHAPE = (192, 160)
CACHE = 64 * 2**20
EMPTY = """
import rich_click as click
@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option("0", package_name="transfer-risk")
def main():
    "An application."
for name in %r:
    main.command(name, help="Do something.")(lambda: None)
main()
"""


def write_cases(folder: Path, cases: int, slices: int) -> tr.Task:
    """A task of noise images with blob labels, for cost alone."""
    rng = np.random.default_rng(0)
    made = []
    for k in range(cases):
        image = rng.normal(100, 10, (*SHAPE, slices)).astype(np.float32)
        label = (image > 110).astype(np.uint8)
        paths = [str(folder / f"{k}_{name}.nii.gz") for name in ("image", "label")]
        for path, data in zip(paths, (image, label), strict=True):
            nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        made.append(tr.Case(f"c{k}", (paths[0],), paths[1]))
    return tr.Task("cost", ("background", "blob"), ("T1",), tuple(made))


def make_source() -> tr.Source:
    """An untrained U-Net of width 16 and depth 5."""
    torch.manual_seed(0)
    network = tr.UNet(1, 2, width=16, depth=5).to(memory_format=torch.channels_last)
    return tr.Source("cost", network, ("background", "blob"), ("T1",))


def share(slices: int, cases: int) -> dict[str, float]:
    """Seconds of a scoring run, of its forward passes and reading alone, and the rest as a share."""
    from transfer_risk.passes import Predictions

    source = make_source()
    with tempfile.TemporaryDirectory() as folder:
        task = write_cases(Path(folder), cases, slices)
        list(Predictions(source, task, task.cases[:1]))  # warm-up
        start = time.perf_counter()
        predictions = Predictions(source, task, task.cases)
        batches = list(predictions)
        forward = time.perf_counter() - start
        start = time.perf_counter()
        joint = tr.Joint.of(batches[0][1], batches[0][2], 2)
        for _, theta, labels in batches[1:]:
            joint = joint + tr.Joint.of(theta, labels, 2)
        for _, theta, labels in batches:
            tr.log_expected_prediction(theta, labels, joint)
        maths = time.perf_counter() - start
        start = time.perf_counter()
        tr.score(source, task, cases=task.cases)
        whole = time.perf_counter() - start
    return {
        "run_s": whole,
        "read_and_forward_s": forward,
        "leep_and_map_s": maths,
        "leep_and_map_share": maths / whole,
        "all_scores_share": 1 - forward / whole,
    }


def peak(slices: int, cases: int, repeats: int) -> float:
    """Peak memory in MiB of a process that scores the same cases `repeats` times."""
    command = [sys.executable, __file__, "--peak", str(slices), str(cases), str(repeats)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(slices: int, cases: int, repeats: int) -> None:
    """Score and print this process's peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        task = write_cases(Path(folder), cases, slices)
        for _ in range(repeats):
            tr.score(make_source(), task, cases=task.cases, cache=CACHE)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def help_ratio(repeats: int) -> dict[str, float]:
    """Median seconds of `--help`, interleaved with those of an empty application."""
    from transfer_risk.cli import main as application

    ours = [sys.executable, "-c", "from transfer_risk.cli import main; main()", "--help"]
    empty = [sys.executable, "-c", EMPTY % list(application.commands), "--help"]
    seconds: dict[str, list[float]] = {"help_s": [], "empty_s": []}
    for _ in range(repeats):
        for name, command in (("help_s", ours), ("empty_s", empty)):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return medians | {"help_ratio": medians["help_s"] / medians["empty_s"]}


def main() -> None:
    """Run at the asked size, print and write the figures."""
    options = study.program_options(
        __doc__, {"--peak": {"nargs": 3, "type": int, "help": argparse.SUPPRESS}}
    )
    if options.peak:
        print_peak(*options.peak)
        return
    slices, cases, (few, many), repeats = SIZES[options.size]
    low, high = peak(slices, few, many // few), peak(slices, many, 1)
    figures = share(slices, cases) | {
        "few_slices": few * slices,
        "many_slices": many * slices,
        "growth_mib": high - low,
        "cache_mib": CACHE / 2**20,
    }
    figures |= help_ratio(repeats)
    study.write_table(pd.DataFrame([figures]), options.out / "benchmark_resources.csv")
    print(json.dumps({k: float(f"{v:.4g}") for k, v in figures.items()}, indent=2))


if __name__ == "__main__":
    study.run_program(main)
