"""3D sources on whole examinations: windows, spacing, orientation, and one case at a time."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import transfer_risk as tr
from transfer_risk.outputs import activate
from transfer_risk.passes import Predictions
from transfer_risk.prediction import decide, predict_images, predict_volume, prepare
from transfer_risk.volumes import Volume


class Brightness(nn.Module):
    """Logits (0, x - 1) of the image x: what it says does not depend on neighbours."""

    def forward(self, images):
        return torch.cat([torch.zeros_like(images), images - 1], 1)


def source(network=None, **preprocessing):
    given = tr.Preprocessing(**{"normalise": "none"} | preprocessing)
    return tr.Source(
        "3d",
        network or Brightness(),
        ("background", "a"),
        ("T1",),
        spatial_dims=3,
        preprocessing=given,
    )


class Positional(nn.Module):
    """Logits that depend on the place in the window, so that blending matters."""

    def forward(self, images):
        places = sum(torch.meshgrid(*[torch.arange(n) for n in images.shape[2:]], indexing="ij"))
        return torch.cat([images, places * torch.ones_like(images)], 1)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_windows_are_blended_as_logits_with_gaussian_weights(overlap):
    shape, size = (9, 7, 5), (4, 4, 4)
    images = torch.randn(1, 1, *shape)
    made = predict_images(source(Positional(), size=size, overlap=overlap), images)
    starts = []
    for n, s in zip(shape, size, strict=True):
        step = max(1, int(s * (1 - overlap)))
        number = -(-(n - s) // step) + 1
        starts.append([min(k * step, n - s) for k in range(number)])
    axis = [np.exp(-0.5 * ((np.arange(s) - (s - 1) / 2) / (0.125 * s)) ** 2) for s in size]
    weight = torch.from_numpy(np.einsum("i,j,k->ijk", *axis)).float()
    weight = weight.clamp(min=max(float(weight.min()), 1e-3))
    total, count = torch.zeros(1, 2, *shape), torch.zeros(shape)
    for corner in itertools.product(*starts):
        place = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
        total[(..., *place)] += weight * Positional()(images[(..., *place)])
        count[place] += weight
    torch.testing.assert_close(made, (total / count).softmax(1), atol=1e-5, rtol=1e-5)


def test_an_anisotropic_image_is_predicted_on_its_own_grid():
    change = nib.orientations.axcodes2ornt("LAS")
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine = affine @ nib.orientations.inv_ornt_aff(change, (24, 20, 12))
    x, y, z = np.meshgrid(*[np.linspace(0, 1, n) for n in (24, 20, 12)], indexing="ij")
    image = (2 * x + y * z).astype(np.float32)[None]  # smooth: resampling changes little
    model = source(size=(16, 16, 16), spacing=(1.5, 1.5, 1.5), orientation="RAS")
    made = predict_volume(model, Volume(image, affine))
    expected = 1 / (1 + np.exp(1 - image[0]))
    assert made.shape == (2, 24, 20, 12)
    np.testing.assert_allclose(made.sum(0), 1, atol=1e-6)
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(made[1][inside], expected[inside], atol=0.01)


def test_decisions_are_those_of_argmax_with_offsets():
    theta = np.random.default_rng(0).dirichlet(np.ones(4), (5, 6)).astype(np.float32)
    theta = np.moveaxis(theta, -1, 0)
    np.testing.assert_array_equal(decide(source(), theta), theta.argmax(0))
    offsets = (0.0, 1.0, -1.0, 0.5)
    tuned = tr.Source(
        "t", Brightness(), tuple("abcd"), ("T1",), decision=tr.Decision("tuned", offsets)
    )
    shifted = np.log(theta) + np.reshape(offsets, (4, 1, 1))
    np.testing.assert_array_equal(decide(tuned, theta), shifted.argmax(0))


@pytest.fixture
def task(tmp_path):
    rng = np.random.default_rng(0)
    cases = []
    for k in range(3):
        image = rng.normal(1, 1, (10, 9, 8)).astype(np.float32)
        paths = [str(tmp_path / f"{k}_{name}.nii") for name in ("image", "label")]
        for path, data in zip(paths, (image, (image > 1).astype(np.uint8)), strict=True):
            nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 2.5, 1.0])), path)
        cases.append(tr.Case(f"c{k}", (paths[0],), paths[1]))
    return tr.Task("cubes", ("background", "a"), ("T1",), tuple(cases), test=("c0", "c1"))


def test_a_3d_source_is_scored_and_mapped(task, tmp_path):
    model = source(size=(8, 8, 8))
    score = tr.score(model, task, cases=task.cases)
    assert score.estimates["leep"].value > score.estimates["leep_floor"].value
    assert score.pixels == 3 * 10 * 9 * 8
    paths, failed = tr.write_maps(model, task, tmp_path / "maps")
    assert len(paths) == 4 and not failed
    assert nib.load(paths[0]).shape == (10, 9, 8)


def test_kept_cases_are_those_that_were_predicted(task):
    model = source(size=(8, 8, 8))
    kept, fresh = Predictions(model, task, task.cases), Predictions(model, task, task.cases, 0)
    calls = []
    kept.progress = calls.append
    for _ in range(3):
        for (a, theta, labels), (b, other, others) in zip(kept, fresh, strict=True):
            assert a.id == b.id and torch.equal(theta, other) and torch.equal(labels, others)
    assert len(calls) == 3


@pytest.mark.parametrize("fitting", [0, 1])
def test_a_full_disk_costs_predictions_alone(task, monkeypatch, fitting):
    model, calls = source(size=(8, 8, 8)), []
    plain = tr.score(model, task, cases=task.cases)
    save = np.save

    def full(file, values):
        if fitting * 2 <= len(calls):
            file.write(b"half of a case")
            raise OSError(28, "No space left on device")
        calls.append(values)
        save(file, values)

    monkeypatch.setattr(np, "save", full)
    made = tr.score(model, task, cases=task.cases)
    assert len(calls) == 2 * fitting
    assert {n: v.value for n, v in made.estimates.items()} == pytest.approx(
        {n: v.value for n, v in plain.estimates.items()}, nan_ok=True
    )


def test_a_slice_is_padded_alike_alone_and_among_others():
    """The smallest value of the examination pads each slice, whichever slices share its batch."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, (1, 9, 7, 20)).astype(np.float32)
    image[..., 17] -= 80
    torch.manual_seed(0)
    network = nn.Conv2d(1, 2, 3, padding=1).eval()
    given = tr.Preprocessing(normalise="zscore", size=(12, 12))
    flat = tr.Source("flat", network, ("background", "a"), ("T1",), preprocessing=given)
    volume = Volume(image, np.eye(4))
    theta = predict_volume(flat, volume)
    images = prepare(flat, volume).images
    padded = torch.nn.functional.pad(images, (2, 3, 1, 2), value=float(images.min()))
    with torch.no_grad():
        expected = network(padded)[..., 1:-2, 2:-3].softmax(1)
    np.testing.assert_allclose(theta, expected.permute(1, 2, 3, 0), atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_decided_by_the_last_above_one_half(seed):
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (1, 4, 9, 8, 7)))
    logits[0, :, 0, 0, 0] = torch.tensor([0.99, 0.55, 0.45, 0.1]).logit()
    network, names = nn.Identity(), ("background", "a", "b", "c", "d")
    regions = tr.Source("r", network, names, ("T1",), activation="sigmoid")
    made = decide(regions, activate(logits, "sigmoid")[0].numpy())
    expected = np.zeros((9, 8, 7))
    for k, p in enumerate(logits[0].sigmoid().numpy(), start=1):
        expected[p > 0.5] = k
    np.testing.assert_array_equal(made, expected)
    assert made[0, 0, 0] == 2


@pytest.mark.parametrize("dims", [2, 3])
def test_each_channel_is_padded_with_its_own_smallest_value(dims):
    """Air is the smallest value of a z-scored channel, another one in each."""
    rng = np.random.default_rng(0)
    image = np.zeros((2, 8, 9, 5), np.float32)
    image[0, 3:6, 3:6] = rng.normal(100, 5, (3, 3, 5))
    image[1, 1:7, 1:8] = rng.normal(100, 5, (6, 7, 5))
    torch.manual_seed(0)
    network = (nn.Conv2d if dims == 2 else nn.Conv3d)(2, 2, 3, padding=1).eval()
    size = (12, 13, 7)[:dims]
    given = tr.Preprocessing(normalise="zscore", size=size)
    model = tr.Source(
        "s", network, ("background", "a"), ("T1", "T2"), spatial_dims=dims, preprocessing=given
    )
    images = prepare(model, Volume(image, np.eye(4))).images
    air = [float(images[:, c].min()) for c in (0, 1)]
    assert abs(air[0] - air[1]) > 0.5
    widths = (2, 2, 2, 2) if dims == 2 else (1, 1, 2, 2, 2, 2)
    padded = [torch.nn.functional.pad(images[:, [c]], widths, value=air[c]) for c in (0, 1)]
    with torch.no_grad():
        inner = (slice(2, -2), slice(2, -2), slice(1, -1))[:dims]
        expected = network(torch.cat(padded, 1))[(..., *inner)].softmax(1)
    torch.testing.assert_close(predict_images(model, images), expected)
    made = torch.from_numpy(predict_volume(model, Volume(image, np.eye(4))))
    torch.testing.assert_close(made.movedim(-1, 0) if dims == 2 else made[None], expected)
