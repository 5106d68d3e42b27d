"""A small nnU-Net raw folder of blobs whose brightness depends on the class, and sources for it."""

import json

import nibabel as nib
import numpy as np
import torch

import transfer_risk as tr

SHAPE = (14, 12, 6)


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([1, 1, 2, 1]) if affine is None else affine), path)


def write_dataset(root, *, cases=5, classes=("a", "b"), seed=0):
    """An nnU-Net raw folder with blobs whose brightness depends on the class."""
    rng = np.random.default_rng(seed)
    for k in range(cases):
        smooth = (
            rng.normal(size=(SHAPE[0] // 2, SHAPE[1] // 2, SHAPE[2] // 2))
            .repeat(2, 0)
            .repeat(2, 1)
            .repeat(2, 2)
        )
        labels = np.digitize(smooth, np.linspace(0.2, 1.2, len(classes))).astype(np.uint8)
        image = (10 * labels + 100 + rng.normal(scale=6, size=SHAPE)).astype(np.float32)
        save(root / "imagesTr" / f"case_{k}_0000.nii.gz", image)
        save(root / "labelsTr" / f"case_{k}.nii.gz", labels)
    describe(root, classes, cases)


def describe(root, classes, cases):
    """Write the dataset.json of a folder with T1 images of these foreground classes."""
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0} | {c: i + 1 for i, c in enumerate(classes)},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))


def make_source(classes=("background", "a", "b"), name="source", seed=0, **preprocessing):
    torch.manual_seed(seed)
    network = tr.UNet(1, len(classes), width=4, depth=2).eval()
    architecture = {"target": "unet", "width": 4, "depth": 2}
    return tr.Source(
        name,
        network,
        tuple(classes),
        ("T1",),
        architecture=architecture,
        preprocessing=tr.Preprocessing(**preprocessing),
    )
