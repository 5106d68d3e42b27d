"""Risk maps that follow image and label through MONAI's spatial augmentation; writes loss.csv.

`transfer-risk map TASK SOURCE --split train --in-sample --out maps` wrote the maps that `tr.write_maps` writes here.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset
from monai.networks.nets import BasicUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    RandAffined,
    RandFlipd,
    RandSpatialCropd,
    SpatialPadd,
)
from torch import Tensor

import transfer_risk as tr

SIZES = {"smoke": (6.0, 3, 20, 4), "quick": (3.0, 6, 200, 100), "full": (2.0, 8, 600, 500)}
"""Millimetres, cases, steps of pretraining, steps of this loop."""
KEYS = ("image", "label", "risk")


def pipeline(patch: tuple[int, ...]) -> Compose:
    """Transforms of dictionaries with the files of image, label and risk, which lie on one grid."""
    return Compose(
        [
            LoadImaged(KEYS),
            EnsureChannelFirstd(KEYS),
            NormalizeIntensityd("image", nonzero=True),
            SpatialPadd(KEYS, patch),  # risk 0: what is padded is ignored
            RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            RandAffined(
                KEYS,
                prob=1.0,
                rotate_range=0.3,
                scale_range=0.1,
                mode=("bilinear", "nearest", "nearest"),  # the risk moves as the label does
                padding_mode="zeros",
            ),
            RandSpatialCropd(KEYS, patch, random_size=False),
        ]
    )


def target(batch: dict[str, Tensor], value: int) -> tuple[Tensor, Tensor]:
    """Labels (B, *S), 1 for the raw value and -1 where the risk is 0, and risk (B, *S) of a batch."""
    risk = batch["risk"][:, 0].as_tensor()
    labels = (batch["label"][:, 0].as_tensor() == value).long()
    return labels.masked_fill(risk == 0, -1), risk


def train(files: list[dict[str, str]], steps: int, value: int) -> Iterator[float]:
    """Loss of each step."""
    loader = DataLoader(Dataset(files, pipeline((32, 32, 16))), batch_size=2, shuffle=True)
    network = BasicUNet(3, 1, 2, features=(4, 4, 8, 8, 8, 4))
    loss_function = tr.RiskWeightedLoss()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    done = 0
    while done < steps:
        for batch in loader:
            labels, risk = target(batch, value)
            loss = loss_function(network(batch["image"].as_tensor()), labels, risk)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done += 1
            yield loss.item()


def main() -> None:
    """Grey matter on T1, weighted by the risk of a source that knows it on T2."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--out", type=Path, default=Path("monai_pipeline"))
    options = parser.parse_args()
    spacing, number, pretraining, steps = SIZES[options.size or "full"]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = tr.write_tissue_cohort(scratch, cases=number, spacing=spacing)
        paths = tr.write_tasks(folder, Path(scratch) / "tasks", binary=True)
        tasks = {t.name: t for t in map(tr.load_task, paths)}
        source = tr.pretrain(tasks["tissue-gm-t2"], width=8, depth=3, iterations=pretraining)
        task, maps = tasks["tissue-gm-t1"], Path(scratch) / "maps"
        cases = task.split("train")
        tr.write_maps(source, task, maps, cases=cases, in_sample=True)
        files = [
            {"image": c.images[0], "label": c.label, "risk": str(maps / f"{c.id}_risk.nii.gz")}
            for c in cases
        ]
        losses = list(train(files, steps, value=task.labels["gm"][0]))[:steps]
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "loss.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("step", "loss"), *enumerate(losses)])


if __name__ == "__main__":
    main()
