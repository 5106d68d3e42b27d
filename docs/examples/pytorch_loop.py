"""The risk-weighted loss in a plain PyTorch loop, on arrays; writes loss.csv.

Everything that is transfer-risk's stands in `transferability` and `train`; the rest makes arrays and a source to start from.
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
from functools import reduce
from operator import add
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import transfer_risk as tr

SIZES = {"smoke": (6.0, 3, 20, 5), "quick": (3.0, 6, 200, 100), "full": (2.0, 8, 600, 500)}
"""Millimetres, cases, steps of pretraining, steps of this loop."""


def transferability(source: tr.Source, images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """T (N, *S) of the training images in nats, with one joint of them all; NaN where a label is -1.

    Args:
        source: Its network takes the images as they are.
        images: (N, C, *S), of the training set alone: weights from test labels would leak.
        labels: (N, *S), -1 where ignored.
        classes: Y.
    """
    batches = list(zip(images.split(8), labels.split(8), strict=True))
    thetas = [source.predict(x) for x, _ in batches]
    joint = reduce(
        add, (tr.Joint.of(p, y, classes) for p, (_, y) in zip(thetas, batches, strict=True))
    )
    maps = [
        tr.log_expected_prediction(p, y, joint) for p, (_, y) in zip(thetas, batches, strict=True)
    ]
    return torch.cat(maps)


def train(network: torch.nn.Module, data: TensorDataset, steps: int) -> list[float]:
    """Loss of each step."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    loader = DataLoader(data, batch_size=8, shuffle=True)
    losses: list[float] = []
    network.train()
    while len(losses) < steps:
        for images, labels, values in loader:
            span = tr.Span.of(values, per_image=True)  # hardness 0 to 1 in each image
            risk = tr.RiskMap(values, span).risk  # 1 to 10, 0 where ignored
            loss = tr.risk_weighted_loss(network(images), labels, risk)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses[:steps]


def arrays(folder: Path, cases: list[str], channel: int, value: int) -> tuple[Tensor, Tensor]:
    """Slices (N, 1, h, w) with brain, z-scored over it, and labels (N, h, w): 1 where the raw label is `value`."""
    images, labels = [], []
    for case in cases:
        image = nib.load(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz").get_fdata()
        label = nib.load(folder / "labelsTr" / f"{case}.nii.gz").get_fdata()
        brain = image != 0
        image[brain] = (image[brain] - image[brain].mean()) / image[brain].std()
        used = brain.any((0, 1))
        images.append(np.moveaxis(image, 2, 0)[used, None])
        labels.append(np.moveaxis(label == value, 2, 0)[used])
    return (
        torch.from_numpy(np.concatenate(images)).float(),
        torch.from_numpy(np.concatenate(labels)).long(),
    )


def main() -> None:
    """Grey matter on T1 from a source that knows it on T2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--out", type=Path, default=Path("pytorch_loop"))
    options = parser.parse_args()
    spacing, number, pretraining, steps = SIZES[options.size or "full"]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = tr.write_tissue_cohort(scratch, cases=number, spacing=spacing)
        paths = tr.write_tasks(folder, Path(scratch) / "tasks", binary=True)
        tasks = {t.name: t for t in map(tr.load_task, paths)}
        source = tr.pretrain(tasks["tissue-gm-t2"], width=8, depth=3, iterations=pretraining)
        training = [c.id for c in tasks["tissue-gm-t1"].split("train")]
        images, labels = arrays(folder, training, channel=0, value=2)
    values = transferability(source, images, labels, classes=2)
    print(f"LEEP of {source.name} on the training images: {values.nanmean():.4f} nats")
    student = copy.deepcopy(source.network)
    losses = train(student, TensorDataset(images, labels, values), steps)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "loss.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "loss"), *enumerate(losses)])


if __name__ == "__main__":
    main()
