"""Small data folders of each layout, and `tasks` run on them; for tests of layouts."""

import json

import nibabel as nib
import numpy as np
from click.testing import CliRunner

from transfer_risk.cli import main

SHAPE = (4, 4, 2)
LABELS = np.arange(32, dtype=np.uint8).reshape(SHAPE) % 3


def save(path, data, slope=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, np.eye(4))
    if slope:
        image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def pairs(root, images=("a", "b", "c")):
    """A plain folder with these images and the labels of a, b and c."""
    for name in images:
        save(root / "images" / f"{name}.nii.gz", LABELS.astype(np.float32))
    for name in "abc":
        save(root / "labels" / f"{name}.nii.gz", LABELS)
    return root


def nnunet(root, labels=("x", "y"), more=None):
    """An nnU-Net folder of three cases with these classes."""
    for k in range(3):
        save(root / "imagesTr" / f"c{k}_0000.nii.gz", LABELS.astype(np.float32))
        save(root / "labelsTr" / f"c{k}.nii.gz", LABELS)
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0} | {name: k + 1 for k, name in enumerate(labels)},
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description | (more or {})))
    return root


def decathlon(root):
    """A folder of the Medical Segmentation Decathlon with four cases of two channels."""
    training = []
    for k in range(4):
        files = {part: f"./{part}sTr/x{k}.nii.gz" for part in ("image", "label")}
        save(root / files["image"], np.stack(2 * [LABELS.astype(np.float32)], -1))
        save(root / files["label"], LABELS)
        training.append(files)
    description = {
        "modality": {"0": "T1", "1": "T2"},
        "labels": {"0": "background", "1": "x", "2": "y"},
        "training": training,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def tasks(root, out, *options):
    return CliRunner().invoke(main, ["tasks", str(root), "--out", str(out), *options])


def refused(root, out, *options):
    """What is said where nothing is written."""
    result = tasks(root, out, *options)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    assert not out.exists()
    return result.stderr


def iseg(root):
    """The files of iSeg-2019, ten subjects of noise."""
    rng = np.random.default_rng(0)
    for k in range(1, 11):
        for part in ("T1", "T2", "label"):
            values = rng.choice([0, 10, 150, 250], (8, 9, 4)).astype(np.int16)
            save(root / f"subject-{k}-{part}.nii.gz", values)
    return root
