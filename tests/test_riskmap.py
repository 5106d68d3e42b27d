"""Spans, hardness and risk: loops, laws and the errors."""

import math
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from transfer_risk.riskmap import RiskMap, Span, class_shuffled, risk_map
from transfer_risk.transferability import Joint, log_expected_prediction

SEEDS = range(20)
SHAPES = [(2, 6, 5), (1, 7, 8), (3, 3, 4, 3), (2, 4, 2, 5), (4, 9)]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
NAN = math.nan


pytestmark = pytest.mark.usefixtures("one_thread")


def make_map(seed, dtype=torch.float64):
    """Transferability (B, *S), at most 0, NaN in about a quarter of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[seed % len(SHAPES)]
    values = -torch.rand(shape, generator=generator, dtype=dtype) * (1 + seed)
    values[torch.rand(shape, generator=generator) < 0.25] = NAN
    return values


def make_batch(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[seed % len(SHAPES)]
    classes = 2 + seed % 3
    logits = torch.randn(shape[0], 2 + seed % 4, *shape[1:], generator=generator, dtype=dtype)
    labels = torch.randint(-1, classes, shape, generator=generator)
    labels[(0,) * len(shape)] = classes - 1
    return (2 * logits).softmax(1), labels, classes


def slow_ends(numbers, clip=0.0):
    """Minimum or percentile (linear between ranks), and maximum, of numbers that may be NaN."""
    known = sorted(v for v in numbers if not math.isnan(v))
    place = clip / 100 * (len(known) - 1)
    below = int(place)
    above = min(below + 1, len(known) - 1)
    return known[below] + (place - below) * (known[above] - known[below]), known[-1]


def slow_hardness(values, per_image, clip=0.0, min_range=0.0):
    images = [image.flatten().tolist() for image in values.double()]
    everything = [v for image in images for v in image]
    result = []
    for image in images:
        low, high = slow_ends(image if per_image else everything, clip)
        for value in image:
            if math.isnan(value):
                result.append(NAN)
            elif high == low or high - low < min_range:
                result.append(0.0)
            else:
                result.append(min(max((high - value) / (high - low), 0.0), 1.0))
    return torch.tensor(result, dtype=torch.float64).reshape(values.shape)


def slow_risk(hardness, base):
    numbers = [0.0 if math.isnan(h) else base**h for h in hardness.flatten().tolist()]
    return torch.tensor(numbers, dtype=torch.float64).reshape(hardness.shape)


# parity with loops


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("clip", [0.0, 5.0, 30.0])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_hardness_and_risk_equal_loops(seed, per_image, clip, dtype):
    values = make_map(seed, dtype)
    span = Span.of(values, per_image=per_image, clip=clip)
    actual = RiskMap(values, span)
    expected = slow_hardness(values, per_image, clip)
    tolerance = TOLERANCE[dtype]
    assert actual.hardness.dtype == actual.risk.dtype == dtype
    assert_close(actual.hardness.double(), expected, rtol=0, atol=tolerance, equal_nan=True)
    assert_close(actual.risk.double(), slow_risk(expected, 10.0), rtol=3 * tolerance, atol=0)


@pytest.mark.parametrize("min_range", [0.0, 0.5, 3.0, 8.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_min_range_equals_loop(seed, min_range):
    values = make_map(seed)
    values *= torch.linspace(0.1, 1, len(values)).reshape(-1, *[1] * (values.ndim - 1))
    actual = RiskMap(values, Span.of(values, per_image=True), min_range=min_range).hardness
    expected = slow_hardness(values, True, min_range=min_range)
    assert_close(actual, expected, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("extent", ["image", "case", "set"])
@pytest.mark.parametrize("seed", SEEDS)
def test_risk_map_equals_its_parts(seed, extent):
    theta, labels, classes = make_batch(seed)
    options = {"extent": extent, "base": 4.0, "clip": 2.0, "min_range": 0.1}
    actual = risk_map(theta, labels, num_classes=classes, **options)
    values = log_expected_prediction(theta, labels, Joint.of(theta, labels, classes))
    assert_close(actual.transferability, values, rtol=0, atol=1e-9, equal_nan=True)
    hardness = slow_hardness(values, extent != "set", 2.0, 0.1)
    assert_close(actual.hardness, hardness, rtol=0, atol=1e-9, equal_nan=True)
    assert_close(actual.risk, slow_risk(hardness, 4.0), rtol=1e-8, atol=0)


# laws


@pytest.mark.parametrize("base", [1.0, 2.0, 10.0, 100.0])
@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_risk_lies_between_one_and_base(seed, per_image, base):
    values = make_map(seed)
    known = ~values.isnan()
    risk = RiskMap(values, Span.of(values, per_image=per_image), base).risk
    assert float(risk[known].min()) == pytest.approx(1, rel=1e-12)
    assert float(risk[known].max()) == pytest.approx(base, rel=1e-12)
    assert not risk[~known].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_hardness_spans_zero_to_one_and_is_nan_where_ignored(seed):
    values = make_map(seed)
    hardness = RiskMap(values, Span.of(values)).hardness
    assert torch.equal(hardness.isnan(), values.isnan())
    known = ~values.isnan()
    assert float(hardness[known].min()) == 0
    assert float(hardness[known].max()) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_lower_transferability_is_harder(seed):
    values = make_map(seed)
    hardness = RiskMap(values, Span.of(values)).hardness
    known = ~values.isnan()
    order = values[known].argsort()
    assert bool((hardness[known][order].diff() <= 0).all())


@pytest.mark.parametrize("seed", SEEDS)
def test_shift_and_scale_of_transferability_do_not_matter(seed):
    values = make_map(seed)
    other = 3 * values - 2
    first, second = (RiskMap(v, Span.of(v)).hardness for v in (values, other))
    assert_close(first, second, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("per_image", [False, True])
@pytest.mark.parametrize("value", [0.0, -0.1, -7.3])
def test_constant_map_has_no_hardness(value, per_image):
    values = torch.full((2, 3, 4), value)
    values[:, 0, 0] = NAN
    actual = RiskMap(values, Span.of(values, per_image=per_image))
    known = ~values.isnan()
    assert not actual.hardness[known].any()
    assert bool(actual.hardness[~known].isnan().all())
    assert bool((actual.risk[known] == 1).all())
    assert not actual.risk[~known].any()


@pytest.mark.parametrize("per_image", [False, True])
def test_map_without_valid_pixels(per_image):
    values = torch.full((2, 3, 4), NAN)
    actual = RiskMap(values, Span.of(values, per_image=per_image))
    assert bool(actual.hardness.isnan().all())
    assert not actual.risk.any()


def test_one_image_without_valid_pixels_leaves_the_others():
    values = make_map(0)
    values[0] = NAN
    actual = RiskMap(values, Span.of(values, per_image=True))
    assert not actual.risk[0].any()
    alone = RiskMap(values[1:], Span.of(values[1:]))
    assert_close(actual.risk[1:], alone.risk, rtol=0, atol=0)


def test_min_range_decides_each_image_by_itself():
    values = torch.tensor([[-0.5, 0.0], [-2.0, 0.0]])
    actual = RiskMap(values, Span.of(values, per_image=True), min_range=1.0).hardness
    assert_close(actual, torch.tensor([[0.0, 0.0], [1.0, 0.0]]), rtol=0, atol=0)


def test_min_range_that_is_just_reached_counts():
    values = torch.tensor([[-1.0, 0.0]])
    hardness = RiskMap(values, Span.of(values), min_range=1.0).hardness
    assert_close(hardness, torch.tensor([[1.0, 0.0]]), rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_image_extent_equals_one_by_one(seed):
    values = make_map(seed)
    together = RiskMap(values, Span.of(values, per_image=True)).hardness
    alone = [RiskMap(v[None], Span.of(v[None])).hardness for v in values]
    assert_close(together, torch.cat(alone), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_span_of_all_is_the_union_of_the_images(seed):
    values = make_map(seed)
    whole = Span.of(values)
    union = Span.of(values[:1])
    for image in values[1:]:
        union = union | Span.of(image[None])
    assert_close((union.low, union.high), (whole.low, whole.high), rtol=0, atol=0)
    each = Span.of(values, per_image=True)
    assert each.low.shape == each.high.shape == (len(values),)
    assert_close((each.low.min(), each.high.max()), (whole.low, whole.high), rtol=0, atol=0)


def test_image_and_set_extent_by_hand():
    values = torch.tensor([[-1.0, 0.0], [-4.0, -2.0]])
    image = RiskMap(values, Span.of(values, per_image=True)).hardness
    whole = RiskMap(values, Span.of(values)).hardness
    assert_close(image, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), rtol=0, atol=0)
    assert_close(whole, torch.tensor([[0.25, 0.0], [1.0, 0.5]]), rtol=0, atol=1e-7)


def test_values_beyond_the_span_are_held_at_its_ends():
    values = torch.tensor([[-9.0, -3.0, -2.0, -1.0, 0.0, NAN]])
    actual = RiskMap(values, Span(torch.tensor(-3.0), torch.tensor(-1.0)))
    hardness = torch.tensor([[1.0, 1.0, 0.5, 0.0, 0.0, NAN]])
    assert_close(actual.hardness, hardness, rtol=0, atol=1e-7, equal_nan=True)
    risk = torch.tensor([[10.0, 10.0, 10**0.5, 1.0, 1.0, 0.0]])
    assert_close(actual.risk, risk, rtol=1e-6, atol=0)


def test_impossible_pixel_is_the_hardest_not_an_ignored_one():
    values = torch.tensor(
        [[-math.inf, -2.0, 0.0, NAN]]
    )  # -inf: a class that the joint has not seen
    actual = RiskMap(values, Span.of(values))
    assert actual.hardness[0, 0].item() == 1
    assert actual.risk[0, 0].item() == 10
    assert actual.risk[0, 3].item() == 0


def test_clip_keeps_one_extreme_pixel_from_setting_the_scale():
    values = torch.cat([torch.tensor([-100.0]), -torch.linspace(0, 1, 199)])[None].double()
    plain, clipped = (RiskMap(values, Span.of(values, clip=c)).hardness for c in (0.0, 1.0))
    assert float(plain[0, 1:].max()) < 0.011
    assert float(clipped[0, 1:].max()) == 1
    assert float(clipped[0, 0]) == 1


@pytest.mark.parametrize("clip", [0.5, 1.0, 25.0, 99.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_clip_is_a_percentile_of_the_valid_pixels(seed, clip):
    values = make_map(seed)
    span = Span.of(values, clip=clip)
    low = float(np.nanpercentile(values.numpy(), clip))
    assert float(span.low) == pytest.approx(low, rel=1e-9)
    assert float(span.high) == float(values[~values.isnan()].max())


@pytest.mark.parametrize("seed", SEEDS)
def test_base_one_is_risk_one_everywhere(seed):
    values = make_map(seed)
    risk = RiskMap(values, Span.of(values), base=1.0).risk
    assert_close(risk, (~values.isnan()).double(), rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_of_another_base_is_a_power(seed):
    values = make_map(seed)
    span = Span.of(values)
    ten, hundred = (RiskMap(values, span, base).risk for base in (10.0, 100.0))
    assert_close(hundred, ten**2, rtol=1e-9, atol=0)


# risk_map


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_map_takes_arrays(seed):
    theta, labels, classes = make_batch(seed)
    arrays = risk_map(theta.numpy(), labels.numpy(), num_classes=classes)
    tensors = risk_map(theta, labels, num_classes=classes)
    assert_close(arrays.risk, tensors.risk, rtol=0, atol=0)
    assert arrays.risk.shape == labels.shape


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "i4", "i8"])
def test_risk_map_takes_every_integer_type_of_label_images(kind):
    theta, labels, _ = make_batch(0)
    labels = labels.clamp(min=0)
    actual = risk_map(theta.numpy(), labels.numpy().astype(kind))
    assert_close(actual.risk, risk_map(theta, labels).risk, rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_risk_map_finds_the_number_of_classes(seed):
    theta, labels, classes = make_batch(seed)
    given = risk_map(theta, labels, num_classes=classes)
    assert_close(risk_map(theta, labels).risk, given.risk, rtol=0, atol=0)


def test_the_span_of_nothing_adds_nothing():
    values, nothing = torch.tensor([[-3.0, -1.0]]), torch.full((1, 2), torch.nan)
    span, none = Span.of(values), Span.of(nothing)
    for both in (span | none, none | span):
        assert (float(both.low), float(both.high)) == (-3.0, -1.0)
    made = RiskMap(nothing, none)
    assert bool(made.hardness.isnan().all()) and not bool(made.risk.any())


def test_risk_map_of_background_alone_and_of_nothing():
    theta, labels, _ = make_batch(0)
    risk = risk_map(theta, torch.zeros_like(labels)).risk  # T = 0 up to rounding
    assert 1 <= float(risk.min()) <= float(risk.max()) <= 10
    assert not risk_map(theta, torch.full_like(labels, -1)).risk.any()


def test_risk_map_of_logits_is_refused():
    theta, labels, _ = make_batch(0)
    with pytest.raises(ValueError, match="sum to 1 over axis 1"):
        risk_map(100 * theta, labels)


def test_risk_map_is_that_of_the_paper_by_default():
    theta, labels, _ = make_batch(5)
    actual = risk_map(theta, labels)
    assert (actual.base, actual.min_range) == (10.0, 0.0)
    assert actual.span.low.shape == ()
    known = labels >= 0
    assert float(actual.risk[known].max()) == pytest.approx(10, rel=1e-9)
    assert float(actual.risk[known].min()) == pytest.approx(1, rel=1e-9)
    assert not actual.risk[~known].any()


def test_case_extent_equals_image_extent():
    theta, labels, _ = make_batch(2)
    first, second = (risk_map(theta, labels, extent=extent) for extent in ("image", "case"))
    assert_close(first.risk, second.risk, rtol=0, atol=0)


# errors


def test_error_span_order():
    words = "span must have low <= high; got .*0.* and .*-1"
    with pytest.raises(ValueError, match=words):
        Span(torch.tensor(0.0), torch.tensor(-1.0))
    with pytest.raises(ValueError, match="span must have low <= high"):
        Span(torch.tensor([-1.0, 0.0]), torch.tensor([0.0, -1.0]))


@pytest.mark.parametrize("clip", [-1.0, 100.0, NAN])
def test_error_clip(clip):
    words = rf"clip must be a percentile in \[0, 100\); got {clip}"
    with pytest.raises(ValueError, match=words):
        Span.of(make_map(0), clip=clip)
    with pytest.raises(ValueError, match=words):
        Span.of(make_map(0), clip=clip, per_image=True)


@pytest.mark.parametrize("base", [0.5, -1.0, NAN, float("inf"), 1e300])
def test_error_base(base):
    values = make_map(0)
    with pytest.raises(ValueError, match=re.escape(f"base must be from 1 to 1e+06; got {base}")):
        RiskMap(values, Span.of(values), base)


@pytest.mark.parametrize("least", [-0.5, NAN])
def test_error_min_range(least):
    values = make_map(0)
    with pytest.raises(ValueError, match=f"min_range must be at least 0 nats; got {least}"):
        RiskMap(values, Span.of(values), min_range=least)


def test_error_extent():
    theta, labels, _ = make_batch(0)
    with pytest.raises(ValueError, match="extent must be image, case or set; got 'slice'"):
        risk_map(theta, labels, extent="slice")


def test_error_labels_of_another_shape():
    theta, labels, _ = make_batch(0)
    with pytest.raises(ValueError, match=r"labels must be \(B, \*S\) for probabilities"):
        risk_map(theta, labels[:1])


def test_shuffled_risk_has_the_same_values_in_each_class_of_each_image():
    torch.manual_seed(0)
    risk, labels = 1 + 9 * torch.rand(3, 8, 9), torch.randint(-1, 3, (3, 8, 9))
    made = class_shuffled(risk, labels, 3)
    assert (made[labels == -1] == 0).all() and not torch.equal(made[labels >= 0], risk[labels >= 0])
    for image in range(3):
        for k in range(3):
            own = labels[image] == k
            assert_close(made[image][own].sort().values, risk[image][own].sort().values)
    torch.manual_seed(0)
    torch.rand(3, 8, 9), torch.randint(-1, 3, (3, 8, 9))
    assert torch.equal(class_shuffled(risk, labels, 3), made)
