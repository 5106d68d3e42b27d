"""The training loop: what moves and what does not, caching, augmentation, warnings, and what stops it."""

import copy
import warnings
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from blobs import RESIDUAL, make_source, write_blobs, write_monai

import transfer_risk as tr
from transfer_risk import fitting
from transfer_risk.features import Features
from transfer_risk.fitting import State, fit
from transfer_risk.methods import METHODS
from transfer_risk.samples import Batch
from transfer_risk.sources import written_labels
from transfer_risk.training import begin, finish, untrained


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("blobs")))


def weights(network):
    return {n: t.clone() for n, t in network.state_dict().items()}


def trained(source, task, **options):
    """The student's weights before and after, its start, and its losses."""
    recipe = tr.Recipe(**{"iterations": 4, "batch": 3, "lr": 1e-2} | options)
    start = begin(source, task, recipe)
    before, losses = weights(start.student.network), []
    fit(start.state, start.student, start.samples, recipe, progress=lambda _, v: losses.append(v))
    return before, weights(start.student.network), start, losses


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, 0),
        ({"labels": {"a": (0,)}, "background": (1,)}, 1),
        ({"labels": {"a": (0, 3)}, "background": (1,)}, 1),
        ({"labels": {"a": (2,)}, "background": (1,), "ignore": (0,)}, 1),
        ({"labels": {"a": (2,)}, "background": (0, 1), "ignore": (0,)}, 1),
        ({"labels": {"a": (2,)}, "background": (1,)}, 0),
        ({"labels": {"a": (1,)}, "background": (0,), "ignore": (0,)}, 0),
        ({"labels": {"a": (0, 1)}, "background": (3,)}, 3),
    ],
)
def test_background_is_written_as_a_value_that_means_background(task, given, expected):
    task = replace(task, **given)
    labels = {"background": expected, "a": task.labels["a"][0]}
    assert written_labels(task) == labels
    student, _ = untrained(make_source(), task, tr.Recipe())
    assert student.labels == labels and set(student.values) == set(labels.values())


def test_a_model_of_a_task_whose_class_is_zero_writes_the_values_of_the_task(task, tmp_path):
    task = replace(task, labels={"a": (0,)}, background=(1,))
    source = tr.pretrain(task, iterations=30, width=4, depth=2, batch=4, lr=1e-2)
    case = task.split("test")[0]
    raw, theta, _ = tr.predict(source, case.images)
    np.testing.assert_array_equal(raw, 1 - theta.argmax(0))
    truth = nib.load(case.label).get_fdata()
    assert ((raw == truth).mean()) > 0.8
    again = tr.load_source(tr.save_source(source, tmp_path / "s"))
    assert again.labels == {"background": 1, "a": 0}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_frozen_tensors_and_norm_statistics_are_bit_identical(task, method, cache):
    source = make_source()
    original = weights(source.network)
    before, after, start, losses = trained(source, task, method=method, cache=cache)
    for name in before:
        assert torch.equal(before[name], after[name]) == name.startswith("encoder."), name
    assert all(torch.equal(t, original[n]) for n, t in source.network.state_dict().items())
    assert np.isfinite(losses).all() and not start.student.network.training


@pytest.mark.parametrize("cut", [r"^model\.(0|1)\.", "encoder"])
def test_frozen_parts_of_a_network_of_monai_stand_still(task, tmp_path, cut):
    path = write_monai(tmp_path / "m", "UNet", RESIDUAL, spatial_dims=2, size=(16, 16))
    source = tr.load_source(path)
    before, after, start, _ = trained(source, task, freeze=cut, method="vanilla")
    frozen = [n for n, p in start.student.network.named_parameters() if not p.requires_grad]
    modules = {n.rpartition(".")[0] for n in frozen}
    assert frozen
    for name in before:
        still = torch.equal(before[name], after[name])
        assert still == (name.rpartition(".")[0] in modules), name


def test_cached_features_give_the_same_training(task):
    source = make_source()
    _, plain, _, losses = trained(source, task, cache=0.0)
    _, cached, start, others = trained(source, task, cache=1.0)
    assert losses == pytest.approx(others, rel=1e-4)
    for name in plain:
        torch.testing.assert_close(plain[name], cached[name], rtol=1e-3, atol=1e-3)
    _, again, _, _ = trained(source, task, cache=1.0)
    assert all(torch.equal(cached[n], again[n]) for n in cached)
    recipe = tr.Recipe()
    assert Features.of(start.student, start.samples, recipe) is not None
    for other in ({"cache": 1e-6}, {"augment": True}):
        assert Features.of(start.student, start.samples, replace(recipe, **other)) is None
    small = begin(make_source(preprocessing=tr.Preprocessing(size=(8, 8))), task, recipe)
    assert Features.of(small.student, small.samples, recipe) is None


def test_cached_features_heed_the_order_of_channels(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("a", "b")))
    ordered = {"activation": "sigmoid", "architecture": {"order": [1, 0]}}
    source = replace(make_source(("background", "a")), classes=task.classes, **ordered)
    recipe = tr.Recipe(method="vanilla")
    start = begin(source, task, recipe)
    student = start.student
    features = Features.of(student, start.samples, recipe)
    batch = start.samples.batch(np.arange(2))
    expected = student.logits(batch.images)
    torch.testing.assert_close(features.logits(batch), expected, rtol=1e-4, atol=1e-5)
    plain = replace(student, architecture={}).logits(batch.images)
    assert not torch.allclose(plain, expected, atol=1e-3)


def test_bf16_trains_close_to_fp32(task):
    _, _, _, losses = trained(make_source(), task, method="vanilla", lr=1e-3)
    for cache in (0.0, 1.0):
        _, after, _, half = trained(
            make_source(), task, method="vanilla", lr=1e-3, precision="bf16", cache=cache
        )
        assert half == pytest.approx(losses, rel=0.05)
        assert all(t.dtype != torch.bfloat16 for t in after.values())


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_restored_state_goes_on_with_the_same_bits(task, optimiser, schedule):
    recipe = tr.Recipe(
        method="adaptive-risk",
        iterations=6,
        batch=3,
        lr=1e-2,
        optimiser=optimiser,
        schedule=schedule,
        augment=True,
        checkpoint=2,
    )
    whole, cut = begin(make_source(), task, recipe), begin(make_source(), task, recipe)
    states = []
    keep = lambda state: states.append(copy.deepcopy(state.export()))  # noqa: E731
    fit(whole.state, whole.student, whole.samples, recipe, save=keep)
    assert [len(s["log"]) for s in states] == [2, 4, 6]
    cut.state.restore(states[1])
    fit(cut.state, cut.student, cut.samples, recipe)
    for name, tensor in whole.student.network.state_dict().items():
        assert torch.equal(tensor, cut.student.network.state_dict()[name]), name
    assert torch.equal(whole.state.objective.overlap, cut.state.objective.overlap)
    rates = [row[2] for row in whole.state.log]
    assert rates[0] == 1e-2 and (rates[-1] < 1e-2) == (schedule == "cosine")


def test_augmentation_moves_image_label_and_transferability_together():
    rng = np.random.default_rng(0)
    for shape in ((6, 5), (4, 5, 3)):
        labels = torch.from_numpy(rng.integers(1, 9, (8, *shape)))
        batch = Batch(
            labels[:, None].float(), labels, -labels.double(), torch.zeros(8), torch.arange(8)
        )
        made = fitting._augmented(batch, np.random.default_rng(1), tr.Recipe(augment=True))
        assert torch.equal(made.transferability, -made.labels.double())
        flipped = 0
        for k in range(8):
            flip = torch.equal(made.labels[k], labels[k].flip(0))
            assert flip or torch.equal(made.labels[k], labels[k])
            flipped += flip
            line = np.polyfit(made.labels[k].ravel(), made.images[k].ravel(), 1)
            np.testing.assert_allclose(
                np.polyval(line, made.labels[k]), made.images[k][0], atol=1e-4
            )
            assert 0.9 <= line[0] <= 1.1 and -0.1 <= line[1] <= 0.1
        assert 0 < flipped < 8
        assert torch.equal(batch.labels, labels)  # the samples stay as they are
        assert fitting._augmented(batch, rng, tr.Recipe()) is batch


def test_padding_stays_zero_under_augmentation():
    images = torch.tensor([[[[0.0, 1.0], [0.0, 2.0]]]])
    batch = Batch(images, torch.zeros(1, 2, 2).long(), None, torch.zeros(1), torch.zeros(1))
    made = fitting._augmented(batch, np.random.default_rng(0), tr.Recipe(augment=True))
    assert (made.images[..., 0] == 0).all() and (made.images[..., 1] != 0).all()


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"min_foreground": 0.01}, False),
        ({"divisor": "image"}, True),
        ({"divisor": "pixels"}, False),
        ({"method": "vanilla"}, False),
    ],
)
def test_faint_foreground_warns_once_where_it_divides(task, monkeypatch, options, warned):
    monkeypatch.setattr(fitting, "FAINT", 1e-2)
    monkeypatch.setattr(fitting, "_foreground", lambda _: 5e-3)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trained(make_source(), task, **options)
    assert len(found) == warned
    if warned:
        assert "--min-foreground 0.05 would keep the weight" in str(found[0].message)


@pytest.mark.parametrize(("divisor", "told"), [("image", "an image"), ("batch", "")])
def test_an_image_with_faint_foreground_counts_where_it_is_divided_alone(divisor, told):
    labels = torch.zeros(3, 64, 64, dtype=torch.long)
    labels[0, :32] = labels[1, 0, 0] = 1
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert fitting._warned(labels, tr.Recipe(divisor=divisor)) == bool(told)
    assert [told in str(w.message) for w in found] == [True] * bool(told)


def test_a_loss_that_is_not_finite_stops_and_says_what_to_try(task):
    saved = []
    recipe = tr.Recipe(iterations=9, batch=2, lr=1e30, checkpoint=1)
    start = begin(make_source(), task, recipe)
    words = (
        r"at iteration \d; try a lower lr than 1e\+30 or min_foreground above 0 or another method"
    )
    with pytest.raises(FloatingPointError, match=words):
        fit(start.state, start.student, start.samples, recipe, save=lambda s: saved.append(s))
    assert len(saved) <= 1


def test_weights_that_are_not_finite_are_not_saved(task):
    recipe = tr.Recipe(iterations=1, batch=2)
    start = begin(make_source(), task, recipe)
    start.student.network.head.weight.register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(FloatingPointError, match="a weight is not finite at iteration 1"):
        fit(
            start.state,
            start.student,
            start.samples,
            recipe,
            save=lambda _: pytest.fail("saved"),
        )


def test_nothing_trainable_is_refused(task):
    class Plain(torch.nn.Module):
        def forward(self, images):
            return torch.cat([images, -images], 1)

    source = tr.Source("plain", Plain(), task.classes, ("T1",))
    with pytest.raises(ValueError, match="the network of source plain has no parameters"):
        begin(source, task, tr.Recipe(freeze="none"))
    network = torch.nn.Conv2d(1, 2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="nothing is trainable; look at --freeze"):
        State.of(network, None, tr.Recipe())


def test_no_foreground_in_the_training_cases_is_refused(task):
    cases = tuple(replace(c, slices=None) for c in task.cases)
    empty = replace(task, cases=cases, labels={"a": (7,)}, background=(0, 1))
    with pytest.raises(ValueError, match="no foreground in the training slices; look at"):
        begin(make_source(), empty, tr.Recipe())
    with pytest.raises(ValueError, match="no foreground in the training slices"):
        tr.pretrain(empty, width=2, depth=2, iterations=1)


def test_an_encoder_that_nobody_named_is_asked_for(task):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.Conv2d(3, 2, 1))
    source = tr.Source("own", network, task.classes, ("T1",))
    with pytest.raises(ValueError, match="does not say which part is its encoder"):
        begin(source, task, tr.Recipe())
    before, after, _, _ = trained(source, task, freeze=r"^0\.")
    assert torch.equal(before["0.weight"], after["0.weight"])
    assert not torch.equal(before["1.weight"], after["1.weight"])


@pytest.mark.parametrize("device", ["nowhere", "cuda:77", "meta"])
def test_a_device_that_is_not_there_is_refused(task, device):
    with pytest.raises(ValueError, match=f"device must be one that torch computes on .*'{device}'"):
        begin(make_source(), task, tr.Recipe(device=device))


def test_missing_channels_stay_missing_channels(task):
    wide = replace(
        make_source(), network=tr.UNet(2, 2, width=2, depth=2), channels=("T1", "T2"),
        missing_channels="zero",
    )  # fmt: skip
    _before, _after, start, _ = trained(wide, task)
    assert start.student.channels == ("T1", "T2")
    assert finish(start, task, tr.Recipe()).predict(torch.zeros(1, 2, 8, 8)).shape[1] == 2
    named = begin(replace(make_source(), channels=("MR",)), task, tr.Recipe())
    assert named.student.channels == ("T1",)  # by position: the task's name from now on


def test_tuning_without_validation_sees_few_shot_slices_alone(task, monkeypatch):
    from transfer_risk import decisions

    seen = []
    monkeypatch.setattr(
        decisions, "tuned", lambda p: seen.append(p) or tr.Decision("tuned", (0, 0))
    )
    for options, slices, words in (
        ({"n_slices": 6}, 6, "training cases"),
        ({}, 4 * 5, "training cases"),
        ({"n_slices": 6, "validation": 0.25}, 5, "validation cases"),
    ):
        recipe = tr.Recipe(decision="tuned", **options)
        made = finish(begin(make_source(), task, recipe), task, recipe)
        assert made.trained["tuned_on"] == words
        assert len(made.trained["cases"]) == len(task.split("train"))  # those it was tuned on too
        assert sum(y.numel() for _, _, y in seen[-1]) == slices * 16 * 12
