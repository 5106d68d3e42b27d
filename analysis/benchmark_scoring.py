"""LEEP and map against both common ways, in one run on one thread; writes results/benchmark_scoring.csv.

(i)  `matmul`: float32 one-hot matrix product over the whole (N, K) array.
(ii) `loop`: a Python loop with a boolean mask per class and column-wise float32 sums.
A last line shows the relative error of the score at many pixels beside a float32 running sum.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import transfer_risk as tr
from transfer_risk import study

SIZES = {  # pixels, repeats, pixels of the exactness line
    "smoke": ([10_000], 2, 100_000),
    "quick": ([1_000_000], 5, 10_000_000),
    "full": ([1_000_000, 10_000_000], 7, 100_000_000),
}
Score = Callable[[Tensor, Tensor], tuple[float, Tensor]]


def matmul(theta: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """LEEP and map (N,) from probabilities (N, K) by one-hot products."""
    hot = torch.nn.functional.one_hot(labels, theta.shape[1]).float()
    joint = hot.T @ theta
    values = torch.log(((joint / joint.sum(0))[labels] * theta).sum(1))
    return float(values.mean()), values


def loop(theta: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """LEEP and map (N,) from probabilities (N, K) by a mask for each class."""
    masks = [labels == k for k in range(theta.shape[1])]
    joint = torch.stack([theta[mask].sum(0) for mask in masks])
    conditional = joint / joint.sum(0)
    values = torch.empty(len(labels))
    for mask, row in zip(masks, conditional, strict=True):
        values[mask] = torch.log(theta[mask] @ row)
    return float(values.mean()), values


def library(theta: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """LEEP and map (1, N) from probabilities (1, K, N) by this package."""
    joint = tr.Joint.of(theta, labels, theta.shape[1])
    values = tr.log_expected_prediction(theta, labels, joint)
    return float(values.sum(dtype=torch.float64)) / labels.numel(), values


def compare(pixels: int, classes: int, repeats: int) -> dict[str, float]:
    """Median seconds of each way, interleaved, and ratios to the library."""
    generator = torch.Generator().manual_seed(0)
    theta = (2 * torch.randn(pixels, classes, generator=generator)).softmax(1)
    labels = torch.randint(0, classes, (pixels,), generator=generator)
    first, batch = theta.T.contiguous()[None], labels[None]
    ways: dict[str, tuple[Score, Tensor, Tensor]] = {
        "matmul": (matmul, theta, labels),
        "loop": (loop, theta, labels),
        "library": (library, first, batch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, (way, p, y) in ways.items():
            start = time.perf_counter()
            way(p, y)
            if repeat:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    row = {"pixels": pixels, "classes": classes} | {f"{n}_s": s for n, s in medians.items()}
    return row | {f"{n}_ratio": medians[n] / medians["library"] for n in ("matmul", "loop")}


def exactness(pixels: int, *, piece: int = 1_000_000) -> dict[str, float]:
    """Relative errors of the score at many pixels of two classes: the library's and a float32 running sum's.

    The reference is the same data in float64, piece by piece.
    """

    def pieces() -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(1)
        theta = torch.randn(1, 2, piece, generator=generator).mul_(2).softmax(1)
        labels = (torch.rand(1, piece, generator=generator) < theta[:, 1]).long()
        return [(theta, labels)] * max(pixels // piece, 1)

    total, exact = 0.0, 0.0
    joint, reference = (tr.Joint(torch.zeros(2, 2)) for _ in range(2))
    running = torch.zeros(2, 2)
    for theta, labels in pieces():
        joint = joint + tr.Joint.of(theta, labels, 2)
        reference = reference + tr.Joint.of(theta.double(), labels, 2)
        for y in range(2):  # each pixel added to what is there, in float32
            for z, column in enumerate(theta[0][:, labels[0] == y]):
                running[y, z] = running_sum(running[y, z], column)
    sum32 = torch.zeros(())
    for theta, labels in pieces():
        total += float(tr.log_expected_prediction(theta, labels, joint).sum(dtype=torch.float64))
        exact += float(tr.log_expected_prediction(theta.double(), labels, reference).sum())
        values = tr.log_expected_prediction(theta, labels, tr.Joint(running))[0]
        sum32 = running_sum(sum32, values)
    return {
        "pixels": max(pixels // piece, 1) * piece,
        "library_error": abs(total / exact - 1),
        "float32_running_error": abs(float(sum32) / exact - 1),
    }


def running_sum(start: Tensor, values: Tensor) -> Tensor:
    """Sum of values (n,) onto a start, one after another in float32; torch's own sums are better than that."""
    return torch.from_numpy(np.cumsum(np.append(start.numpy(), values.numpy()), dtype=np.float32))[
        -1
    ]


def main() -> None:
    """Run at the asked size, print, and write the tables."""
    options = study.program_options(__doc__)
    torch.set_num_threads(1)
    sizes, repeats, many = SIZES[options.size]
    rows = [compare(pixels, classes, repeats) for pixels in sizes for classes in (2, 4, 21)]
    table = pd.DataFrame(rows)
    study.write_table(table, options.out / "benchmark_scoring.csv")
    print(table.to_string(index=False, float_format="{:.4g}".format))
    errors = exactness(many, piece=min(1_000_000, many))
    study.write_table(pd.DataFrame([errors]), options.out / "exactness.csv", digits="%.3g")
    print(
        f"\nrelative error at {errors['pixels']:,} pixels: library {errors['library_error']:.1e}, ",
        end="",
    )
    print(f"float32 running sum {errors['float32_running_error']:.1e}")


if __name__ == "__main__":
    study.run_program(main)
