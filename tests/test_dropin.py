"""Maps and losses in other people's training loops: the programs of docs/examples, and maps of training cases."""

import importlib.util
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from command_line import run
from torch import nn

import transfer_risk as tr

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
SHAPE = (20, 18, 8)


def program(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save(path, data):
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return str(path)


@pytest.fixture
def task(tmp_path):
    """Four cases, two of them kept for testing."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for k in range(4):
        labels = (rng.random(SHAPE) < 0.2).astype(np.uint8)
        image = (1 + labels + rng.normal(size=SHAPE) / 3).astype(np.float32)
        save(tmp_path / "data" / "images" / f"c{k}.nii.gz", image)
        save(tmp_path / "data" / "labels" / f"c{k}.nii.gz", labels)
    return tr.write_tasks(tmp_path / "data", tmp_path / "tasks")[0]


def make_source(channels=("image",)):
    torch.manual_seed(0)
    return tr.Source(
        "s",
        tr.UNet(len(channels), 2, width=4, depth=2).eval(),
        ("background", "a"),
        channels,
        architecture={"target": "unet", "width": 4, "depth": 2},
    )


def test_in_sample_maps_of_training_cases_have_the_mean_leep_and_one_joint(task):
    task, source = tr.load_task(task), make_source()
    cases = task.split("train")
    maps = tr.risk_maps(source, task, cases=cases, in_sample=True)
    mean = torch.stack([m.transferability for m in maps.values()]).double().mean()
    assert float(mean) == pytest.approx(tr.score(source, task).estimates["leep"].value, abs=1e-6)
    others = tr.risk_maps(source, task, cases=cases)
    difference = [
        (maps[c.id].transferability - others[c.id].transferability).abs().max() for c in cases
    ]
    assert len(cases) == 2 and min(difference) > 1e-4


def test_a_clip_of_written_maps_is_the_percentile_of_all_voxels_as_in_training(task, tmp_path):
    task, source = tr.load_task(task), make_source()
    cases = task.split("train")
    maps = tr.risk_maps(source, task, cases=cases, in_sample=True)
    values = torch.cat([m.transferability.ravel() for m in maps.values()])
    values = values[~values.isnan()].numpy()
    low, high = np.percentile(values, 20), values.max()
    tr.write_maps(source, task, tmp_path, cases=cases, in_sample=True, hardness=True, clip=20)
    for case in cases:
        made = nib.load(tmp_path / f"{case.id}_hardness.nii.gz").get_fdata()
        own = maps[case.id].transferability[0].numpy()
        expected = np.clip((high - own) / (high - low), 0, 1)
        np.testing.assert_allclose(made, np.nan_to_num(expected), atol=1e-4)


def test_training_maps_on_the_command_line_say_their_joint_and_warn_of_test_labels(task, tmp_path):
    source = tr.save_source(make_source(), tmp_path / "s")
    result = run("map", task, source, "--split", "train", "--in-sample", "--out", tmp_path / "maps")
    assert result.exit_code == 0 and "4 maps" in result.stdout and not result.stderr
    risk = nib.load(next((tmp_path / "maps").glob("*_risk.nii.gz")))
    assert risk.header["descrip"].item().decode() == "s: in-sample joint of 2 cases"
    result = run("map", task, source, "--in-sample", "--out", tmp_path / "leak")
    assert result.exit_code == 0
    assert "weights made from test labels leak; give --split train" in result.stderr


def test_the_loop_has_the_transferability_of_one_joint_over_all_batches():
    source = make_source()
    images, labels = torch.randn(11, 1, 16, 16), torch.randint(-1, 2, (11, 16, 16))
    made = program("pytorch_loop").transferability(source, images, labels, 2)
    expected = tr.risk_map(source.predict(images), labels, num_classes=2).transferability
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0, equal_nan=True)


@pytest.fixture
def triple(tmp_path):
    """Files of an image, its label, and a risk that is a function of the label: 0 where it is 2, else 2 or 7."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (6, 6, 4)).repeat(6, 0).repeat(6, 1).repeat(4, 2).astype(np.uint8)
    risk = np.array([2, 7, 0], dtype=np.float32)[labels]
    image = rng.normal(1, 1, labels.shape).astype(np.float32)
    data = {"image": image, "label": labels, "risk": risk}
    return {name: save(tmp_path / f"{name}.nii.gz", values) for name, values in data.items()}


def test_the_risk_stays_that_of_its_label_through_spatial_augmentation(triple):
    pipeline = program("monai_pipeline").pipeline((32, 32, 16))
    pipeline.set_random_state(0)
    for _ in range(3):
        made = pipeline(triple)
        label, risk = (made[name].as_tensor() for name in ("label", "risk"))
        assert label.shape == risk.shape == (1, 32, 32, 16)
        inside = risk > 0  # what is padded has label 0 and risk 0
        assert set(risk.unique().tolist()) == {0.0, 2.0, 7.0}
        assert bool((risk[inside] == torch.where(label[inside] == 1, 7.0, 2.0)).all())
        assert bool((label[inside] < 2).all()) and inside.any()


def test_what_has_risk_zero_gets_no_label_and_no_gradient(triple):
    module = program("monai_pipeline")
    pipeline = module.pipeline((32, 32, 16))
    pipeline.set_random_state(1)
    made = pipeline(triple)
    labels, risk = module.target({name: made[name][None] for name in made}, value=1)
    assert bool(((labels == -1) == (risk == 0)).all())
    logits = torch.randn(1, 2, 32, 32, 16, requires_grad=True)
    tr.RiskWeightedLoss()(logits, labels, risk).backward()
    assert bool(((logits.grad.abs().sum(1) == 0) == (risk == 0)).all())


class Watched(nn.Module):
    """Logits of the first channel; remembers the images that it was shown."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return torch.cat([0 * images[:, :1], images[:, :1]], 1)


def test_a_drawn_prediction_fills_in_missing_channels_as_the_maps_do(task):
    network = Watched()
    source = tr.Source("s", network, ("background", "a"), ("image", "T2"), missing_channels="zero")
    tr.plot_maps(tr.load_task(task), [source])
    assert network.seen and all(not images[:, 1].any() for images in network.seen)
    assert all(images[:, 0].any() for images in network.seen)


def test_plot_reads_sources_with_the_options_of_other_commands(task, tmp_path):
    source = tr.save_source(make_source(("image", "T2")), tmp_path / "s")
    figure = tmp_path / "figure.png"
    result = run("plot", task, source, "--out", figure)
    assert result.exit_code == 1 and "wants the channels ['image', 'T2']" in result.stderr
    result = run("plot", task, source, "--missing-channels", "zero", "--out", figure)
    assert result.exit_code == 0 and figure.stat().st_size > 0
    assert "was given zeros for the channels ['T2']" in result.stderr
    (tmp_path / "empty").mkdir()
    result = run("plot", task, source, tmp_path / "empty", "--out", tmp_path / "two.png")
    assert result.exit_code == 1 and "empty" in result.stderr
    assert not (tmp_path / "two.png").exists()
    (tmp_path / "ranking.json").write_text("{}")
    words = ("plot", tmp_path / "ranking.json", "--missing-channels", "zero", "--out", figure)
    result = run(*words)
    assert result.exit_code == 2 and "are for SOURCEs" in result.stderr


def test_a_trusted_builder_is_fine_tuned_to_the_end(task, tmp_path, monkeypatch):
    (tmp_path / "builders.py").write_text(
        "import transfer_risk as tr\n\n\ndef build(width):\n    return tr.UNet(1, 2, width=width, depth=2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "s").mkdir()
    torch.save(make_source().network.state_dict(), tmp_path / "s" / "w.pth")
    (tmp_path / "s" / "source.toml").write_text(
        'format = 1\nchannels = ["image"]\nclasses = ["background", "a"]\n'
        '[network]\ntarget = "builders:build"\nweights = "w.pth"\narguments = {width = 4}\n'
    )
    words = ("--iterations", 1, "--out", tmp_path / "run", "--trust", tmp_path / "s")
    result = run("finetune", task, tmp_path / "s", *words)
    assert result.exit_code == 0, result.output
    assert "decision argmax" in result.stdout
    result = run("score", task, tmp_path / "run")
    assert result.exit_code == 1 and "so it was not called" in result.stderr


def test_a_run_with_one_test_case_has_no_interval(task, tmp_path):
    text = task.read_text()
    task.write_text(
        text[: text.index("test = [")] + 'test = ["c0"]\n' + text[text.index("\n[training") :]
    )
    source = tr.save_source(make_source(), tmp_path / "s")
    result = run("finetune", task, source, "--iterations", 1, "--out", tmp_path / "run")
    assert result.exit_code == 0 and result.stdout.count("(one case: no interval)") == 2


def test_the_source_toml_of_the_documentation_loads_as_it_stands(tmp_path):
    from monai.networks.nets import SegResNet
    from safetensors.torch import save_model

    text = (EXAMPLES.parent / "models.md").read_text().split("```toml\n")[1].split("```")[0]
    (tmp_path / "source.toml").write_text(text)
    network = SegResNet(spatial_dims=3, in_channels=2, out_channels=3)
    save_model(network, str(tmp_path / "weights.safetensors"))
    source = tr.load_source(tmp_path)
    assert source.preprocessing.size == (96, 96, 96) and source.missing_channels == "zero"
    names = [name for name, _ in source.network.named_parameters()]
    assert 0 < len([name for name in names if re.search(source.encoder, name)]) < len(names)
