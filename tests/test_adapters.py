"""Sources of other families equal the family's own inference; weights, descriptions and options."""

import json
import shutil
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from blob_folder import make_source
from command_line import run
from safetensors.torch import save_file, save_model
from torch import nn

import transfer_risk as tr
from transfer_risk.cli.shared import Reading
from transfer_risk.encoders import encoder_parameters
from transfer_risk.heads import adapted_source
from transfer_risk.prediction import predict_images

FIXTURES = Path(__file__).parent / "fixtures"
EXPORTED = FIXTURES / "exported"
NETWORK = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
}


def describe(folder, text, name="source.toml"):
    (folder / name).write_text(
        'format = 1\nchannels = ["T1"]\nclasses = ["background", "a"]\n' + text, encoding="utf-8"
    )
    return folder / name


def monai_unet():
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    return UNet(**NETWORK).eval()


@pytest.mark.parametrize("name", ["scripted.ts", "traced.pt", "fixed.pt2", "free.pt2"])
def test_exported_networks_predict_as_they_do_by_themselves(name):
    expected = np.load(EXPORTED / "expected.npz")
    source = tr.load_source(EXPORTED / name)
    images = torch.from_numpy(expected["images"])
    assert source.classes == ("background", "gm", "wm") and source.name == name.partition(".")[0]
    np.testing.assert_allclose(predict_images(source, images), expected[name], atol=1e-5)
    parts = torch.cat([source.predict(image[None]) for image in images])
    np.testing.assert_allclose(parts, expected[name], atol=1e-5)
    source.network.train()
    source.logits(images).sum().backward()
    assert any(p.grad is not None for p in source.network.parameters())


def test_a_fixed_program_gets_its_size_from_the_file_and_images_are_padded():
    source = tr.load_source(EXPORTED / "fixed.pt2")
    assert source.preprocessing.size == (16, 16)
    assert tr.load_source(EXPORTED / "free.pt2").preprocessing.size == ()
    assert predict_images(source, torch.rand(2, 1, 13, 20)).shape == (2, 3, 13, 20)


def test_a_program_that_was_exported_for_something_else_says_so(tmp_path):
    for file in ("fixed.pt2", "free.pt2"):
        shutil.copy(EXPORTED / file, tmp_path)
    text = (EXPORTED / "fixed.source.toml").read_text()
    (tmp_path / "source.toml").write_text(text + "size = [32, 32]\n")
    with pytest.raises(
        ValueError, match=r"source.toml: preprocessing.size is \[32, 32\], but .* for \[16, 16\]"
    ):
        tr.load_source(tmp_path / "fixed.pt2")
    (tmp_path / "source.toml").write_text(text.replace('["T1"]', '["T1", "T2"]'))
    with pytest.raises(ValueError, match=r"channels names 2, but the program was exported for 1"):
        tr.load_source(tmp_path / "fixed.pt2")
    (tmp_path / "source.toml").write_text(text)
    with pytest.raises(
        ValueError, match=r"cannot work on images \(1, 1, 16, 200\).*exported for \('any', 1"
    ):
        tr.load_source(tmp_path / "free.pt2").predict(torch.rand(1, 1, 16, 200))
    (tmp_path / "source.toml").write_text(text.replace(', "wm"', ""))
    with pytest.raises(
        ValueError, match=r"source fixed \(2 classes.*must return logits \(B, 2, .*\(1, 3, 16, 16\)"
    ):
        tr.load_source(tmp_path / "fixed.pt2").predict(torch.rand(1, 1, 16, 16))


def test_torchscript_is_saved_again_and_a_program_is_not(tmp_path):
    source = tr.load_source(EXPORTED / "scripted.ts")
    again = tr.load_source(tr.save_source(source, tmp_path / "again"))
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(again.predict(images), source.predict(images))
    with pytest.raises(ValueError, match=r"source free has no \[network\] table"):
        tr.save_source(tr.load_source(EXPORTED / "free.pt2"), tmp_path / "no")


@pytest.fixture
def bundle(tmp_path):
    """A copy of the bundle whose configuration can be changed."""
    shutil.copytree(FIXTURES / "bundle", tmp_path / "spleen")
    return tmp_path / "spleen"


def change(bundle, **parts):
    path = bundle / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    return path


def test_a_bundle_predicts_as_monai_does(bundle):
    source = tr.load_source(bundle)
    assert source.classes == ("background", "spleen") and source.channels == ("CT",)
    assert source.licence == "CC0-1.0" and source.spatial_dims == 3 and source.name == "spleen"
    given = source.preprocessing
    assert (given.size, given.overlap, given.orientation) == ((16, 16, 8), 0.5, "RAS")
    assert any("4 expressions ($...)" in note for note in source.notes)
    _, probabilities, _ = tr.predict(source, [bundle / "case.nii.gz"])
    expected = np.load(bundle / "expected.npz")["spleen"]
    np.testing.assert_allclose(probabilities[1], expected, atol=1e-5)
    assert 0 < len(encoder_parameters(source.network)) < len(list(source.network.parameters()))
    again = tr.load_source(tr.save_source(source, bundle.parent / "saved"))
    torch.testing.assert_close(
        again.predict(torch.ones(1, 1, 16, 16, 8)), source.predict(torch.ones(1, 1, 16, 16, 8))
    )


def test_a_bundle_in_yaml_is_the_same(bundle):
    import yaml

    source = tr.load_source(bundle)
    path = bundle / "configs" / "inference.json"
    path.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(path.read_text())))
    path.unlink()
    again = tr.load_source(bundle)
    assert again.preprocessing == source.preprocessing
    images = torch.rand(1, 1, 16, 16, 8)
    torch.testing.assert_close(again.predict(images), source.predict(images))
    path.with_suffix(".yaml").write_text("a: !!python/object/apply:os.system ['touch made']")
    with pytest.raises(ValueError, match=r"inference.yaml: is no plain YAML"):
        tr.load_source(bundle)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({"_target_": "Spacingd", "pixdim": 2}, {"spacing": (2, 2, 2)}),
        ({"_target_": "monai.transforms.SpacingD", "pixdim": [1, 2, 3]}, {"spacing": (1, 2, 3)}),
        ({"_target_": "ScaleIntensityd"}, {"normalise": "minmax"}),
        ({"_target_": "Orientationd", "as_closest_canonical": True}, {"orientation": "RAS"}),
        ({"_target_": "NormalizeIntensityDict"}, {"normalise": "zscore"}),
        (
            {
                "_target_": "ScaleIntensityRanged",
                "a_min": -57,
                "a_max": 164,
                "b_min": 0,
                "b_max": 1,
                "clip": True,
            },
            {"normalise": "window", "window": (-57, 164)},
        ),
        ({"_target_": "CropForegroundd", "_disabled_": True}, {}),
    ],
    ids=lambda t: t.get("_target_"),
)
def test_transforms_of_bundles_become_preprocessing(bundle, transform, expected):
    change(bundle, preprocessing={"transforms": [transform]}, inferer={"_target_": "SimpleInferer"})
    assert tr.load_source(bundle).preprocessing == tr.Preprocessing(
        **{"normalise": "none"} | expected
    )


@pytest.mark.parametrize("pixdim", [2, [2, 2, 2], [1, 2, 3]])
def test_axes_that_are_turned_after_unequal_spacing_have_no_equal(bundle, pixdim):
    steps = [
        {"_target_": "Spacingd", "pixdim": pixdim},
        {"_target_": "Orientationd", "axcodes": "RAS"},
    ]
    change(bundle, preprocessing={"transforms": steps[::-1]})
    assert tr.load_source(bundle).preprocessing.orientation == "RAS"
    change(bundle, preprocessing={"transforms": steps})
    if pixdim == [1, 2, 3]:
        with pytest.raises(
            ValueError, match="an Orientation after a Spacing of unequal voxel sizes"
        ):
            tr.load_source(bundle)
    else:
        assert tr.load_source(bundle).preprocessing.spacing == (2, 2, 2)


@pytest.mark.parametrize(
    ("inferer", "told"),
    [
        ({"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8]}, "constant"),
        ({"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 8], "mode": "gaussian"}, ""),
        ({"_target_": "SimpleInferer"}, ""),
    ],
)
def test_windows_that_a_bundle_blends_otherwise_are_told(bundle, inferer, told):
    path = change(bundle, inferer=inferer)
    notes = [note for note in tr.load_source(bundle).notes if "blends" in note]
    said = f"{path}: inferer blends its windows with {told} weights; here they are Gaussian"
    assert notes == [said] * bool(told)


@pytest.mark.parametrize("value", [["x", {"b": None}], {"a": [None]}])
def test_a_network_that_a_description_cannot_say_is_refused_before_it_is_saved(
    bundle, value, tmp_path
):
    source = tr.load_source(bundle)
    arguments = {**source.architecture["arguments"], "act": value, "fine": None}
    odd = replace(source, architecture={**source.architecture, "arguments": arguments})
    with pytest.raises(
        ValueError, match=r"has a null in its network's argument act = .*leave it out"
    ):
        tr.save_source(odd, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_bundle_with_sigmoid_outputs_gets_a_background(bundle):
    change(
        bundle,
        num_classes=1,
        postprocessing={"transforms": [{"_target_": "Activationsd", "sigmoid": True}]},
    )
    path = bundle / "configs" / "metadata.json"
    path.write_text(
        path.read_text().replace('"0": "background",', "").replace('"1": "spleen"', '"0": "spleen"')
    )
    from monai.networks.nets import UNet

    network = UNet(3, 1, 1, (4, 8), (2,), norm="batch")
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    source = tr.load_source(bundle)
    assert source.classes == ("background", "spleen") and source.activation == "sigmoid"
    assert source.predict(torch.rand(1, 1, 16, 16, 8)).shape[1] == 2


NESTED = ("Tumor core", "Whole tumor", "Enhancing tumor")


@pytest.fixture
def nested(bundle):
    """The bundle with three overlapping channels, the middle one outermost: whole tumour and core are everywhere."""
    from monai.networks.nets import UNet

    change(
        bundle,
        num_classes=3,
        postprocessing={"transforms": [{"_target_": "Activationsd", "sigmoid": True}]},
    )
    path = bundle / "configs" / "metadata.json"
    table = json.loads(path.read_text())
    output = next(iter(table["network_data_format"]["outputs"].values()))
    output["channel_def"] = {str(k): name for k, name in enumerate(NESTED)}
    path.write_text(json.dumps(table))
    torch.manual_seed(0)
    network = UNet(3, 1, 3, (4, 8), (2,), norm="batch")
    last = [m for m in network.modules() if isinstance(m, nn.ConvTranspose3d | nn.Conv3d)][-1]
    with torch.no_grad():
        last.weight.mul_(0.01)
        last.bias.copy_(torch.tensor([5.0, 4.0, -5.0]))
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return bundle


IMAGES = torch.linspace(-1, 1, 16 * 16 * 8).reshape(1, 1, 16, 16, 8)


def test_the_order_of_overlapping_channels_is_said_or_noted(nested):
    source = tr.load_source(nested)
    (note,) = (n for n in source.notes if "may overlap" in n)
    assert "the channels Tumor core, Whole tumor, Enhancing tumor may overlap" in note
    assert f"{nested / 'source.toml'}: [network] order = [" in note
    assert source.classes == ("background", *NESTED)
    assert (source.predict(IMAGES).argmax(1) == 2).all()  # the core is hidden by the whole
    names = ["Whole tumor", "Tumor core", "Enhancing tumor"]
    for order in (json.dumps(names), "[1, 0, 2]"):
        (nested / "source.toml").write_text(f"format = 1\n[network]\norder = {order}\n")
        told = tr.load_source(nested)
        assert told.classes == ("background", *names)
        assert not any("may overlap" in note for note in told.notes)
        assert (told.predict(IMAGES).argmax(1) == 2).all()  # which is the core here
        torch.testing.assert_close(told.outputs(IMAGES), source.outputs(IMAGES)[:, [1, 0, 2]])
    (nested / "source.toml").write_text(
        'format = 1\nactivation = "regions"\nclasses = ["background", "a", "b", "c"]\n'
        "[network]\norder = [1, 0, 2]\n"
    )
    regions = tr.load_source(nested)
    assert regions.classes == ("background", "a", "b", "c")
    torch.testing.assert_close(regions.outputs(IMAGES), told.outputs(IMAGES))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'order = ["Whole tumor", "Tumor core"]',
            r"order must list each of the network's 3 channels",
        ),
        (
            "order = [1, 0, 0]",
            r"once, by name \['Tumor core', .*\] or by number from 0; got \[1, 0, 0\]",
        ),
        ("order = 3", "got 3"),
        ("orders = [1, 0, 2]", r"\[network\] of a bundle does not know orders; it may have order"),
    ],
)
def test_an_order_that_is_none_is_refused(nested, text, words):
    (nested / "source.toml").write_text(f"format = 1\n[network]\n{text}\n")
    with pytest.raises(ValueError, match=f"source.toml: .*{words}"):
        tr.load_source(nested)


def test_channels_that_do_not_overlap_have_no_order(bundle):
    (bundle / "source.toml").write_text("format = 1\n[network]\norder = [1, 0]\n")
    with pytest.raises(ValueError, match=r'order where channels overlap, .*; it is "softmax"'):
        tr.load_source(bundle)


def test_an_order_is_kept_in_what_is_made_of_the_bundle(nested, tmp_path):
    (nested / "source.toml").write_text("format = 1\n[network]\norder = [1, 0, 2]\n")
    source = tr.load_source(nested)
    again = tr.load_source(tr.save_source(source, tmp_path / "saved"))
    torch.testing.assert_close(again.outputs(IMAGES), source.outputs(IMAGES))
    assert again.classes == source.classes
    for classes, activation in ((4, "sigmoid"), (3, "softmax"), (2, "softmax")):
        names = tuple(map(str, range(classes)))
        made, kept = adapted_source(source, names, head="auto", scratch=False, seed=0)
        assert kept == (classes == 4) and made.activation == activation
        again = tr.load_source(tr.save_source(made, tmp_path / str(classes)))
        torch.testing.assert_close(again.outputs(IMAGES), made.outputs(IMAGES))
        assert ("order" in again.architecture) == kept  # a new head's channels are in its own


@pytest.mark.parametrize("target", ["UNet", "monai.networks.nets:UNet"])
def test_networks_that_are_named_take_an_order_too(tmp_path, target):
    network = monai_unet()
    save_model(network, str(tmp_path / "model.safetensors"))
    arguments = "".join(f"{key} = {json.dumps(value)}\n" for key, value in NETWORK.items())
    text = (
        'format = 1\nchannels = ["T1"]\nclasses = ["background", "whole", "core"]\n'
        f'activation = "sigmoid"\n[network]\ntarget = "{target}"\norder = [1, 0]\n'
    )
    (tmp_path / "source.toml").write_text(f"{text}[network.arguments]\n{arguments}")
    images = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        expected = network(images)[:, [1, 0]]
    torch.testing.assert_close(tr.load_source(tmp_path).outputs(images), expected)
    assert tr.load_source(tmp_path).architecture["order"] == [1, 0]
    (tmp_path / "source.toml").write_text(
        f"{text}[network.arguments]\n{arguments}".replace("[1, 0]", '["core", "whole"]')
    )
    with pytest.raises(ValueError, match="2 channels once, by number from 0; got"):
        tr.load_source(tmp_path)


def test_what_a_bundle_does_not_say_plainly_is_asked_for(bundle):
    change(bundle, preprocessing={"transforms": [{"_target_": "RandFlipd"}]})
    with pytest.raises(
        ValueError, match=r"preprocessing has RandFlipd, which has no equal here; write \[prep"
    ):
        tr.load_source(bundle)
    two = [{"_target_": "ScaleIntensityd"}, {"_target_": "NormalizeIntensityd"}]
    change(bundle, preprocessing={"transforms": two})
    with pytest.raises(ValueError, match="NormalizeIntensityd after another change of intensities"):
        tr.load_source(bundle)
    (bundle / "source.toml").write_text('format = 1\n[preprocessing]\nnormalise = "minmax"\n')
    assert tr.load_source(bundle).preprocessing == tr.Preprocessing(normalise="minmax")
    (bundle / "configs" / "metadata.json").unlink()
    with pytest.raises(
        ValueError, match=r"source.toml: needs the key 'channels', which the model's files"
    ):
        tr.load_source(bundle)
    change(bundle, network_def={"_target_": "UNet", "wrong": 1})
    with pytest.raises(ValueError, match=r"UNet does not take the arguments of network_def"):
        tr.load_source(bundle)
    change(bundle, network_def="@nothing")
    with pytest.raises(ValueError, match=r"must have network_def with a _target_"):
        tr.load_source(bundle)
    change(bundle, network_def={"_target_": "UNet", "spatial_dims": "@nothing#here"})
    with pytest.raises(
        ValueError, match=r"refers to @nothing#here, which the configuration does not have"
    ):
        tr.load_source(bundle)
    (bundle / "configs" / "inference.json").write_text("{")
    with pytest.raises(ValueError, match=r"inference.json: Expecting"):
        tr.load_source(bundle)


def test_window_normalisation_is_clipped_and_scaled():
    from transfer_risk.grids import normalised

    image = np.array([[-100.0, 0.0, 50.0, 200.0]])
    np.testing.assert_allclose(normalised(image, "window", (0.0, 100.0)), [[0, 0, 0.5, 1]])
    with pytest.raises(ValueError, match=r"window must be"):
        tr.Preprocessing(normalise="window")
    with pytest.raises(ValueError, match=r"overlap must be"):
        tr.Preprocessing(overlap=1.0)


@pytest.mark.parametrize("target", ["UNet", "monai.networks.nets.UNet", "monai.networks.nets:UNet"])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.model."]
)
def test_networks_by_name_with_repaired_prefixes(tmp_path, target, prefix):
    network = monai_unet()
    tensors = {f"{prefix}{k}": v.contiguous() for k, v in network.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "weights.pt")
    save_file(tensors, tmp_path / "model.safetensors")
    arguments = "[network.arguments]\n" + "".join(f"{k} = {v}\n" for k, v in NETWORK.items())
    toml = describe(tmp_path, f'[network]\ntarget = "{target}"\n{arguments}')
    images = torch.rand(2, 1, 16, 16)
    expected = network(images).softmax(1)
    for path in (tmp_path, toml, tmp_path / "model.safetensors", tmp_path / "weights.pt"):
        source = tr.load_source(path)
        torch.testing.assert_close(source.predict(images), expected)
        repaired = [n for n in source.notes if f"prefix {prefix} taken from" in n]
        assert bool(repaired) == bool(prefix)
        assert any("under 'state_dict'" in n for n in source.notes) == (path.suffix == ".pt")
    again = tr.load_source(tr.save_source(source, tmp_path / "saved"))
    torch.testing.assert_close(again.predict(images), expected)


class Tied(nn.Module):
    """Encoder and decoder share a layer, and a constructor that takes a width."""

    def __init__(self, width=4):
        super().__init__()
        self.encoder = nn.Conv2d(1, width, 1)
        self.decoder = nn.ModuleDict({"encoder": self.encoder, "head": nn.Conv2d(width, 2, 1)})

    def forward(self, images):
        return self.decoder["head"](self.encoder(images))


def build_tied(width=4):
    return Tied(width)


def test_an_argument_can_be_none_and_a_callable_can_bring_its_weights(tmp_path):
    from monai.networks.nets import DynUNet

    shape = {
        "kernel_size": [3] * 3,
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
    }
    given = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2} | shape
    save_model(DynUNet(**given), tmp_path / "w.safetensors")
    network = "\n".join(f"{name} = {value}" for name, value in given.items())
    describe(
        tmp_path,
        f'[network]\ntarget = "DynUNet"\nweights = "w.safetensors"\nnone = ["dropout"]\n[network.arguments]\n{network}',
    )
    source = tr.load_source(tmp_path)
    again = tr.load_source(tr.save_source(source, tmp_path / "saved"))
    assert again.architecture["arguments"]["dropout"] is None
    images = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(again.predict(images), source.predict(images))
    describe(tmp_path, f'[network]\ntarget = "{__name__}:build_tied"\nweights = false\n')
    assert tr.load_source(tmp_path, trust=True).network.encoder.weight.shape == (4, 1, 1, 1)


def test_shared_weights_are_saved_once_and_loaded(tmp_path):
    network = Tied()
    source = tr.Source(
        "tied", network, ("background", "a"), ("T1",), architecture={"target": f"{__name__}:Tied"}
    )
    again = tr.load_source(tr.save_source(source, tmp_path / "tied"))
    images = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(again.predict(images), source.predict(images))
    assert len(encoder_parameters(again.network)) == 2


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ('target = "no_such_package:Net"', "cannot import no_such_package:Net"),
        (f'target = "{__name__}:Missing"', "cannot import .*has no attribute 'Missing'"),
        (f'target = "{__name__}:Tied"\n[network.arguments]\nheight = 3', "does not take .*height"),
        (
            f'target = "{__name__}:Tied"\nwidth = 3',
            r"\[network\] may have target, weights, none",
        ),
        ('target = "SegResNetto"', "'SegResNetto' is no network of monai.networks.nets"),
        ("width = 3", r"needs \[network\] with a target"),
    ],
)
def test_a_wrong_target_is_said(tmp_path, network, words):
    save_file(Tied().decoder["head"].state_dict(), tmp_path / "model.safetensors")
    describe(tmp_path, f"[network]\n{network}\n")
    with pytest.raises(ValueError, match=f"source.toml: .*{words}"):
        tr.load_source(tmp_path)


def test_weights_that_do_not_fit_are_said(tmp_path):
    describe(tmp_path, f'[network]\ntarget = "{__name__}:Tied"\n')
    file = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match=r"model.safetensors: no such file"):
        tr.load_source(tmp_path)
    tensors = {k: v for k, v in Tied().state_dict().items() if not k.startswith("decoder.encoder")}
    save_file(tensors, file)
    assert tr.load_source(tmp_path).notes == ()
    save_file(tensors | {"decoder.head.weight": torch.zeros(5, 4, 1, 1)}, file)
    with pytest.raises(
        ValueError,
        match=r"does not fit the network: weights 1 of another shape \(decoder.head.weight is \(5, 4, 1, 1\)",
    ):
        tr.load_source(tmp_path)
    save_file({"encoder.weight": tensors["encoder.weight"], "more": torch.zeros(1)}, file)
    with pytest.raises(
        ValueError, match=r"3 missing in the file .*; 1 unknown to the network \(more\)"
    ):
        tr.load_source(tmp_path)
    save_file(tensors | {f"module.{k}": v.clone() for k, v in tensors.items()}, file)
    with pytest.raises(ValueError, match=r"with and without a prefix"):
        tr.load_source(tmp_path)
    torch.save({"optimiser": 3}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"must hold tensors by name.*a dict with optimiser"):
        tr.load_source(tmp_path / "weights.pt")


@pytest.mark.parametrize(
    "name", ["scripted.ts", "traced.pt", "fixed.pt2", "weights.pt", "model.safetensors"]
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_half_a_file_is_named(tmp_path, name, share):
    if name.startswith(("weights", "model")):
        describe(tmp_path, f'[network]\ntarget = "{__name__}:Tied"\nweights = "{name}"')
        tensors = {k: v.clone() for k, v in Tied().state_dict().items()}
        (torch.save if name.endswith("pt") else save_file)(tensors, tmp_path / name)
    else:
        shutil.copy(EXPORTED / name, tmp_path)
        shutil.copy(EXPORTED / "fixed.source.toml", tmp_path / "source.toml")
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=rf"{name}: is no whole .*copy it again"):
        tr.load_source(tmp_path / name)


def test_descriptions_are_found_beside_the_file_or_given(tmp_path):
    shutil.copy(EXPORTED / "traced.pt", tmp_path / "net.pt")
    with pytest.raises(
        ValueError, match=r"net.source.toml: needs the key 'channels'.*--source-config FILE"
    ):
        tr.load_source(tmp_path / "net.pt")
    text = (EXPORTED / "traced.source.toml").read_text()
    (tmp_path / "elsewhere.toml").write_text(text.replace("T1", "T2"))
    assert tr.load_source(tmp_path / "net.pt", config=tmp_path / "elsewhere.toml").channels == (
        "T2",
    )
    (tmp_path / "source.toml").write_text(text)
    assert tr.load_source(tmp_path / "net.pt").channels == ("T1",)
    (tmp_path / "net.source.toml").write_text(text.replace("T1", "FLAIR"))
    assert tr.load_source(tmp_path / "net.pt").channels == ("FLAIR",)
    (tmp_path / "net.source.toml").write_text(text.replace("channels", "chanels"))
    with pytest.raises(
        ValueError, match=r"net.source.toml: a source does not know chanels; it may have"
    ):
        tr.load_source(tmp_path / "net.pt")
    (tmp_path / "net.source.toml").write_text(text.replace('["T1"]', '"T1"'))
    with pytest.raises(ValueError, match=r"channels must be a list of names; got 'T1'"):
        tr.load_source(tmp_path / "net.pt")
    (tmp_path / "net.source.toml").write_text('activation = "tanh"\n' + text)
    with pytest.raises(ValueError, match=r"activation must be one of softmax"):
        tr.load_source(tmp_path / "net.pt")


def test_nan_weights_are_said(tmp_path):
    network = Tied()
    nn.init.constant_(network.encoder.bias, float("nan"))
    source = tr.Source("s", network, ("background", "a"), ("T1",))
    with pytest.raises(ValueError, match=r"source s .*predicts NaN"):
        source.predict(torch.rand(1, 1, 4, 4))


@pytest.fixture
def task(tmp_path):
    """A task of two channels and four cases, and its file."""
    root = tmp_path / "data" / "Dataset001_Two"
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for case in range(4):
        for channel in range(2):
            image = rng.normal(100, 10, (16, 16, 4)).astype(np.float32)
            nib.save(
                nib.Nifti1Image(image, np.eye(4)),
                root / "imagesTr" / f"c{case}_000{channel}.nii.gz",
            )
        label = (image > 105).astype(np.uint8)
        nib.save(nib.Nifti1Image(label, np.eye(4)), root / "labelsTr" / f"c{case}.nii.gz")
    (root / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "T1", "1": "T2"},
                "labels": {"background": 0, "gm": 1},
                "file_ending": ".nii.gz",
            }
        )
    )
    return tr.write_tasks(root.parent, tmp_path / "tasks")[0]


def test_families_are_scored_mapped_and_used_on_the_command_line(task, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(Path(__file__).parent)])
    shutil.copy(EXPORTED / "scripted.ts", tmp_path / "net.ts")
    scripted, config = tmp_path / "net.ts", EXPORTED / "scripted.source.toml"
    folder = tmp_path / "built"
    folder.mkdir()
    describe(folder, f'[network]\ntarget = "{__name__}:build_tied"')
    torch.save({f"module.{k}": v for k, v in Tied().state_dict().items()}, folder / "w.pt")
    (folder / "source.toml").write_text((folder / "source.toml").read_text() + '\nweights = "w.pt"')
    sources = (scripted, folder, EXPORTED / "free.pt2")
    refused = run(
        "score", task, *sources, "--source-config", f"{scripted}={config}", "--format", "json"
    )
    assert refused.exit_code == 1 and "is no class of networks" in refused.stderr
    assert len(json.loads(refused.stdout)["ranking"]) == 2
    scored = run(
        *("score", task, *sources, "--format", "json", "--trust", folder),
        *("--source-config", f"{scripted}={config}"),
    )
    assert scored.exit_code == 0, scored.stderr
    assert {r["source"] for r in json.loads(scored.stdout)["ranking"]} == {"net", "built", "free"}
    assert f"WARNING: {folder} is trusted: code in its files runs as you" in scored.stderr
    assert "note: " in scored.stderr and "prefix module. taken from 6 names" in scored.stderr
    mapped = run("map", task, scripted, "--source-config", config, "--out", tmp_path / "maps")
    assert mapped.exit_code == 0, mapped.stderr
    image = tr.load_task(task).cases[0].images[0]
    made = run("predict", scripted, image, "--source-config", config, "--out", tmp_path / "labels")
    assert made.exit_code == 0, made.stderr


def test_options_that_fit_no_source_are_usage_errors(task, tmp_path):
    two = (EXPORTED / "free.pt2", EXPORTED / "traced.pt")
    assert run("score", task, *two, "--source-config", EXPORTED / "free.source.toml").exit_code == 2
    lone = run("doctor", task, "--source-config", EXPORTED / "free.source.toml")
    assert lone.exit_code == 2 and "must be SOURCE=FILE" in lone.stderr
    assert run("score", task, *two, "--trust", "other.pt").exit_code == 2
    assert run("map", task, two[0], "--out", tmp_path, "--trust", two[1]).exit_code == 2
    assert run("score", task, *two, "--missing-channels", "guess").exit_code == 2


def test_missing_channels_are_an_error_or_an_explicit_choice(task, tmp_path):
    torch.manual_seed(0)
    network = tr.UNet(3, 2, width=4, depth=2).eval()
    names = ("T2", "FLAIR", "T1")
    source = tr.Source(
        "three",
        network,
        ("background", "gm"),
        names,
        architecture={"target": "unet", "width": 4, "depth": 2},
    )
    tr.save_source(source, tmp_path / "three")
    said = run("score", task, tmp_path / "three")
    assert said.exit_code == 1 and "--missing-channels zero or repeat" in said.stderr
    target = tr.load_task(task)
    from transfer_risk.channels import in_order
    from transfer_risk.volumes import read

    volume = read(target.cases[0], target)
    t1, t2 = volume.image
    zero = in_order(replace(source, missing_channels="zero"), volume, target.channels).image
    np.testing.assert_array_equal(zero, np.stack([t2, np.zeros_like(t1), t1]))
    repeat = in_order(replace(source, missing_channels="repeat"), volume, target.channels).image
    np.testing.assert_array_equal(repeat, np.stack([t2, t2, t1]))
    nothing = replace(source, channels=("CT", "PET", "US"), missing_channels="zero")
    with pytest.raises(ValueError, match="zero needs a channel that both have"):
        in_order(nothing, volume, target.channels)
    for how, words in (("zero", "zeros"), ("repeat", "copies of another channel")):
        made = run("score", task, tmp_path / "three", "--missing-channels", how)
        assert (
            made.exit_code == 0 and f"was given {words} for the channels ['FLAIR']" in made.stderr
        )
    mapped = run(
        "map", task, tmp_path / "three", "--missing-channels", "zero", "--out", tmp_path / "maps"
    )
    assert "was given zeros" in mapped.stderr
    image = target.cases[0].images[0]
    refused = run("predict", tmp_path / "three", image, "--out", tmp_path / "labels")
    assert refused.exit_code == 1 and "wants one file for each of the channels" in refused.stderr
    made = run(
        "predict",
        tmp_path / "three",
        image,
        "--out",
        tmp_path / "labels",
        "--missing-channels",
        "zero",
    )
    assert made.exit_code == 0, made.stderr


def test_names_that_partly_agree_are_no_positions(task):
    source = tr.Source("s", tr.UNet(2, 2, width=4, depth=2), ("background", "gm"), ("T2", "FLAIR"))
    with pytest.raises(
        ValueError, match=r"wants the channels \['T2', 'FLAIR'\]; the task has \['T1', 'T2'\]"
    ):
        tr.score(source, tr.load_task(task))


@pytest.fixture
def native(tmp_path):
    """A folder of this package's own U-Net, whose name has a dot."""
    network = tr.UNet(1, 2, width=2, depth=2)
    source = tr.Source(
        "own",
        network,
        ("background", "gm"),
        ("T1",),
        architecture={"target": "unet", "width": 2, "depth": 2},
    )
    return Path(tr.save_source(source, tmp_path / "gm-1.5mm"))


def test_a_folder_whose_name_has_a_dot_is_a_source(native):
    assert tr.load_source(native).classes == ("background", "gm")
    assert tr.load_source(native / "source.toml").classes == ("background", "gm")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            'preprocessing = "zscore"',
            r"preprocessing must be a table, \[preprocessing\]; got 'zscore'",
        ),
        ('decision = "argmax"', r"decision must be a table"),
        ('labels = ["gm"]', r"labels must be a table"),
        (
            "[labels]\ngm = [2]",
            r"labels.gm must be one whole number of 16 bits, which predict writes; got \[2\]",
        ),
        ("[labels]\nGM = 5", r"labels must name classes of \['background', 'gm'\]; got 'GM'"),
        ('[decision]\nkind = "tuned"\noffsets = [0.5]', r"decision.offsets must be one for each"),
    ],
)
def test_what_a_description_says_wrongly_is_named(native, table, words):
    path = native / "source.toml"
    text = path.read_text()
    name = table.partition("]")[0].strip("[") if table.startswith("[") else table.partition(" ")[0]
    blocks = [b for b in text.split("\n\n") if not b.startswith(f"[{name}]")]
    given = [table, *blocks] if not table.startswith("[") else [*blocks, table]
    path.write_text("\n\n".join(given) + "\n")
    with pytest.raises(ValueError, match=rf"source\.toml: {words}"):
        tr.load_source(native)


def test_a_trusted_network_whose_class_is_gone_is_said(tmp_path, monkeypatch):
    module = tmp_path / "gone.py"
    module.write_text("from torch import nn\nclass Net(nn.Conv2d): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import gone

    torch.save(gone.Net(1, 2, 1), tmp_path / "whole.pt")
    (tmp_path / "whole.source.toml").write_text(
        'format = 1\nchannels = ["T1"]\nclasses = ["background", "gm"]\n'
    )
    module.unlink()
    monkeypatch.delitem(sys.modules, "gone")
    for attempt in range(2):
        if attempt:
            monkeypatch.setitem(sys.modules, "gone", type(sys)("gone"))
        with pytest.raises(ValueError, match=r"whole\.pt: .*cannot be imported here.*PYTHONPATH"):
            tr.load_source(tmp_path / "whole.pt", trust=True)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"preprocessing": {"transforms": "$@base + @extra"}},
            r"preprocessing has the expression '\$@base",
        ),
        ({"preprocessing": "$Compose([])"}, r"preprocessing has the expression '\$Compose"),
        ({"preprocessing": "@nothing"}, "preprocessing refers to @nothing"),
        ({"preprocessing": {"transforms": "many"}}, "preprocessing must have a list of transforms"),
        ({"postprocessing": "$Compose([])"}, r"postprocessing has the expression"),
        ({"inferer": "$SlidingWindowInferer()"}, r"inferer has the expression"),
        (
            {"in_channels": 2, "preprocessing": {"transforms": [{"_target_": "ScaleIntensityd"}]}},
            "ScaleIntensityd, which has no eq",
        ),
    ],
)
def test_transforms_that_cannot_be_read_are_not_passed_over(bundle, parts, words):
    change(bundle, **parts)
    if "in_channels" in parts:
        from transfer_risk.adapters.transforms import preprocessing

        with pytest.raises(ValueError, match=words):
            preprocessing(parts, bundle / "inference.json", 3, 2)
        return
    with pytest.raises(ValueError, match=words):
        tr.load_source(bundle)


def test_transforms_by_reference_are_read(bundle):
    scale = {"_target_": "ScaleIntensityd", "keys": "image"}
    change(
        bundle,
        pre={"_target_": "Compose", "transforms": "@list"},
        preprocessing="@pre",
        list=["@scale"],
        scale=scale,
    )
    assert tr.load_source(bundle).preprocessing.normalise == "minmax"
    assert not tr.load_source(bundle).notes or "preprocessing" not in " ".join(
        tr.load_source(bundle).notes
    )


def test_a_bundle_downloads_nothing(bundle, monkeypatch):
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_a, **_k: pytest.fail("fetched"))
    for place in ("monai.apps.utils", "monai.networks.nets.hovernet"):
        monkeypatch.setattr(f"{place}.download_url", lambda *_a, **_k: pytest.fail("fetched"))
    table = {
        "_target_": "HoVerNet",
        "mode": "fast",
        "out_classes": 2,
        "pretrained_url": "http://x/y",
    }
    change(bundle, network_def=table)
    with pytest.raises(ValueError, match=r"model\.pt: "):  # of another network
        tr.load_source(bundle)


def test_a_network_whose_package_is_missing_says_so(bundle, monkeypatch):
    def lacking(**_):
        raise ImportError("import einops (No module named 'einops').\n\nFor details")

    words = r"UNet needs a package that is missing \(import einops .*'einops'\)\.\); install it"
    monkeypatch.setattr("transfer_risk.adapters.bundle.network_class", lambda *_: lacking)
    with pytest.raises(ValueError, match=words):
        tr.load_source(bundle)


def test_a_damaged_program_and_an_unreadable_file_leave_the_other_sources(tmp_path, monkeypatch):
    path = tmp_path / "net.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(torch.nn.Conv2d(1, 2, 1)).save(path)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        member = next(i for i in archive.infolist() if i.filename.endswith(".py"))
    place = member.header_offset + 30 + len(member.filename) + 64
    data[place : place + 40] = bytes(40)
    path.write_bytes(data)
    saved = tr.save_source(make_source(), tmp_path / "s")
    (made,), (words,) = Reading().load([str(path), str(saved)])
    assert made.name == "source" and f"{path}: cannot be loaded as an exported network" in words

    def refuse(_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("transfer_risk.adapters.exported.kind_of", refuse)
    _, (words,) = Reading().load([str(path), str(saved)])
    assert words == f"{path}: Permission denied"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('preprocessing = "x"', r"preprocessing must be a table, \[preprocessing\]; got 'x'"),
        ("channels = 1", "channels must be a list of names; got 1"),
        ("[preprocessing]\nsize = 64", "preprocessing.size must be .*; got 64"),
        ("network = 3", r"network must be a table, \[network\]; got 3"),
    ],
)
def test_a_description_of_a_program_with_the_wrong_kinds_is_named(tmp_path, given, words):
    program = torch.export.export(torch.nn.Conv2d(1, 2, 1), (torch.rand(1, 1, 8, 8),))
    torch.export.save(program, tmp_path / "model.pt2")
    (tmp_path / "source.toml").write_text(f"format = 1\n{given}\n")
    with pytest.raises(ValueError, match=rf"source\.toml: {words}"):
        tr.load_source(tmp_path / "model.pt2")
