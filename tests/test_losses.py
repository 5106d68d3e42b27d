"""Losses against pixel-by-pixel loops, torch and gradcheck."""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

from transfer_risk.losses import (
    RiskWeightedLoss,
    class_weighted_loss,
    inverse_frequency,
    risk_weighted_loss,
    soft_dice_loss,
    soft_overlap,
    transferability_weighted_loss,
    vanilla_loss,
)

SEEDS = range(20)
SHAPES = [(2, 6, 5), (1, 7, 8), (3, 3, 4, 3), (2, 4, 2, 5), (4, 9)]
DTYPES = [torch.float64, torch.float32]
DIVISORS = ["batch", "image", "pixels"]


class Batch(NamedTuple):
    logits: torch.Tensor
    labels: torch.Tensor
    hardness: torch.Tensor  # NaN where ignored, as RiskMap gives it
    risk: torch.Tensor  # 0 where ignored


pytestmark = pytest.mark.usefixtures("one_thread")


def make_batch(seed, dtype=torch.float64, shape=None):
    """Random batch with ignored pixels; every third without its highest class."""
    generator = torch.Generator().manual_seed(seed)
    shape = shape or SHAPES[seed % len(SHAPES)]
    classes = 2 + seed % 3
    logits = 2 * torch.randn(shape[0], classes, *shape[1:], generator=generator, dtype=dtype)
    present = max(classes - (seed % 3 == 1), 2)
    labels = torch.randint(-1, present, shape, generator=generator)
    hardness = torch.rand(shape, generator=generator, dtype=dtype)
    hardness[labels < 0] = math.nan
    risk = torch.where(labels < 0, 0.0, 10**hardness)
    return Batch(logits, labels, hardness, risk)


def pixels_of(batch):
    """Index, cross-entropy and label of every valid pixel; plain Python numbers."""
    logits = batch.logits.movedim(1, -1)
    for index in itertools.product(*[range(n) for n in batch.labels.shape]):
        label = batch.labels[index].item()
        if label >= 0:
            scores = logits[index].tolist()
            total = math.log(math.fsum(math.exp(s) for s in scores))
            yield index, total - scores[label], label


def slow_mean(batch, weight):
    """Sum of weight(index) * CE over the number of valid pixels."""
    pixels = list(pixels_of(batch))
    return math.fsum(weight(i) * ce for i, ce, _ in pixels) / max(len(pixels), 1)


def slow_risk_loss(batch, divisor, least=0.0):
    pixels = list(pixels_of(batch))
    if divisor == "image":
        images = range(len(batch.labels))
        parts = [[p for p in pixels if p[0][0] == image] for image in images]
    else:
        parts = [pixels]
    losses = []
    for part in parts:
        foreground = sum(label > 0 for _, _, label in part)
        counted = len(part) if divisor == "pixels" else foreground
        size = max(counted, least * len(part)) if counted else len(part)
        losses.append(math.fsum(float(batch.risk[i]) * ce for i, ce, _ in part) / (size or 1))
    return sum(losses) / len(losses)


def slow_soft_dice(batch):
    classes = batch.logits.shape[1]
    overlap, size, seen = [0.0] * classes, [0.0] * classes, [False] * classes
    for index, _, label in pixels_of(batch):
        scores = batch.logits.movedim(1, -1)[index].tolist()
        total = math.fsum(math.exp(s) for s in scores)
        for y in range(classes):
            probability = math.exp(scores[y]) / total
            overlap[y] += probability * (label == y)
            size[y] += probability + (label == y)
            seen[y] = seen[y] or label == y
    losses = [1 - 2 * overlap[y] / size[y] for y in range(1, classes) if seen[y]]
    return sum(losses) / max(len(losses), 1)


def assert_loss(actual, expected):
    assert actual.shape == ()
    assert actual.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


def weights_of(batch):
    return torch.linspace(0.5, 4, batch.logits.shape[1], dtype=torch.float64)


def every_loss(batch):
    """Name and function of logits and labels of every loss and variant."""
    transferability = -3 * batch.hardness
    losses = {
        "vanilla": vanilla_loss,
        "class-weight": lambda x, y: class_weighted_loss(x, y, weights_of(batch)),
        "trs-map": lambda x, y: transferability_weighted_loss(x, y, batch.hardness),
        "trs-map-exp": lambda x, y: transferability_weighted_loss(
            x, y, batch.hardness, transferability=transferability
        ),
        "dice": soft_dice_loss,
    }
    for divisor in DIVISORS:
        losses[f"risk-{divisor}"] = lambda x, y, d=divisor: risk_weighted_loss(
            x, y, batch.risk, divisor=d, min_foreground=0.1
        )
    return losses


NAMES = [*every_loss(make_batch(0))]


# parity with loops


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_vanilla_equals_loop(seed, dtype):
    batch = make_batch(seed, dtype)
    assert_loss(vanilla_loss(*batch[:2]), slow_mean(batch, lambda _: 1.0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_class_weighted_equals_loop(seed, dtype):
    batch = make_batch(seed, dtype)
    weights = weights_of(batch)
    pixels = list(pixels_of(batch))
    total = math.fsum(float(weights[y]) * ce for _, ce, y in pixels)
    expected = total / math.fsum(float(weights[y]) for _, _, y in pixels)
    assert_loss(class_weighted_loss(*batch[:2], weights), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_transferability_weighted_equals_loop(seed, dtype):
    batch = make_batch(seed, dtype)
    linear = transferability_weighted_loss(*batch[:3])
    assert_loss(linear, slow_mean(batch, lambda i: 1 + float(batch.hardness[i])))
    values = -3 * batch.hardness
    exponential = transferability_weighted_loss(*batch[:3], transferability=values)
    assert_loss(exponential, slow_mean(batch, lambda i: math.exp(-float(values[i]))))
    alone = transferability_weighted_loss(*batch[:2], transferability=values)
    assert torch.equal(alone, exponential)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("least", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("seed", SEEDS)
def test_risk_weighted_equals_loop(seed, divisor, least, dtype):
    batch = make_batch(seed, dtype)
    options = {"divisor": divisor, "min_foreground": least}
    actual = risk_weighted_loss(batch.logits, batch.labels, batch.risk, **options)
    assert_loss(actual, slow_risk_loss(batch, divisor, least))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_soft_dice_equals_loop(seed, dtype):
    batch = make_batch(seed, dtype)
    assert_loss(soft_dice_loss(*batch[:2]), slow_soft_dice(batch))


@pytest.mark.parametrize("seed", SEEDS)
def test_inverse_frequency_equals_loop(seed):
    batch = make_batch(seed)
    classes = batch.logits.shape[1]
    counts = [sum(label == y for _, _, label in pixels_of(batch)) for y in range(classes)]
    expected = [sum(counts) / (classes * n) if n else 0.0 for n in counts]
    actual = inverse_frequency(torch.tensor(counts))
    assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


# parity with torch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_losses_that_torch_has(seed, dtype):
    batch = make_batch(seed, dtype)
    logits, labels = batch.logits, batch.labels
    tolerance = {"rtol": 1e-6, "atol": 0}
    mean = functional.cross_entropy(logits, labels, ignore_index=-1)
    ones = torch.ones_like(batch.risk)
    assert_close(risk_weighted_loss(logits, labels, ones, divisor="pixels"), mean, **tolerance)
    assert_close(vanilla_loss(logits, labels), mean, **tolerance)
    weights = weights_of(batch)
    weighted = functional.cross_entropy(logits, labels, weights.to(dtype), ignore_index=-1)
    assert_close(class_weighted_loss(logits, labels, weights), weighted, **tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_one_is_summed_cross_entropy_over_foreground(seed):
    batch = make_batch(seed)
    ones = torch.ones_like(batch.risk)
    total = functional.cross_entropy(*batch[:2], ignore_index=-1, reduction="sum")
    expected = total / (batch.labels > 0).sum()
    assert_close(risk_weighted_loss(*batch[:2], ones), expected, rtol=1e-9, atol=0)


# gradients


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(6))
def test_gradcheck(seed, name):
    shape = [(2, 3, 2), (2, 2, 2, 2)][seed % 2]
    batch = make_batch(seed, shape=shape)
    loss = every_loss(batch)[name]
    logits = batch.logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, batch.labels), (logits,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_ignored_pixels_have_no_weight_and_no_gradient(seed, name):
    batch = make_batch(seed)
    loss = every_loss(batch)[name]
    logits = batch.logits.clone().requires_grad_()
    value = loss(logits, batch.labels)
    value.backward()
    ignored = (batch.labels < 0).unsqueeze(1).expand_as(logits)
    assert not logits.grad[ignored].any()
    assert bool(torch.isfinite(logits.grad).all())
    assert logits.grad[~ignored].any()
    changed = torch.where(ignored, batch.logits.flip(1) + 5, batch.logits)
    assert_close(loss(changed, batch.labels), value.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_of_ignored_pixels_is_finite(shape, dtype, name):
    batch = make_batch(0, dtype, shape)
    nothing = torch.full_like(batch.labels, -1)
    hollow = batch._replace(
        labels=nothing,
        hardness=torch.full_like(batch.hardness, math.nan),
        risk=torch.zeros_like(batch.risk),
    )
    logits = batch.logits.clone().requires_grad_()
    value = every_loss(hollow)[name](logits, nothing)
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_batch_without_foreground_is_finite(seed, name):
    batch = make_batch(seed)
    labels = batch.labels.clamp(max=0)
    logits = batch.logits.clone().requires_grad_()
    value = every_loss(batch)[name](logits, labels)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("name", NAMES)
def test_large_logits_are_finite(name):
    batch = make_batch(2, torch.float32)
    logits = (1e4 * batch.logits).requires_grad_()
    value = every_loss(batch)[name](logits, batch.labels)
    value.backward()
    assert bool(torch.isfinite(value))
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_integer_type_of_labels_does_not_matter(dtype, name):
    batch = make_batch(2)
    labels = batch.labels.clamp(min=0) if dtype == torch.uint8 else batch.labels
    hardness = batch.hardness.nan_to_num(0.5)
    loss = every_loss(batch._replace(hardness=hardness))[name]
    assert_close(loss(batch.logits, labels.to(dtype)), loss(batch.logits, labels), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_losses_of_16_bits_are_those_of_the_same_numbers_in_32(name, dtype):
    batch = make_batch(0, torch.float32, (2, 300, 300))  # sums beyond what float16 holds
    short = batch.logits.to(dtype)
    loss = every_loss(batch)[name]
    made = loss(short, batch.labels)
    assert made.isfinite() and made == loss(short.float(), batch.labels)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_has_the_type_of_the_logits(dtype, name):
    batch = make_batch(2, dtype)
    other = torch.float32 if dtype == torch.float64 else torch.float64
    mixed = batch._replace(hardness=batch.hardness.to(other), risk=batch.risk.to(other))
    assert every_loss(mixed)[name](batch.logits, batch.labels).dtype == dtype


# risk-weighted loss


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_at_ignored_pixels_does_not_count(seed):
    batch = make_batch(seed)
    odd = torch.where(batch.labels < 0, math.nan, batch.risk)
    expected = risk_weighted_loss(batch.logits, batch.labels, batch.risk)
    actual = risk_weighted_loss(batch.logits, batch.labels, odd)
    assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("seed", SEEDS)
def test_loss_is_linear_in_risk(seed, divisor):
    batch = make_batch(seed)
    options = {"divisor": divisor}
    one = risk_weighted_loss(batch.logits, batch.labels, batch.risk, **options)
    three = risk_weighted_loss(batch.logits, batch.labels, 3 * batch.risk, **options)
    assert_close(three, 3 * one, rtol=1e-9, atol=0)


@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("seed", SEEDS)
def test_batch_without_foreground_divides_by_valid_pixels(seed, divisor):
    batch = make_batch(seed)
    batch = batch._replace(labels=batch.labels.clamp(max=0))
    actual = risk_weighted_loss(batch.logits, batch.labels, batch.risk, divisor=divisor)
    assert_loss(actual, slow_risk_loss(batch, divisor))
    if divisor != "image":
        assert_loss(actual, slow_mean(batch, lambda i: float(batch.risk[i])))


@pytest.mark.parametrize("seed", SEEDS)
def test_image_divisor_is_the_mean_of_batches_of_one(seed):
    batch = make_batch(seed)
    whole = risk_weighted_loss(batch.logits, batch.labels, batch.risk, divisor="image")
    parts = zip(batch.logits, batch.labels, batch.risk, strict=True)
    alone = [risk_weighted_loss(x[None], y[None], r[None]) for x, y, r in parts]
    assert_close(whole, torch.stack(alone).mean(), rtol=1e-9, atol=0)


def test_image_divisor_leaves_out_images_without_valid_pixels():
    batch = make_batch(0)
    empty = torch.full_like(batch.labels[:1], -1)
    labels = torch.cat([batch.labels, empty])
    logits, risk = (torch.cat([t, t[:1]]) for t in (batch.logits, batch.risk))
    whole = risk_weighted_loss(logits, labels, risk, divisor="image")
    assert_close(whole, risk_weighted_loss(batch.logits, batch.labels, batch.risk, divisor="image"))


def test_divisors_by_hand():
    logits = torch.zeros(2, 2, 4)
    labels = torch.tensor([[0, 0, 0, 1], [0, 0, -1, -1]])
    ones = torch.ones(2, 4)
    unit = math.log(2)
    assert_loss(risk_weighted_loss(logits, labels, ones), 6 * unit)
    assert_loss(risk_weighted_loss(logits, labels, ones, divisor="image"), (4 + 1) / 2 * unit)
    assert_loss(risk_weighted_loss(logits, labels, ones, divisor="pixels"), unit)


@pytest.mark.parametrize(("least", "size"), [(0.0, 1.0), (0.1, 1.0), (0.5, 2.0), (1.0, 4.0)])
@pytest.mark.parametrize("divisor", ["batch", "image"])
def test_min_foreground_by_hand(divisor, least, size):
    logits, labels = torch.zeros(1, 2, 5), torch.tensor([[0, 0, 0, 1, -1]])
    options = {"divisor": divisor, "min_foreground": least}
    actual = risk_weighted_loss(logits, labels, torch.ones(1, 5), **options)
    assert_loss(actual, 4 * math.log(2) / size)


@pytest.mark.parametrize("seed", SEEDS)
def test_min_foreground_one_is_a_plain_mean(seed):
    batch = make_batch(seed)
    args = (batch.logits, batch.labels, batch.risk)
    mean = risk_weighted_loss(*args, divisor="pixels")
    assert_close(risk_weighted_loss(*args, min_foreground=1.0), mean, rtol=1e-6, atol=0)


@pytest.mark.parametrize("least", [0.0, 0.5])
@pytest.mark.parametrize("divisor", DIVISORS)
@pytest.mark.parametrize("seed", SEEDS)
def test_module_equals_function(seed, divisor, least):
    batch = make_batch(seed)
    args = (batch.logits, batch.labels, batch.risk)
    options = {"divisor": divisor, "min_foreground": least}
    expected = risk_weighted_loss(*args, **options)
    assert_close(RiskWeightedLoss(**options)(*args), expected, rtol=0, atol=0)


def test_module_is_that_of_the_paper_by_default():
    batch = make_batch(3)
    args = (batch.logits, batch.labels, batch.risk)
    assert_close(RiskWeightedLoss()(*args), risk_weighted_loss(*args), rtol=0, atol=0)
    assert not list(RiskWeightedLoss().parameters())


# the other losses


@pytest.mark.parametrize("seed", SEEDS)
def test_equal_weights_give_vanilla(seed):
    batch = make_batch(seed)
    vanilla = vanilla_loss(*batch[:2])
    same = torch.full((batch.logits.shape[1],), 7.0)
    assert_close(class_weighted_loss(*batch[:2], same), vanilla, rtol=1e-9, atol=0)
    nothing = torch.zeros_like(batch.hardness)
    assert_close(transferability_weighted_loss(*batch[:2], nothing), vanilla, rtol=1e-9, atol=0)


def test_weights_of_zero_give_zero():
    batch = make_batch(1)
    weights = torch.zeros(batch.logits.shape[1])
    assert float(class_weighted_loss(*batch[:2], weights)) == 0


@pytest.mark.parametrize("counts", [[0, 0, 0], [5, 0, 0], [1, 2, 3], [10**9, 10, 0]])
def test_inverse_frequency_balances_the_classes_that_are_present(counts):
    weights = inverse_frequency(torch.tensor(counts))
    mass = (weights * torch.tensor(counts)).tolist()
    assert mass == pytest.approx([sum(counts) / 3 if n else 0.0 for n in counts], rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_soft_dice_lies_between_zero_and_one(seed):
    batch = make_batch(seed)
    assert 0 <= float(soft_dice_loss(*batch[:2])) <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_soft_dice_of_a_perfect_prediction_is_zero(seed):
    batch = make_batch(seed)
    classes = batch.logits.shape[1]
    hot = functional.one_hot(batch.labels.clamp(min=0), classes).movedim(-1, 1)
    assert float(soft_dice_loss(100 * hot.double(), batch.labels)) == pytest.approx(0, abs=1e-9)
    wrong = soft_dice_loss(-100 * hot.double(), batch.labels)
    assert float(wrong) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_soft_overlap_equals_loop(seed):
    batch = make_batch(seed)
    p = batch.logits.softmax(1)
    importance = torch.rand(batch.labels.shape, dtype=p.dtype) + 1
    for weights in (None, importance):
        made = soft_overlap(p, batch.labels, weights)
        for k in range(p.shape[1]):
            sums = [0.0, 0.0, 0.0]
            for index, _, y in pixels_of(batch):
                own, t = float(p[(index[0], k, *index[1:])]), y == k
                w = 1.0 if weights is None else float(weights[index])
                sums = [a + w * b for a, b in zip(sums, (own * t, own + t, t), strict=True)]
            assert made[:, k].tolist() == pytest.approx(sums, rel=1e-9, abs=1e-12)


def test_soft_dice_without_foreground_is_zero():
    batch = make_batch(4)
    assert float(soft_dice_loss(batch.logits, batch.labels.clamp(max=0))) == 0


def test_soft_dice_by_hand():
    logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, 1]])
    assert_loss(soft_dice_loss(logits, labels), 1 - 2 * 0.5 / (4 * 0.5 + 1))


# errors


def test_error_neither_hardness_nor_transferability():
    with pytest.raises(ValueError, match="hardness must be given, or transferability; got neither"):
        transferability_weighted_loss(*make_batch(0)[:2])


def test_error_divisor():
    batch = make_batch(0)
    words = "divisor must be batch, image or pixels; got 'slice'"
    with pytest.raises(ValueError, match=words):
        risk_weighted_loss(batch.logits, batch.labels, batch.risk, divisor="slice")
    with pytest.raises(ValueError, match=words):
        RiskWeightedLoss(divisor="slice")(batch.logits, batch.labels, batch.risk)


@pytest.mark.parametrize("least", [-0.1, 1.1, math.nan])
def test_error_min_foreground(least):
    batch = make_batch(0)
    words = rf"min_foreground must be a share in \[0, 1\]; got {least}"
    with pytest.raises(ValueError, match=words):
        risk_weighted_loss(batch.logits, batch.labels, batch.risk, min_foreground=least)


def test_error_risk_shape():
    batch = make_batch(0)
    words = r"risk must have the shape of labels; got \(1, 6, 5\) for \(2, 6, 5\)"
    with pytest.raises(ValueError, match=words):
        risk_weighted_loss(batch.logits, batch.labels, batch.risk[:1])


@pytest.mark.parametrize("name", ["vanilla", "class-weight", "risk-batch"])
def test_error_labels_shape(name):
    batch = make_batch(0)
    logits = batch.logits[..., :4]
    words = r"labels must be \(B, \*S\) for logits .*; got \(2, 6, 5\) for \(2, 2, 6, 4\)"
    with pytest.raises(ValueError, match=words):
        every_loss(batch)[name](logits, batch.labels)
