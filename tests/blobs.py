"""A small data set of blobs whose brightness depends on the class, its task, and sources; for tests of fine-tuning."""

import copy
from dataclasses import replace

import nibabel as nib
import numpy as np
import torch
from blob_folder import describe

import transfer_risk as tr

SHAPE = (16, 12, 5)

RESIDUAL = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 2,
    "norm": "batch",
    "dropout": 0.2,
}


def write_blobs(root, *, classes=("a",), cases=6, seed=0, shape=SHAPE):
    """Path of the task file of an nnU-Net raw folder under root."""
    rng = np.random.default_rng(seed)
    data = root / "data" / "Dataset001_Blobs"
    for name in ("imagesTr", "labelsTr"):
        (data / name).mkdir(parents=True)
    for k in range(cases):
        smooth = rng.normal(size=[-(-n // 3) for n in shape])
        for axis, n in enumerate(shape):
            smooth = np.take(smooth.repeat(3, axis), range(n), axis)
        labels = np.digitize(smooth, np.linspace(0.3, 1.2, len(classes))).astype(np.uint8)
        image = (10 * labels + 100 + rng.normal(scale=6, size=shape)).astype(np.float32)
        affine = np.diag([1.0, 1, 2, 1])
        nib.save(nib.Nifti1Image(image, affine), data / "imagesTr" / f"c{k}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), data / "labelsTr" / f"c{k}.nii.gz")
    describe(data, classes, cases)
    return tr.write_tasks(root / "data", root / "tasks")[0]


def make_source(classes=("background", "a"), *, seed=0, width=4, **fields):
    """A U-Net with random weights."""
    torch.manual_seed(seed)
    network = tr.UNet(1, len(classes), width=width, depth=2).eval()
    architecture = {"target": "unet", "width": width, "depth": 2}
    fields = {"architecture": architecture} | fields
    return tr.Source("source", network, tuple(classes), ("T1",), encoder=r"^encoder\.", **fields)


def write_monai(path, target, arguments, *, spatial_dims, size, classes=("background", "a")):
    """A network of MONAI with random weights as a folder with source.toml; its path."""
    import tomli_w
    from monai.networks import nets
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path.mkdir(parents=True)
    save_file(getattr(nets, target)(**arguments).state_dict(), path / "model.safetensors")
    table = {
        "format": 1,
        "spatial_dims": spatial_dims,
        "channels": ["T1"],
        "classes": list(classes),
        "network": {"target": target, "arguments": arguments},
        "preprocessing": {"size": list(size)},
    }
    (path / "source.toml").write_text(tomli_w.dumps(table))
    return path


def reordered(source, order):
    """The same model with its foreground classes in another order."""
    network = copy.deepcopy(source.network)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(network.head, name).copy_(getattr(source.network.head, name)[order])
    classes = tuple(source.classes[k] for k in order)
    return replace(source, network=network, classes=classes)
