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

SIZES = {  # shape of a case, window, channels, numbers of cases
    "smoke": ((48, 48, 31), (32, 32, 32), (1,), (1, 2)),
    "quick": ((240, 240, 155), (96, 96, 96), (1,), (1, 3)),
    "full": ((240, 240, 155), (96, 96, 96), (1, 4), (1, 20)),
}
CLASSES = ("background", "a", "b", "c")
CACHE = 2**33  # bytes on disk: no case is predicted twice
WHAT = ("score", "map", "predict")


def write_cases(
    folder: Path, cases: int, shape: tuple[int, ...], names: tuple[str, ...]
) -> tr.Task:
    """A task of noise images with labels by brightness, for cost alone; every case is the same files."""
    rng = np.random.default_rng(0)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    paths = [str(folder / f"{name}.nii.gz") for name in (*names, "label")]
    for path in paths[:-1]:
        image = rng.normal(100, 10, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(image, affine), path)
    label = np.digitize(image, [105, 110, 120]).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, affine), paths[-1])
    made = tuple(tr.Case(f"c{k}", tuple(paths[:-1]), paths[-1]) for k in range(cases))
    return tr.Task("memory", CLASSES, names, made)


def make_source(window: tuple[int, ...], names: tuple[str, ...]) -> tr.Source:
    """A small untrained 3D U-Net of MONAI."""
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, len(names), len(CLASSES), (4, 8), (2,)).eval()
    seen = tr.Preprocessing(size=window)
    return tr.Source("memory", network, CLASSES, names, spatial_dims=3, preprocessing=seen)


def print_peak(size: str, what: str, channels: int, cases: int) -> None:
    """Do one thing and print this process's peak memory in MiB; `window` is a single forward pass."""
    from monai.inferers.utils import sliding_window_inference  # noqa: F401  (an import, like the others)

    window = SIZES[size][1]
    names = tuple(f"channel{k}" for k in range(channels))
    source = make_source(window, names)
    source.predict(torch.rand(1, channels, *window))
    if what != "window":
        with tempfile.TemporaryDirectory() as folder:
            task = write_in_a_process(Path(folder), size, names, cases)
            if what == "score":
                tr.score(source, task, cases=task.cases, cache=CACHE)
            elif what == "map":
                maps = Path(folder) / "maps"
                tr.write_maps(source, task, maps, cases=task.cases, cache=CACHE)
            else:
                for case in task.cases:
                    tr.predict(source, case.images)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def write_in_a_process(folder: Path, size: str, names: tuple[str, ...], cases: int) -> tr.Task:
    """The task, whose files were written elsewhere so that writing counts for nothing."""
    command = [sys.executable, __file__, "--write", str(folder), size, str(len(names))]
    subprocess.run(command, check=True)
    files = [str(folder / f"{name}.nii.gz") for name in (*names, "label")]
    made = tuple(tr.Case(f"c{k}", tuple(files[:-1]), files[-1]) for k in range(cases))
    return tr.Task("memory", CLASSES, names, made)


def peak(size: str, what: str, channels: int, cases: int) -> float:
    """Peak memory in MiB of a process that does one thing."""
    command = [sys.executable, __file__, "--peak", size, what, str(channels), str(cases)]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(made.stdout.splitlines()[-1])


def main() -> None:
    """Run at the asked size, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        size, what, channels, cases = options.peak
        print_peak(size, what, int(channels), int(cases))
        return
    if options.write:
        folder, size, channels = options.write
        names = tuple(f"channel{k}" for k in range(int(channels)))
        write_cases(Path(folder), 1, SIZES[size][0], names)
        return
    size = options.size or "full"
    shape, _, channels, numbers = SIZES[size]
    case_mib = len(CLASSES) * 4 * float(np.prod(shape)) / 2**20
    rows = []
    for number in channels:
        window = peak(size, "window", number, 0)
        for what in WHAT:
            for cases in numbers:
                beyond = peak(size, what, number, cases) - window
                row = {"what": what, "channels": number, "cases": cases, "case_mib": case_mib}
                rows.append(row | {"beyond_mib": beyond, "ratio": beyond / case_mib})
                print({k: float(f"{v:.4g}") if k != "what" else v for k, v in rows[-1].items()})
    options.out.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    table.to_csv(options.out / "benchmark_memory.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
