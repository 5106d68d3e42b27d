"""Sources of several families on one task, through the command line."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import run

import transfer_risk as tr

FIXTURES = Path(__file__).parent / "fixtures"
HOME = FIXTURES / "nnunet" / "sagittal"
MODEL, FLAT = (
    HOME / "nnUNetTrainer__nnUNetPlans__3d_fullres",
    HOME / "nnUNetTrainer__nnUNetPlans__2d",
)


@pytest.fixture
def task(tmp_path):
    """Task file on the two cases that no fixture model was trained on; both are scored."""
    path = tr.write_tasks(HOME, tmp_path / "tasks")[0]
    text = path.read_text()
    path.write_text(
        text[: text.index("test = [")] + "test = []\n" + text[text.index("\n[training") :]
    )
    return path


def native(folder):
    torch.manual_seed(0)
    source = tr.Source(
        "native",
        tr.UNet(1, 2, width=4, depth=2),
        ("background", "core"),
        ("T1",),
        architecture={"target": "unet", "width": 4, "depth": 2},
    )
    return tr.save_source(source, folder)


def test_score_ranks_a_model_a_folder_of_probabilities_and_a_native_source(task, tmp_path):
    sources = (MODEL, FLAT, HOME / "predicted", native(tmp_path / "native"))
    result = run("score", task, *sources, "--format", "json")
    assert result.exit_code == 0, result.output
    rows = {row["source"]: row for row in json.loads(result.stdout)["ranking"]}
    model, saved = rows["Dataset501_Sagittal-3d_fullres"], rows["predicted"]
    assert len(rows) == 4 and rows["native"]["rank"] == 4
    assert saved["leep"] == pytest.approx(model["leep"], abs=2e-4)
    assert saved["dice"] == pytest.approx(model["dice"], abs=2e-3) and model["dice"] > 0.8
    assert all(row["cases"] == 2 and row["pixels"] == model["pixels"] for row in rows.values())


def test_saved_maps_on_another_grid_are_refused(task, tmp_path):
    target = tr.load_task(task)
    case = target.split("train")[0]
    image = nib.load(case.images[0])
    theta = np.zeros((*image.shape, len(target.classes)), np.float32)
    theta[..., 0] = 1
    names = ", ".join(f'"{c}"' for c in target.classes)
    (tmp_path / "source.toml").write_text(
        f'format = 1\nclasses = [{names}]\n[network]\ntarget = "probabilities"\n'
    )
    path = tmp_path / f"{case.id}.nii.gz"
    nib.save(nib.Nifti1Image(theta, image.affine), path)
    assert tr.score(tr.load_source(tmp_path), target, cases=[case]).cases == (case.id,)
    nib.save(nib.Nifti1Image(theta, image.affine @ np.diag([-1, 1, 1, 1])), path)
    with pytest.raises(ValueError, match=f"probabilities of {case.id}: has other axis directions"):
        tr.score(tr.load_source(tmp_path), target, cases=[case])


def described(folder, target, *, arguments, dims, weights):
    """A folder with source.toml and weights of a network of the fixtures' two channels."""
    from safetensors.torch import save_model

    folder.mkdir()
    save_model(weights, str(folder / "weights.safetensors"))
    (folder / "source.toml").write_text(
        f'format = 1\nspatial_dims = {dims}\nchannels = ["T1", "CT"]\nclasses = ["background", "a", "b"]\n'
        f'[network]\ntarget = "{target}"\nweights = "weights.safetensors"\n[network.arguments]\n{arguments}\n'
        f"[preprocessing]\nsize = {[32, 32] if dims == 2 else [16, 16, 16]}\n"
    )
    return folder


def copied(folder, name, extra=""):
    """An exported network of one channel, T1, that is told the size it works on."""
    home = FIXTURES / "exported"
    text = (home / f"{Path(name).stem}.source.toml").read_text()
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes((home / name).read_bytes())
    (folder / f"{Path(name).stem}.source.toml").write_text(text + extra)
    return folder / name


def test_one_ranking_mixes_every_family(task, tmp_path):
    from monai.networks.nets import BasicUNet, SegResNet

    torch.manual_seed(0)
    basic = BasicUNet(2, 2, 3, features=(4, 4, 8, 8, 8, 4))
    segres = SegResNet(3, 8, in_channels=2, out_channels=3, blocks_down=(1, 1), blocks_up=(1,))
    by_name = {"arguments": "in_channels = 2\nout_channels = 3\n", "weights": segres, "dims": 3}
    by_name["arguments"] += (
        "init_filters = 8\nspatial_dims = 3\nblocks_down = [1, 1]\nblocks_up = [1]"
    )
    factory = {"arguments": "spatial_dims = 2\nin_channels = 2\nout_channels = 3\n", "dims": 2}
    factory["arguments"] += "features = [4, 4, 8, 8, 8, 4]"
    size = "size = [32, 32]\n"
    sources = {
        "native": native(tmp_path / "native"),
        "Dataset501_Sagittal-3d_fullres": MODEL,
        "Dataset501_Sagittal-2d": FLAT / "fold_0",
        "predicted": HOME / "predicted",
        "bundle": FIXTURES / "bundle",
        "scripted": copied(tmp_path / "exported", "scripted.ts", size),
        "fixed": copied(tmp_path / "exported", "fixed.pt2"),
        "free": copied(tmp_path / "exported", "free.pt2", size),
        "monai": described(tmp_path / "monai", "SegResNet", **by_name),
        "factory": described(
            tmp_path / "factory", "monai.networks.nets:BasicUNet", weights=basic, **factory
        ),
    }
    result = run("score", task, *sources.values(), "--format", "json", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["ranking"]
    assert {row["source"] for row in rows} == set(sources) and len(rows) == 10
    assert len({row["pixels"] for row in rows}) == 1 and {row["cases"] for row in rows} == {2}
    assert all(row["leep_floor"] - 1e-9 <= row["leep"] <= 0 for row in rows)
    informed = {"Dataset501_Sagittal-3d_fullres", "Dataset501_Sagittal-2d", "predicted"}
    assert {row["source"] for row in rows[:3]} == informed
    assert run("plot", tmp_path / "r", "--out", tmp_path / "ranking.png").exit_code == 0


@pytest.mark.parametrize("source", [MODEL / "fold_0", FLAT, HOME / "predicted"])
def test_maps_lie_on_the_images_grid(source, task, tmp_path):
    result = run("map", task, source, "--out", tmp_path / "maps", "--split", "all")
    assert result.exit_code == 0, result.output
    for case in ("test_0", "test_1"):
        made = nib.load(tmp_path / "maps" / f"{case}_risk.nii.gz")
        label = nib.load(HOME / "labelsTr" / f"{case}.nii.gz")
        assert made.shape == label.shape
        np.testing.assert_allclose(made.affine, label.affine)
        risk, inside = made.get_fdata(), label.get_fdata() > 0
        assert 1 <= risk[~inside & (risk > 0)].mean() < risk[inside].mean() <= 10


def test_predictions_of_a_model_equal_nnunets_own_label_map(tmp_path):
    images = sorted((HOME / "imagesTr").glob("test_*"))
    result = run("predict", MODEL, *images, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for case in ("test_0", "test_1"):
        made = nib.load(tmp_path / f"{case}.nii.gz")
        own = nib.load(HOME / "predicted" / f"{case}.nii.gz")
        assert (made.get_fdata() == own.get_fdata()).mean() > 0.999
        np.testing.assert_allclose(made.affine, own.affine, atol=1e-5)


def test_what_predict_saves_is_a_source(task, tmp_path):
    images = sorted((HOME / "imagesTr").glob("test_*"))
    assert run("predict", MODEL, *images, "--out", tmp_path / "p", "--probabilities").exit_code == 0
    result = run("score", task, MODEL, tmp_path / "p", "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["ranking"]
    assert rows[0]["leep"] == pytest.approx(rows[1]["leep"], abs=1e-6)
    assert "note: " in result.stderr and "taken for background, class1, class2" in result.stderr


def test_a_bad_folder_among_several_is_named_and_the_others_are_ranked(task, tmp_path):
    (tmp_path / "bad" / "fold_0").mkdir(parents=True)
    (tmp_path / "bad" / "fold_0" / "checkpoint_final.pth").write_bytes(b"nothing")
    result = run("score", task, tmp_path / "bad", HOME / "predicted")
    assert result.exit_code == 1 and "predicted" in result.stdout
    assert "bad/plans.json: no such file" in result.stderr


@pytest.mark.parametrize("source", [MODEL / "fold_0", FLAT])
@pytest.mark.parametrize("head", ["keep", "new"])
def test_a_model_is_fine_tuned_with_the_risk_weighted_loss(source, head, task, tmp_path):
    path = task.with_name("one.toml")
    path.write_text(task.read_text().replace("test = []", 'test = ["test_1"]'))
    words = ("--iterations", 3, "--method", "risk-map", "--head", head, "--batch", 2)
    result = run("finetune", path, source, "--out", tmp_path / "run", *words)
    assert result.exit_code == 0, result.output
    made = tr.load_source(tmp_path / "run")
    before = tr.load_source(source)
    assert made.classes == before.classes and made.preprocessing == before.preprocessing
    encoders = [dict(s.network.encoder.named_parameters()) for s in (before, made)]
    assert all(torch.equal(w, encoders[1][name]) for name, w in encoders[0].items())
    heads = [s.network.decoder.seg_layers[-1].weight for s in (before, made)]
    assert not torch.equal(*heads)
    assert run("score", path, tmp_path / "run", source).exit_code == 0


@pytest.mark.parametrize("recipe", ["new", "probe"])
def test_a_fold_is_fine_tuned_to_other_classes_and_a_mean_of_folds_is_not(recipe, task, tmp_path):
    path = task.with_name("core.toml")
    text = task.read_text().replace('    "shell",\n', "").replace("shell = [\n    1,\n]\n", "")
    path.write_text(text.replace("test = []", 'test = ["test_1"]'))
    words = ("--iterations", 2, "--batch", 2, "--head", recipe, "--out")
    result = run("finetune", path, MODEL, *words, tmp_path / "mean")
    assert result.exit_code == 1
    assert "is the mean of 2 networks, which get no new head together" in result.stderr
    result = run("finetune", path, MODEL / "fold_1", *words, tmp_path / "run")
    assert result.exit_code == 0, result.output
    made = tr.load_source(tmp_path / "run")
    assert made.classes == ("background", "core")
    assert made.network.decoder.seg_layers[-1].out_channels == 2
    assert run("map", path, tmp_path / "run", "--out", tmp_path / "maps").exit_code == 0


def test_saved_probabilities_are_not_fine_tuned(task, tmp_path):
    path = task.with_name("one.toml")
    path.write_text(task.read_text().replace("test = []", 'test = ["test_1"]'))
    result = run("finetune", path, HOME / "predicted", "--out", tmp_path / "run")
    assert result.exit_code == 1 and "cannot be fine-tuned" in result.stderr


def test_saved_probabilities_predict_no_image(task, tmp_path):
    image = tr.load_task(task).cases[0].images[0]
    result = run("predict", HOME / "predicted", image, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "cannot predict a new image" in result.stderr
    assert not (tmp_path / "out").exists()
