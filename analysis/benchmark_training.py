"""Seconds per iteration of frozen-encoder fine-tuning against the plain loop; writes results/benchmark_training.csv.

- plain: contiguous float32, the frozen encoder run without gradients in each step, cross-entropy, Adam;
- library: `fit` with its cached encoder features, channels last, the risk-weighted loss; float32 and bfloat16;
- bare: forward, loss, backward and optimiser step of the library alone, on one batch; the rest of `fit` is its overhead.

The ways take turns, so that a machine whose speed drifts treats them alike; medians over rounds.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

import transfer_risk as tr
from transfer_risk import study
from transfer_risk.features import Features
from transfer_risk.fitting import State, fit
from transfer_risk.heads import freeze, training_mode
from transfer_risk.objectives import Objective
from transfer_risk.samples import Samples

SIZES = {  # widths, slices, steps of a round, rounds
    "smoke": ((4,), 8, 2, 2),
    "quick": ((16,), 64, 5, 5),
    "full": ((16, 32), 64, 5, 7),
}
SHAPE, BATCH, DEPTH = (144, 192), 8, 5


def make_samples(slices: int) -> Samples:
    """Noise slices with blob labels and some transferability, for cost alone."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(slices, 1, *SHAPE)).astype(np.float32)
    labels = (images[:, 0] > 1).astype(np.int16)
    values = -rng.random((slices, *SHAPE)).astype(np.float32)
    return Samples((images,), (labels,), (values,), ("noise",), SHAPE)


def make_network(width: int) -> tr.UNet:
    """A U-Net whose encoder is frozen."""
    torch.manual_seed(0)
    network = tr.UNet(1, 2, width=width, depth=DEPTH)
    freeze(network, r"^encoder\.")
    return network


class Plain:
    """The loop that one would write first."""

    def __init__(self, network: tr.UNet, samples: Samples) -> None:
        self.network, self.samples = network, samples
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=1e-4)
        self.rng = np.random.default_rng(0)

    def run(self, steps: int) -> None:
        """Train some steps."""
        training_mode(self.network)
        for _ in range(steps):
            batch = self.samples.draw(BATCH, self.rng)
            with torch.no_grad():
                features = self.network.encode(batch.images.contiguous())
            loss = functional.cross_entropy(self.network.decode(features), batch.labels)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            loss.item()


class Library:
    """`fit`, going on from where it was, and its arithmetic alone."""

    def __init__(self, network: tr.UNet, samples: Samples, precision: str) -> None:
        network = network.to(memory_format=torch.channels_last)
        self.student = tr.Source("cost", network, ("background", "blob"), ("T1",))
        self.samples, self.precision = samples, precision
        recipe = self.recipe(1)
        self.state = State.of(network, Objective.of(recipe, samples, 2), recipe)
        features = Features.of(self.student, samples, recipe)
        assert features is not None
        self.features = features
        self.fixed = samples.batch(np.arange(BATCH))

    def recipe(self, iterations: int) -> tr.Recipe:
        """Options up to some iteration."""
        return tr.Recipe(iterations=iterations, batch=BATCH, precision=self.precision)

    def run(self, steps: int) -> None:
        """Train some steps; the features are computed before the first one only."""
        done = len(self.state.log)
        fit(
            self.state,
            self.student,
            self.samples,
            self.recipe(done + steps),
            features=self.features,
        )

    def bare(self, steps: int) -> None:
        """Forward, loss, backward and optimiser step on one batch, nothing else."""
        training_mode(self.student.network)
        half = self.precision == "bf16"
        for _ in range(steps):
            self.state.optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = self.features.logits(self.fixed)
            loss = self.state.objective.loss(logits.float(), self.fixed)
            loss.backward()  # type: ignore[no-untyped-call]
            self.state.optimiser.step()
            loss.item()


def compare(width: int, slices: int, steps: int, rounds: int) -> dict[str, Any]:
    """Median seconds per step of each way, and ratios."""
    samples = make_samples(slices)
    network = make_network(width)
    plain = Plain(copy.deepcopy(network), samples)
    fp32 = Library(copy.deepcopy(network), samples, "fp32")
    bf16 = Library(copy.deepcopy(network), samples, "bf16")
    ways = {"plain": plain.run, "fp32": fp32.run, "bf16": bf16.run, "bare": fp32.bare}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(steps)
            if number:  # the first is a warm-up
                seconds[name].append((time.perf_counter() - start) / steps)
    ratios = {
        f"{name}_ratio": statistics.median(
            p / own for p, own in zip(seconds["plain"], seconds[name], strict=True)
        )
        for name in ("fp32", "bf16")
    }
    overhead = statistics.median(
        1 - b / f for b, f in zip(seconds["bare"], seconds["fp32"], strict=True)
    )
    medians = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
    return {"width": width} | medians | ratios | {"overhead_share": overhead}


def main() -> None:
    """Run at the asked size, print and write the table."""
    options = study.program_options(__doc__)
    widths, slices, steps, rounds = SIZES[options.size]
    table = pd.DataFrame([compare(width, slices, steps, rounds) for width in widths])
    table["amx"] = torch.cpu._is_amx_tile_supported()
    table["threads"] = torch.get_num_threads()
    study.write_table(table, options.out / "benchmark_training.csv")
    print(table.to_string(index=False, float_format="{:.4g}".format))
    if not table["amx"].any():
        print("This processor has no AMX; bfloat16 ran without it.")


if __name__ == "__main__":
    study.run_program(main)
