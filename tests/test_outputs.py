"""From what networks return to probabilities: heads, resolutions, activations, and outputs that are no logits."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

import transfer_risk as tr
from transfer_risk.outputs import activate, class_logits, head

FULL, HALF = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)


class Returns(nn.Module):
    """Returns what it was made with, made of the images by a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.function(images * self.weight)


def source(function, classes=3, **options):
    names = ("background", "a", "b", "c")[:classes]
    return tr.Source("s", Returns(function), names, ("T1",), **options)


@pytest.mark.parametrize(
    "outputs",
    [
        FULL,
        [FULL, HALF],
        [HALF, FULL],
        (FULL, torch.tensor(0.3)),
        {"out": FULL, "aux": torch.randn(2, 3, 8, 8)},
        OrderedDict(loss=torch.tensor(0.1), logits=FULL, labels=torch.ones(2, 8, 8).long()),
        {"hidden": (torch.randn(2, 16, 4, 4),), "logits": FULL},
        torch.stack([FULL, torch.randn_like(FULL)], 1),
    ],
    ids=str,
)
def test_the_full_resolution_head_is_found(outputs):
    assert_close(head(outputs, (8, 8), (3,)), FULL, rtol=0, atol=0)


def test_lower_resolution_is_interpolated_as_logits():
    expected = functional.interpolate(HALF, (8, 8), mode="bilinear", align_corners=False)
    assert_close(source(lambda x: HALF).predict(torch.rand(2, 1, 8, 8)), expected.softmax(1))
    small = torch.randn(1, 2, 2, 2, 2)
    expected = functional.interpolate(small, (4, 4, 4), mode="trilinear", align_corners=False)
    assert_close(head({"logits": small}, (4, 4, 4), (2,)), expected)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "regions", "none"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_softmax_of_the_logits_is_the_prediction(activation, channels):
    raw = torch.randn(2, channels, 5, 5, dtype=torch.float64)
    classes = (
        channels
        if activation == "softmax" or (channels > 1 and activation == "none")
        else channels + 1
    )
    if activation == "none":
        raw = raw.softmax(1) if channels > 1 else raw.sigmoid()
    made = class_logits(raw, activation)
    assert made.shape[1] == classes
    assert_close(made.softmax(1), activate(raw, activation), atol=1e-6, rtol=1e-5)
    if classes > 1:
        two = source(lambda x: raw * x.mean() / x.mean(), classes, activation=activation)
        images = torch.rand(2, 1, 5, 5) + 1
        assert_close(two.logits(images).softmax(1), two.predict(images), atol=1e-6, rtol=1e-5)


def test_logits_have_gradients_and_leave_the_mode_alone():
    torch.manual_seed(0)
    for activation, classes in (("softmax", 3), ("sigmoid", 4), ("sigmoid", 2), ("regions", 4)):
        channels = classes - (activation != "softmax")
        network = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels))
        model = tr.Source("s", network, tuple("abcd"[:classes]), ("T1",), activation=activation)
        network.train()
        model.logits(torch.rand(2, 1, 6, 6)).square().sum().backward()
        assert network.training and network[0].weight.grad.abs().sum() > 0
        assert network[1].num_batches_tracked == 1
        before = network[1].running_mean.clone()
        model.predict(torch.rand(2, 1, 6, 6))
        assert network.training and torch.equal(before, network[1].running_mean)


@pytest.mark.parametrize(
    ("outputs", "activation", "words"),
    [
        (
            torch.randn(2, 4, 8, 8),
            "softmax",
            r"must return logits \(B, 3, \*S\).* a tensor \(2, 4, 8, 8\)",
        ),
        (torch.randn(2, 3, 8, 8), "regions", r"logits \(B, 2, \*S\)"),
        ({"masks": torch.ones(2, 8, 8)}, "softmax", r"a dict with masks: a tensor \(2, 8, 8\)"),
        ([], "softmax", "a list of nothing"),
        (FULL.argmax(1), "softmax", "of int64"),
        ("text", "softmax", "returned a str"),
        (FULL / 0, "softmax", "predicts NaN"),
        (FULL.softmax(1), "softmax", 'already are probabilities.*set activation = "none"'),
        (FULL, "none", "must return probabilities that sum to 1"),
    ],
    ids=str,
)
def test_what_is_no_logits_is_said_in_one_sentence(outputs, activation, words):
    with pytest.raises(
        ValueError, match=rf"source s \(3 classes, activation {activation}\): .*{words}"
    ):
        source(lambda x: outputs, activation=activation).predict(torch.rand(2, 1, 8, 8))


def test_a_single_channel_of_probabilities_is_recognised():
    p = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    with pytest.raises(ValueError, match="already are probabilities"):
        source(lambda x: p, 2, activation="sigmoid").predict(torch.rand(1, 1, 8, 8))
    made = source(lambda x: p, 2, activation="none").predict(torch.rand(1, 1, 8, 8))
    assert_close(made, torch.cat([1 - p, p], 1))


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, IndexError, ValueError])
def test_a_size_that_the_network_cannot_take_is_said(kind):
    def fail(x):
        raise kind("Sizes of tensors must match except in dimension 1.")

    with pytest.raises(
        ValueError, match=r"cannot work on images \(1, 1, 7, 7\) .*preprocessing.size"
    ):
        source(fail).predict(torch.rand(1, 1, 7, 7))


def test_a_network_of_another_type_or_device_is_told_so():
    network = torch.nn.Conv2d(1, 2, 1).half()
    named = tr.Source("h", network, ("background", "a"), ("T1",))
    words = r"float16 on cpu, the images torch.float32 on cpu: give network.float\(\).cpu\(\)$"
    with pytest.raises(ValueError, match=words):
        named.predict(torch.rand(1, 1, 7, 7))
    network.float()
    assert named.predict(torch.rand(1, 1, 7, 7)).shape == (1, 2, 7, 7)


def test_sigmoid_and_region_outputs_become_distributions():
    p = torch.rand(2, 3, 4)
    logits = torch.logit(p)
    over = activate(logits, "sigmoid")
    assert torch.allclose(over[:, 2], p[:, 1] * (1 - p[:, 2]), atol=1e-5)
    assert torch.allclose(over[:, 0], (1 - p).prod(1), atol=1e-5)
    nested = activate(logits, "regions")
    first, second = p[:, 0], torch.minimum(p[:, 0], p[:, 1])
    assert torch.allclose(nested[:, 1], first - second, atol=1e-5)
    for made in (over, nested, activate(logits[:, :1], "sigmoid")):
        assert torch.allclose(made.sum(1), torch.ones_like(made[:, 0]), atol=1e-5)
