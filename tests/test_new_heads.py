"""Fine-tuning to another number of classes: the new head is of the old one's kind, and the result is a source again."""

import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_model

import transfer_risk as tr
from transfer_risk.networks import with_outputs
from transfer_risk.prediction import predict_images

BUNDLE = Path(__file__).parent / "fixtures" / "bundle"
SHAPE = (16, 16, 12)


@pytest.fixture
def task(tmp_path):
    """Three cases, three classes, one channel that every source here knows."""
    rng = np.random.default_rng(0)
    cases = []
    for k in range(3):
        labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
        image = (1 + labels + rng.normal(size=SHAPE) / 3).astype(np.float32)
        paths = [str(tmp_path / f"{k}_{name}.nii.gz") for name in ("image", "label")]
        for path, data in zip(paths, (image, labels), strict=True):
            nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        cases.append(tr.Case(f"c{k}", (paths[0],), paths[1]))
    return tr.Task("t", ("background", "a", "b"), ("CT",), tuple(cases), test=("c0",))


def described(folder, target, dims, network, outputs, activation):
    folder.mkdir()
    save_model(network, str(folder / "model.safetensors"))
    (folder / "source.toml").write_text(
        f'format = 1\nchannels = ["CT"]\nclasses = ["background", "x"]\nactivation = "{activation}"\n'
        f'spatial_dims = {dims}\n[network]\ntarget = "{target}"\n[network.arguments]\nspatial_dims = {dims}\n'
        f"in_channels = 1\nout_channels = {outputs}\nchannels = [4, 8]\nstrides = [2]\n"
        f"[preprocessing]\nsize = {[16, 16, 8][:dims]}\n"
    )
    return folder


def sources(tmp_path):
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    yield BUNDLE
    flat = UNet(2, 1, 1, (4, 8), (2,))
    yield described(tmp_path / "named", "UNet", 2, flat, 1, "sigmoid")
    deep = UNet(3, 1, 2, (4, 8), (2,))
    yield described(tmp_path / "factory", "monai.networks.nets:UNet", 3, deep, 2, "softmax")
    (tmp_path / "builders_of_heads.py").write_text(
        "from monai.networks.nets import UNet\n\n\ndef build(**options):\n"
        "    return UNet(out_channels=options.pop('out_channels'), **options)\n"
    )
    yield described(
        tmp_path / "builder", "builders_of_heads:build", 3, deep, 2, "softmax"
    )  # nobody can know which argument is the number of outputs


@pytest.mark.parametrize("number", range(4), ids=["bundle", "name", "factory", "builder"])
@pytest.mark.parametrize("options", [{}, {"init": "random"}], ids=str)
def test_the_result_is_a_source_again_and_predicts_the_same(
    task, tmp_path, monkeypatch, number, options
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "builders_of_heads", raising=False)
    source = tr.load_source(list(sources(tmp_path))[number], trust=number == 3)
    recipe = tr.Recipe(iterations=2, batch=2, **options)
    made = tr.finetune(source, task, recipe)
    again = tr.load_source(tr.save_source(made, tmp_path / "run"), trust=number == 3)
    assert again.classes == task.classes and again.activation == "softmax"
    images = torch.randn(1, 1, *[16, 16, 8][: source.spatial_dims])
    torch.testing.assert_close(predict_images(again, images), predict_images(made, images))
    assert ("head" in again.architecture) == (number == 3)
    third = tr.load_source(tr.save_source(again, tmp_path / "copy"), trust=number == 3)
    torch.testing.assert_close(predict_images(third, images), predict_images(made, images))


def test_a_replaced_transposed_convolution_keeps_its_output_size(tmp_path):
    from monai.networks.nets import UNet

    network = UNet(3, 1, 2, (4, 8), (2,))
    name = [n for n, m in network.named_modules() if isinstance(m, torch.nn.ConvTranspose3d)][-1]
    with_outputs(network, name, 5)
    assert network(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 5, 8, 8, 8)


def test_a_head_that_is_no_layer_is_named(tmp_path):
    from monai.networks.nets import UNet

    folder = described(tmp_path / "s", "UNet", 2, UNet(2, 1, 2, (4, 8), (2,)), 2, "softmax")
    text = (folder / "source.toml").read_text()
    (folder / "source.toml").write_text(text.replace("[network]\n", '[network]\nhead = "modle"\n'))
    with pytest.raises(ValueError, match=r"source.toml: \[network\] head must name .* got 'modle'"):
        tr.load_source(folder)


def test_an_exported_network_keeps_its_classes(task):
    source = tr.load_source(BUNDLE.parent / "exported" / "scripted.ts")
    binary = replace(task, classes=("background", "a"), labels={"a": (1, 2)})
    with pytest.raises(ValueError, match="shows no layers; the head cannot be adapted"):
        tr.finetune(source, binary, tr.Recipe(iterations=1))
