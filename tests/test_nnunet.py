"""nnU-Net folders: equal to nnU-Net's own probabilities, and what bad folders say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from transfer_risk.adapters import nnunet
from transfer_risk.prediction import predict_volume
from transfer_risk.volumes import read_images

HOME = Path(__file__).parent / "fixtures" / "nnunet"
SAGITTAL = HOME / "sagittal" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
FLAT = HOME / "sagittal" / "nnUNetTrainer__nnUNetPlans__2d"
REGIONS = HOME / "regions" / "nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres"
FOLDERS = {"2d": FLAT, "3d": SAGITTAL / "fold_0", "3d_mean": SAGITTAL, "regions": REGIONS}


def images_of(folder, case="test_0"):
    files = sorted((folder / "imagesTr").glob(f"{case}_*.nii.gz"))
    return read_images(tuple(map(str, files)))


def own(kind, name):
    """nnU-Net's probabilities on the image's grid (Z, X, Y, Z'); those of regions as exclusive classes."""
    theta = np.load(HOME / "expected.npz")[f"{kind}_{name}"] / 65535
    if name == "regions":
        whole, core = theta
        theta = np.stack([(1 - whole) * (1 - core), whole * (1 - core), core])
    return theta.transpose(0, 3, 2, 1)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(("kind", "tolerance"), [("exact", 1e-4), ("half", 1e-2)])
def test_probabilities_equal_nnunets_own(name, kind, tolerance):
    source = nnunet.read_source(FOLDERS[name])
    folder = REGIONS.parent if name == "regions" else SAGITTAL.parent
    theta = predict_volume(source, images_of(folder))
    torch.testing.assert_close(theta, own(kind, name).astype(np.float32), rtol=0, atol=tolerance)
    assert 0.01 < theta[2].mean() < 0.5
