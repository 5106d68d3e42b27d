"""nnU-Net folders: equal to nnU-Net's own probabilities, and what bad folders say."""

import gc
import json
import re
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel import orientations
from scipy import ndimage

import transfer_risk as tr
from transfer_risk.adapters.nnunet.folder import checkpoint
from transfer_risk.adapters.nnunet.intensity import normalised
from transfer_risk.adapters.nnunet.network import Folds
from transfer_risk.adapters.nnunet.plans import labels_of, recipe_of
from transfer_risk.adapters.nnunet.preprocessing import prepared, raw_outputs
from transfer_risk.adapters.nnunet.resampling import Resampling, coarse_axis, resampled
from transfer_risk.encoders import encoder_parameters
from transfer_risk.heads import adapted_source
from transfer_risk.outputs import activate
from transfer_risk.prediction import predict_volume
from transfer_risk.volumes import Volume, read_images

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
@pytest.mark.parametrize(("kind", "tolerance"), [("exact", 3e-5), ("half", 1e-2)])
def test_probabilities_equal_nnunets_own(name, kind, tolerance):
    source = tr.load_source(FOLDERS[name])
    folder = REGIONS.parent if name == "regions" else SAGITTAL.parent
    theta = predict_volume(source, images_of(folder))
    torch.testing.assert_close(theta, own(kind, name).astype(np.float32), rtol=0, atol=tolerance)
    assert 0.01 < theta[2].mean() < 0.5


def test_an_image_turned_on_disk_gives_the_same_where_plans_turn_to_ras():
    volume = images_of(SAGITTAL.parent)
    source = turned_source("NibabelIOWithReorient")
    expected = predict_volume(source, volume)
    change = np.array([[1, -1], [0, 1], [2, -1]])  # swap two axes, flip two
    image = np.moveaxis(
        orientations.apply_orientation(np.moveaxis(volume.image, 0, -1), change), -1, 0
    )
    affine = volume.affine @ orientations.inv_ornt_aff(change, volume.image.shape[1:])
    made = predict_volume(source, Volume(np.ascontiguousarray(image), affine))
    back = orientations.apply_orientation(np.moveaxis(expected, 0, -1), change)
    np.testing.assert_allclose(np.moveaxis(made, 0, -1), back, atol=1e-5)


def turned_source(reader):
    source = tr.load_source(SAGITTAL / "fold_0")
    table = json.loads(source.architecture["configuration"]) | {"image_reader_writer": reader}
    recipe = recipe_of(table, source.activation)
    return replace(source, prepare=lambda volume: prepared(volume, recipe))


def test_more_zeros_around_change_nothing_inside_and_are_background():
    volume = images_of(SAGITTAL.parent)
    source = tr.load_source(SAGITTAL / "fold_0")
    wide = np.pad(volume.image, ((0, 0), (3, 0), (1, 4), (0, 2)))
    made = predict_volume(source, Volume(wide, volume.affine))
    inner = made[:, 3:, 1:-4, :-2]
    np.testing.assert_allclose(inner, predict_volume(source, volume), atol=1e-6)
    assert (made[0, :3] == 1).all() and (made[1:, :3] == 0).all()


def centre(mask):
    """Centre of mass as shares of the sides."""
    return (np.array(ndimage.center_of_mass(mask)) + 0.5) / mask.shape


def test_labels_and_counts_lie_on_the_networks_grid():
    images = images_of(SAGITTAL.parent)
    raw = nib.load(SAGITTAL.parent / "labelsTr" / "test_0.nii.gz").get_fdata().astype(np.int16)
    raw[7:], raw[:, :13], raw[..., 13:] = 0, 0, 0  # lopsided, or turning it would not show
    raw[:4] = -1
    for name, source in (("2d", tr.load_source(FLAT)), ("3d", tr.load_source(SAGITTAL))):
        ready = source.prepare(Volume(images.image, images.affine, raw))
        assert ready.labels.shape == (len(ready.images), *ready.images.shape[2:])
        assert set(np.unique(ready.labels)) == {-1, 0, 1, 2}
        shares = [float((ready.labels == k).float().mean()) for k in (1, 2)]
        inside = (images.image != 0).any(0)
        box = raw[np.ix_(*(inside.any(tuple({0, 1, 2} - {a})).nonzero()[0] for a in range(3)))]
        assert shares == pytest.approx([(box == k).mean() for k in (1, 2)], rel=0.2)
        plans = json.loads((SAGITTAL / "plans.json").read_text())
        turned = box.transpose([2 - t for t in plans["transpose_forward"]])
        seen = ready.labels.numpy() if name == "2d" else ready.labels[0].numpy()
        for k in (1, 2):
            assert centre(seen == k) == pytest.approx(centre(turned == k), abs=0.03)
        lop = centre(turned == 1)  # or a flip, or other axes, would not be seen
        assert np.ptp(lop) > 0.1 and np.abs(lop - 0.5).min() > 0.03
        if name == "2d":  # the network's slices are those along the first axis
            first = int(inside.any((1, 2)).nonzero()[0][0])
            assert ready.counts.tolist() == [k + first >= 4 for k in range(len(ready.images))]


def test_skipped_slices_do_not_touch_the_others():
    images = images_of(SAGITTAL.parent)
    source = tr.load_source(FLAT)
    labels = np.full(images.image.shape[1:], -1, dtype=np.int16)
    labels[5:7] = 0
    some = predict_volume(source, Volume(images.image, images.affine, labels), every_slice=False)
    np.testing.assert_allclose(some[:, 5:7], predict_volume(source, images)[:, 5:7], atol=1e-6)
    assert np.isfinite(some).all()


def test_normalisation_schemes_by_hand():
    channel = np.array([[[0.0, 2.0, 4.0, 255.0]]], dtype=np.float32)
    mask = np.array([[[False, True, True, False]]])
    ct = {"percentile_00_5": 1.0, "percentile_99_5": 5.0, "mean": 3.0, "std": 2.0}
    names = ("ZScoreNormalization", "ZScoreNormalization", "CTNormalization", "NoNormalization")
    names += ("RescaleTo01Normalization", "RGBTo01Normalization")
    masked = (True, False, False, False, False, False)
    made = normalised(np.stack([channel] * 6), mask, names, masked, [ct] * 6)[:, 0, 0]
    whole = (channel - channel.mean()) / channel.std()
    np.testing.assert_allclose(made[0], [0, -1, 1, 255])
    np.testing.assert_allclose(made[1], whole[0, 0], rtol=1e-6)
    np.testing.assert_allclose(made[2], [-1, -0.5, 0.5, 1])
    np.testing.assert_allclose(made[3], channel[0, 0])
    np.testing.assert_allclose(made[4], channel[0, 0] / 255)
    np.testing.assert_allclose(made[5], channel[0, 0] / 255)
    with pytest.raises(ValueError, match=r"intensities in \[0, 255\] for RGBTo01Normalization"):
        normalised(-channel[None], mask, names[5:], masked[5:], [ct])


def test_the_coarse_axis_by_hand():
    auto = Resampling(3, None)
    assert coarse_axis((3.5, 1, 1), (3.5, 1, 1), auto) == 0
    assert coarse_axis((1, 1, 2), (1, 1, 4), auto) == 2  # the second grid is anisotropic
    assert coarse_axis((1, 1, 3), (1, 1, 3), auto) is None  # not beyond 3
    assert coarse_axis((0.2, 1, 1), (1, 1, 1), auto) is None  # two coarse axes
    assert coarse_axis((1, 2, 1), (1, 1, 1), Resampling(3, True)) == 1
    assert coarse_axis((1, 9, 1), (1, 9, 1), Resampling(3, False)) is None


def test_the_coarse_axis_takes_the_nearest_slice_and_nothing_overshoots():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(4, 6, 5)).astype(np.float32)
    made = resampled(data, (7, 6, 5), Resampling(3), 0)
    places = np.stack(np.meshgrid(*map(np.arange, (7.0, 6, 5)), indexing="ij"))
    places[0] = 4 / 7 * (places[0] + 0.5) - 0.5
    nearest = ndimage.map_coordinates(data, places, order=0, mode="nearest")
    np.testing.assert_array_equal(made, nearest)
    fine = resampled(data, (9, 13, 11), Resampling(3), None)
    assert fine.min() >= data.min() and fine.max() <= data.max()
    np.testing.assert_allclose(resampled(np.ones_like(data), (2, 9, 3), Resampling(3), None), 1)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_raw_outputs_are_the_inverse_of_the_activation(activation):
    torch.manual_seed(1)
    outputs = 8 * torch.randn(1, 3, 50)
    theta = activate(outputs, activation)[0]
    made = torch.stack(list(raw_outputs(theta, activation)))[None]
    torch.testing.assert_close(activate(made, activation)[0], theta, rtol=1e-4, atol=1e-6)
    difference = made - outputs  # of a softmax: a constant for each voxel
    torch.testing.assert_close(difference, difference[:, :1].expand(1, 3, 50), rtol=0, atol=1e-3)


def test_region_outputs_survive_saturation():
    outputs = torch.tensor([[[3.0, -2.0], [25.0, 40.0]]])
    made = torch.stack(list(raw_outputs(activate(outputs, "sigmoid")[0], "sigmoid")))
    torch.testing.assert_close(made, outputs[0], rtol=1e-3, atol=1e-3)


def test_another_activation_is_refused(tmp_path):
    folder = shutil.copytree(REGIONS, tmp_path / "model")
    (folder / "source.toml").write_text('format = 1\nactivation = "regions"\n')
    with pytest.raises(ValueError, match="must be softmax or sigmoid; it is regions"):
        tr.load_source(folder)


def test_mirroring_averages_the_outputs_of_mirrored_images():
    torch.manual_seed(0)
    networks = [torch.nn.Conv2d(1, 2, 3, padding=1) for _ in range(2)]
    images = torch.randn(1, 1, 6, 5)
    made = Folds(networks, (0, 1)).eval()(images)
    total = sum(
        torch.flip(n(torch.flip(images, axes)), axes)
        for n in networks
        for axes in ((), (2,), (3,), (2, 3))
    )
    torch.testing.assert_close(made, total / 8)
    plain = Folds(networks, (0, 1)).train()(images)
    torch.testing.assert_close(plain, (networks[0](images) + networks[1](images)) / 2)


def test_options_of_source_toml(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    (folder / "source.toml").write_text(
        'format = 1\nname = "mine"\nlicence = "MIT"\n[network]\nfolds = [1]\nmirror = true\n'
    )
    source = tr.load_source(folder)
    assert (source.name, source.licence, source.trained["folds"]) == ("mine", "MIT", ["1"])
    assert source.network.mirrored == (2, 3, 4) and len(source.network.folds) == 1
    assert tr.load_source(folder / "source.toml").name == "mine"
    (folder / "source.toml").write_text("format = 1\n[network]\nfold = 1\n")
    with pytest.raises(
        ValueError, match="does not know fold; it may have target, folds, checkpoint, mirror"
    ):
        tr.load_source(folder)
    (folder / "source.toml").write_text("format = 1\n[network]\nfolds = [4]\n")
    with pytest.raises(
        ValueError, match=r"fold_4/checkpoint_final.pth: no such file; correct folds"
    ):
        tr.load_source(folder)


@pytest.mark.parametrize("given", ['mirror = "no"', "folds = 1", "folds = []", "checkpoint = 3"])
def test_options_of_another_type_are_refused(tmp_path, given):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    (folder / "source.toml").write_text(f"format = 1\n[network]\n{given}\n")
    with pytest.raises(ValueError, match=rf"source.toml: \[network\] {given.split()[0]} must be "):
        tr.load_source(folder)


@pytest.mark.parametrize(
    "given", ["spacing = [9.0, 9.0, 9.0]", 'orientation = "LPS"', 'normalise = "none"', "axis = 2"]
)
@pytest.mark.parametrize("place", ["model", "model/fold_0"])
def test_preprocessing_that_the_plans_decide_is_refused(tmp_path, given, place):
    shutil.copytree(SAGITTAL, tmp_path / "model")
    folder, key = tmp_path / place, given.split()[0]
    (folder / "source.toml").write_text(f"format = 1\n[preprocessing]\noverlap = 0.5\n{given}\n")
    words = f"source.toml: [preprocessing] of an nnU-Net source may change size, overlap, tiling; .* Remove {key} = "
    with pytest.raises(ValueError, match=words.replace("[", r"\[").replace("]", r"\]")):
        tr.load_source(folder)


def test_windows_of_a_folder_can_be_changed(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    table = '[preprocessing]\nsize = [16, 16, 16]\noverlap = 0.25\ntiling = "fixed"\n'
    (folder / "source.toml").write_text(f"format = 1\n{table}")
    given = tr.load_source(folder).preprocessing
    assert given == tr.Preprocessing(
        "none", spacing=given.spacing, size=(16, 16, 16), overlap=0.25, tiling="fixed"
    )
    configuration = json.loads((folder / "plans.json").read_text())["configurations"]["3d_fullres"]
    assert given.spacing == tuple(configuration["spacing"])


def test_a_checkpoint_file_is_sent_to_its_folder_and_only_what_is_needed_is_kept():
    file = SAGITTAL / "fold_0" / "checkpoint_final.pth"
    with pytest.raises(ValueError, match=r"is a checkpoint of nnU-Net; give its folder, .*fold_0$"):
        tr.load_source(file)
    assert set(checkpoint(file, False)) <= {
        "network_weights",
        "init_args",
        "trainer_name",
        "inference_allowed_mirroring_axes",
    }


def test_preprocessing_of_a_saved_source_is_refused_where_it_was_changed(tmp_path):
    source = tr.load_source(SAGITTAL / "fold_0")
    path = tr.save_source(source, tmp_path / "saved") / "source.toml"
    text = path.read_text()
    path.write_text(text.replace("overlap = 0.5", "overlap = 0.25"))
    assert tr.load_source(tmp_path / "saved").preprocessing.overlap == 0.25
    own = re.search(r"^spacing = \[[^]]*\]", text, re.MULTILINE)[0]
    path.write_text(text.replace(own, "spacing = [9.0, 9.0, 9.0]"))
    with pytest.raises(ValueError, match=r"source.toml: .* Remove spacing = \[9.0, 9.0, 9.0\]"):
        tr.load_source(tmp_path / "saved")


def test_fold_all_is_used_where_it_is_alone(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    shutil.copytree(folder / "fold_0", folder / "fold_all")
    assert tr.load_source(folder).trained["folds"] == ["0", "1"]
    shutil.rmtree(folder / "fold_0"), shutil.rmtree(folder / "fold_1")
    assert tr.load_source(folder).trained["folds"] == ["all"]


def test_what_a_folder_says_of_itself():
    source, regions = tr.load_source(SAGITTAL), tr.load_source(REGIONS)
    assert source.classes == ("background", "shell", "core") and source.channels == ("CT", "T1")
    assert source.labels == {"shell": 1, "core": 2} and source.spatial_dims == 3
    assert source.trained["dataset"] == "Dataset501_Sagittal"
    assert source.preprocessing.size == (8, 16, 16) and source.preprocessing.overlap == 0.5
    assert regions.classes == ("background", "whole", "core") and regions.activation == "sigmoid"
    assert regions.labels == {"whole": 1, "core": 2}
    assert tr.load_source(FLAT).spatial_dims == 2


@pytest.mark.parametrize("folder", [SAGITTAL, SAGITTAL / "fold_0", REGIONS])
def test_the_encoder_is_found_and_the_network_learns(folder):
    source = tr.load_source(folder)
    home = REGIONS.parent if folder == REGIONS else SAGITTAL.parent
    encoder = encoder_parameters(source.network, source.encoder)
    names = [name for name, _ in source.network.named_parameters()]
    assert 0 < len(encoder) < len(names)
    assert all(name not in encoder for name in names if name.startswith("decoder."))
    volume = images_of(home)
    raw = nib.load(home / "labelsTr" / "test_0.nii.gz").get_fdata().astype(np.int16)
    ready = source.prepare(Volume(volume.image, volume.affine, (raw == 2).astype(np.int16)))
    images, labels = (t[..., :8, :16, :16] for t in (ready.images, ready.labels))
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(source.network.parameters(), 1e-2)
    losses = []
    for _ in range(6):
        loss = tr.vanilla_loss(source.logits(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_saved_source_predicts_the_same(name, tmp_path):
    source = tr.load_source(FOLDERS[name])
    tr.save_source(source, tmp_path / "saved-v1.2")
    again = tr.load_source(tmp_path / "saved-v1.2")
    volume = images_of(REGIONS.parent if name == "regions" else SAGITTAL.parent)
    np.testing.assert_array_equal(predict_volume(again, volume), predict_volume(source, volume))
    assert again.classes == source.classes and again.trained == dict(source.trained)


def test_a_new_head_on_regions_is_saved_as_it_predicts(tmp_path):
    source = tr.load_source(REGIONS)
    network = adapted_source(source, tuple("xyz"), head="new", scratch=False, seed=0)[0].network
    student = replace(source, network=network, activation="softmax")
    again = tr.load_source(tr.save_source(student, tmp_path / "saved"))
    volume = images_of(REGIONS.parent)
    theta = predict_volume(student, volume)
    np.testing.assert_array_equal(predict_volume(again, volume), theta)
    np.testing.assert_allclose(theta.sum(0), 1, atol=1e-5)


def edited(tmp_path, change, *, model=SAGITTAL, file="plans.json"):
    """A copy of a model folder whose plans (or dataset) are changed in place."""
    folder = shutil.copytree(model, tmp_path / model.name)
    table = json.loads((folder / file).read_text())
    change(table)
    (folder / file).write_text(json.dumps(table))
    return folder


@pytest.mark.parametrize("model", [SAGITTAL, REGIONS])
def test_older_plans_build_the_same_network(model, tmp_path):
    def older(plans):
        table = plans["configurations"]["3d_fullres"]
        architecture = table.pop("architecture")
        given, name = architecture["arch_kwargs"], architecture["network_class_name"]
        blocks = given.get("n_conv_per_stage") or given.get("n_blocks_per_stage")
        table |= {
            "UNet_class_name": name.rpartition(".")[2],
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": blocks,
            "n_conv_per_stage_decoder": given["n_conv_per_stage_decoder"],
            "pool_op_kernel_sizes": given["strides"],
            "conv_kernel_sizes": given["kernel_sizes"],
        }

    source = tr.load_source(edited(tmp_path, older, model=model))
    volume = images_of(model.parent)
    expected = predict_volume(tr.load_source(model), volume)
    np.testing.assert_array_equal(predict_volume(source, volume), expected)


def test_inherited_configurations(tmp_path):
    def inherit(plans):
        tables = plans["configurations"]
        tables["base"] = tables["3d_fullres"]
        tables["3d_fullres"] = {"inherits_from": "base", "batch_size": 1}

    source = tr.load_source(edited(tmp_path, inherit))
    assert source.preprocessing.size == (8, 16, 16)


def deep(**changes):
    return lambda plans: plans["configurations"]["3d_fullres"].update(changes)


def architecture(**changes):
    def change(plans):
        table = plans["configurations"]["3d_fullres"]["architecture"]
        for key, value in changes.items():
            (table if key in table else table["arch_kwargs"])[key] = value

    return change


BAD_PLANS = [
    (
        deep(previous_stage="3d_lowres"),
        "second stage of a cascade, which needs the output of 3d_lowres",
    ),
    (
        lambda p: p["configurations"].pop("3d_fullres"),
        "no usable configuration 3d_fullres; it has 2d",
    ),
    (deep(inherits_from="3d_fullres"), "no usable configuration 3d_fullres"),
    (
        deep(normalization_schemes=["Mine"]),
        "normalization_schemes must be one of ZScore.*it is Mine",
    ),
    (
        deep(preprocessor_name="Mine"),
        "preprocessor_name must be one of DefaultPreprocessor; it is Mine",
    ),
    (
        deep(resampling_fn_data="resample_torch_fornnunet"),
        "resampling_fn_data must be one of resample_data_or_seg_to_shape.*give the folder of probabilities instead",
    ),
    (
        deep(resampling_fn_data_kwargs={"order": 3, "order_z": 1}),
        "resampling_fn_data_kwargs.order_z must be one of 0; it is 1",
    ),
    (
        lambda p: p.update(image_reader_writer="Tiff3DIO"),
        "image_reader_writer must be one of SimpleITKIO",
    ),
    (lambda p: p.pop("transpose_forward"), "plans.json: needs the key 'transpose_forward'"),
    (architecture(network_class_name="os.system"), "must be one of dynamic_network_architectures"),
    (
        architecture(network_class_name="dynamic_network_architectures.architectures.unet.Mine"),
        "unet.Mine is not in the installed packages",
    ),
    (
        architecture(network_class_name="dynamic_network_architectures.architectures.mine.Mine"),
        "unet.Mine is not in the installed packages",
    ),
    (
        architecture(
            network_class_name="dynamic_network_architectures.architectures.unet.InitWeights_He"
        ),
        "InitWeights_He",
    ),
    (
        architecture(conv_op="os.system"),
        "conv_op must be a class of torch.nn or of dynamic.*it is os.system",
    ),
    (architecture(n_conv_per_stage=[1, 1]), "arch_kwargs do not fit .*PlainConvUNet"),
    (
        architecture(features_per_stage=[4, 8, 16]),
        "does not fit the network.*the trainer was nnUNetTrainer",
    ),
]


@pytest.mark.parametrize(("change", "words"), BAD_PLANS)
def test_plans_that_cannot_be_followed(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tr.load_source(edited(tmp_path, change))


def test_plans_without_any_architecture(tmp_path):
    change = lambda p: p["configurations"]["3d_fullres"].pop("architecture")  # noqa: E731
    with pytest.raises(
        ValueError, match=r"architecture section, or UNet_class_name one of .*; it is None"
    ):
        tr.load_source(edited(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda d: d["labels"].update(more=3),
            "does not fit the network.*plans.json and dataset.json",
        ),
        (lambda d: d.pop("labels"), "dataset.json: needs the key 'labels'"),
        (lambda d: d["labels"].update(core=[1, 2]), "regions_class_order must have 2 values"),
        (lambda d: d.update(channel_names={"0": "CT"}), "does not fit the network"),
    ],
)
def test_descriptions_that_contradict_the_weights(change, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tr.load_source(edited(tmp_path, change, file="dataset.json"))


@pytest.mark.parametrize("name", ["plans.json", "dataset.json"])
def test_missing_or_broken_tables(name, tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    for text, words in (("{", "no readable JSON"), ("[]", "must hold a table; holds a list")):
        (folder / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name}: .*{words}"):
            tr.load_source(folder)
    (folder / name).unlink()
    with pytest.raises(
        ValueError, match=f"{name}: no such file; copy it from the folder that nnU-Net"
    ):
        tr.load_source(folder)


def test_half_a_checkpoint(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    file = folder / "fold_1" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:40_000])
    with pytest.raises(ValueError, match=r"fold_1/checkpoint_final.pth: is no whole checkpoint"):
        tr.load_source(folder)


def test_only_a_best_checkpoint(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    for fold in ("fold_0", "fold_1"):
        (folder / fold / "checkpoint_final.pth").rename(folder / fold / "checkpoint_best.pth")
    with pytest.raises(
        ValueError, match=r"no fold with checkpoint_final.pth; found checkpoint_best.pth"
    ):
        tr.load_source(folder)
    (folder / "source.toml").write_text(
        'format = 1\n[network]\ncheckpoint = "checkpoint_best.pth"\n'
    )
    assert len(tr.load_source(folder).network.folds) == 2


def test_a_checkpoint_of_something_else(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    torch.save({"epoch": 3}, folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(ValueError, match="no nnU-Net v2 checkpoint; it has no network_weights"):
        tr.load_source(folder)


class Opens:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_checkpoint_is_refused_and_runs_with_trust_alone(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    file, trace = folder / "fold_0" / "checkpoint_final.pth", tmp_path / "trace"
    content = torch.load(file, weights_only=False)
    torch.save(content | {"logging": Opens(trace)}, file)
    with pytest.raises(ValueError, match=r"is a pickle that would import .*open"):
        tr.load_source(folder / "fold_0")
    assert not trace.exists()
    with pytest.warns(ResourceWarning):
        tr.load_source(folder / "fold_0", trust=True)
        content.clear()
        gc.collect()
    assert trace.exists()


def test_scalars_under_numpys_old_name_are_read(tmp_path):
    folder = shutil.copytree(SAGITTAL, tmp_path / "model")
    file = folder / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(file) as archive:
        members = {m: archive.read(m) for m in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(
                name,
                data.replace(b"numpy._core.multi", b"numpy.core.multi")
                if name.endswith("data.pkl")
                else data,
            )
    assert b"numpy.core.multiarray" in zipfile.ZipFile(file).read(
        next(n for n in members if n.endswith("data.pkl"))
    )
    assert tr.load_source(folder / "fold_0").classes[1] == "shell"


def test_an_empty_image():
    source = tr.load_source(SAGITTAL)
    with pytest.raises(ValueError, match="image must not be 0 everywhere"):
        predict_volume(source, Volume(np.zeros((2, 5, 5, 5), np.float32), np.eye(4)))


def test_the_missing_package_is_named(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("dynamic_network_architectures")]:
        monkeypatch.delitem(sys.modules, name)
    without = [p for p in sys.path if not Path(p, "dynamic_network_architectures").is_dir()]
    monkeypatch.setattr(sys, "path", without)
    with pytest.raises(ValueError, match=r"pip install -e '.\[nnunet\]' in the clone"):
        tr.load_source(SAGITTAL)


@pytest.mark.parametrize("name", ["background", "Background", "bg"])
@pytest.mark.parametrize("zero", [0, [0]])
def test_the_class_of_value_0_is_background_whatever_its_name(name, zero):
    table = {name: zero, "wm": 2, "gm": 1, "ignore": 3}
    assert labels_of({"labels": table}, Path("dataset.json")) == ({"gm": 1, "wm": 2}, False)
