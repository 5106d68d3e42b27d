"""The core against slow, obvious loops and the laws of METHOD: joint, LEEP, maps, losses, intervals."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.testing import assert_close

import transfer_risk as tr
from transfer_risk.losses import inverse_frequency, soft_dice_loss
from transfer_risk.tables import Tables, leep_estimates
from transfer_risk.transferability import hard_counts, label_entropy, likelihood_table


def draw(seed, *, shape=(3, 5, 4), sources=3, classes=3, dtype=torch.float64, ignored=0.1):
    """Probabilities (B, Z, *S) and labels (B, *S) of which some are ignored."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn((shape[0], sources, *shape[1:]), generator=rng, dtype=dtype)
    labels = torch.randint(0, classes, shape, generator=rng)
    labels[torch.rand(shape, generator=rng) < ignored] = -1
    return (2 * logits).softmax(1), labels


def slow_joint(theta, labels, classes):
    counts = np.zeros((classes, theta.shape[1]))
    for b in range(len(labels)):
        for place in np.ndindex(*labels.shape[1:]):
            if labels[(b, *place)] >= 0:
                counts[labels[(b, *place)]] += theta[(b, slice(None), *place)].double().numpy()
    return counts


def slow_map(theta, labels, counts):
    conditional = counts / np.where(counts.sum(0) > 0, counts.sum(0), 1)
    result = np.full(labels.shape, np.nan)
    for b in range(len(labels)):
        for place in np.ndindex(*labels.shape[1:]):
            y = labels[(b, *place)]
            if y >= 0:
                result[(b, *place)] = math.log(
                    conditional[y] @ theta[(b, slice(None), *place)].double().numpy()
                )
    return result


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 3, 4, 2)])
def test_scores_and_maps_equal_a_slow_loop(seed, shape):
    theta, labels = draw(seed, shape=shape, classes=2 + seed % 3, sources=1 + seed % 5)
    classes = 2 + seed % 3
    counts = slow_joint(theta, labels, classes)
    slow = slow_map(theta, labels, counts)
    for dtype, relative, nats in ((torch.float64, 1e-9, 1e-9), (torch.float32, 1e-6, 1e-5)):
        typed = theta.to(dtype)
        joint = tr.Joint.of(typed, labels, classes)
        assert_close(joint.counts, torch.from_numpy(counts), rtol=relative, atol=1e-12)
        fast = tr.log_expected_prediction(typed, labels, joint)
        assert fast.dtype == dtype
        assert_close(fast.double(), torch.from_numpy(slow), rtol=0, atol=nats, equal_nan=True)
        assert tr.leep(typed, labels, classes) == pytest.approx(
            float(np.nanmean(slow)), rel=relative
        )


def test_runs_longer_than_one_piece_give_the_same():
    theta, labels = draw(0, shape=(1, 200_000), sources=2, classes=2)
    expected = torch.stack([theta[0][:, labels[0] == y].sum(1) for y in range(2)])
    assert_close(tr.Joint.of(theta, labels, 2).counts, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("seed", range(20))
def test_leep_lies_between_minus_label_entropy_and_zero(seed):
    theta, labels = draw(seed)
    counts = torch.bincount(labels[labels >= 0], minlength=3)
    assert -label_entropy(counts) - 1e-9 <= tr.leep(theta, labels, 3) <= 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_the_map_is_finite_on_its_own_set(seed):
    theta, labels = draw(seed)
    values = tr.log_expected_prediction(theta, labels, tr.Joint.of(theta, labels, 3))
    valid = labels >= 0
    assert values[valid].min() >= -math.log(theta.shape[1] ** 2 * int(valid.sum()))
    assert values[~valid].isnan().all()


@pytest.mark.parametrize("seed", range(10))
def test_joints_add_and_subtract(seed):
    theta, labels = draw(seed)
    whole = tr.Joint.of(theta, labels, 3)
    first, rest = tr.Joint.of(theta[:1], labels[:1], 3), tr.Joint.of(theta[1:], labels[1:], 3)
    assert_close((first + rest).counts, whole.counts, rtol=1e-12, atol=1e-12)
    assert_close((whole - first).counts, rest.counts, rtol=1e-9, atol=1e-9)
    assert whole.num_pixels == pytest.approx(int((labels >= 0).sum()))


@pytest.mark.parametrize("seed", range(10))
def test_order_and_unused_classes_of_the_source_change_nothing(seed):
    theta, labels = draw(seed)
    score = tr.leep(theta, labels, 3)
    assert tr.leep(theta[:, [2, 0, 1]], labels, 3) == pytest.approx(score, rel=1e-12)
    unused = torch.cat([theta, torch.zeros_like(theta[:, :1])], 1)
    assert tr.leep(unused, labels, 3) == pytest.approx(score, rel=1e-12)
    assert tr.leep(theta, labels, 4) == pytest.approx(score, rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_hard_labels_give_the_negative_conditional_entropy(seed):
    theta, labels = draw(seed)
    hard = functional.one_hot(theta.argmax(1), 3).movedim(-1, 1).double()
    assert tr.leep(hard, labels, 3) == pytest.approx(tr.nce(theta, labels, 3), rel=1e-9)


def test_smoothed_adds_one_pseudo_pixel_per_source_class():
    joint = tr.Joint(torch.tensor([[3.0, 0.0], [1.0, 0.0]]))
    assert_close(
        joint.smoothed, torch.tensor([[3.5 / 5, 0.5], [1.5 / 5, 0.5]], dtype=torch.float64)
    )
    assert_close(joint.conditional[:, 1], torch.zeros(2, dtype=torch.float64))


def test_batch_equals_one_by_one():
    theta, labels = draw(1)
    joint = tr.Joint.of(theta, labels, 3)
    single = [
        tr.log_expected_prediction(t[None], y[None], joint)
        for t, y in zip(theta, labels, strict=True)
    ]
    assert_close(
        tr.log_expected_prediction(theta, labels, joint), torch.cat(single), equal_nan=True
    )


def tables(theta, labels, weights, classes=3):
    """Tables of cases, case c counted weights[c] times."""
    cases = list(zip(theta, labels, strict=True))
    joints = [
        tr.Joint.of(t[None], y[None], classes).counts * w
        for (t, y), w in zip(cases, weights, strict=True)
    ]
    total = tr.Joint(torch.stack(joints).sum(0))
    sums, gradient = [], torch.zeros_like(total.counts)
    for (t, y), w in zip(cases, weights, strict=True):
        values = tr.log_expected_prediction(t[None], y[None], total)[0]
        sums.append([w * float(values[y == k].sum()) for k in range(classes)])
        gradient += w * likelihood_table(t[None], y[None], total)
    hard = [
        w * hard_counts(t[None], y[None], classes) for (t, y), w in zip(cases, weights, strict=True)
    ]
    stacked = [torch.stack(a).numpy() for a in (joints, hard)]
    return Tables(*stacked, np.array(sums), np.array(sums), gradient.numpy())


@pytest.mark.parametrize("seed", range(4))
def test_influence_is_the_derivative_by_a_cases_weight(seed):
    theta, labels = draw(seed, shape=(4, 6, 5))
    names = ("leep", "leep_floor", "leep_normalised", "leep_balanced", "nce", "leep[b]")
    exact = leep_estimates(tables(theta, labels, np.ones(4)), ("a", "b", "c"))
    for case in range(4):
        step = np.zeros(4)
        step[case] = 1e-5
        up = leep_estimates(tables(theta, labels, 1 + step), ("a", "b", "c"))
        down = leep_estimates(tables(theta, labels, 1 - step), ("a", "b", "c"))
        for name in names:
            numerical = (up[name].value - down[name].value) / 2e-5
            assert exact[name].influence[case] == pytest.approx(numerical, rel=1e-4, abs=1e-7), name


def test_class_scores_sum_to_leep():
    theta, labels = draw(3)
    made = tables(theta, labels, np.ones(3))
    estimates = leep_estimates(made, ("a", "b", "c"))
    share = made.pixels.sum(0) / made.pixels.sum()
    by_class = [estimates[f"leep[{c}]"].value for c in "abc"]
    assert share @ by_class == pytest.approx(estimates["leep"].value, rel=1e-12)
    assert estimates["leep"].value == pytest.approx(tr.leep(theta, labels, 3), rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_risk_stays_between_one_and_the_base(seed):
    theta, labels = draw(seed)
    made = tr.risk_map(theta, labels, base=2 + seed)
    risk, valid = made.risk, labels >= 0
    assert (risk[~valid] == 0).all()
    assert risk[valid].min() == pytest.approx(1) and risk[valid].max() == pytest.approx(2 + seed)
    order = made.transferability[valid].argsort()
    assert (risk[valid][order].diff() <= 1e-12).all()


def test_a_constant_map_has_hardness_zero_and_min_range_flattens():
    flat = torch.full((1, 4), -0.3)
    assert (tr.RiskMap(flat, tr.Span.of(flat)).hardness == 0).all()
    nearly = torch.tensor([[-0.3, -0.2, torch.nan]])
    made = tr.RiskMap(nearly, tr.Span.of(nearly), min_range=0.5)
    assert made.hardness[0, :2].tolist() == [0, 0] and made.risk[0, 2] == 0


def test_extent_image_scales_each_image_alone():
    values = torch.tensor([[-4.0, -2.0], [-1.0, 0.0]])
    image = tr.RiskMap(values, tr.Span.of(values, per_image=True)).hardness
    whole = tr.RiskMap(values, tr.Span.of(values)).hardness
    assert_close(image, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert_close(whole, torch.tensor([[1.0, 0.5], [0.25, 0.0]]))


def test_clip_takes_a_percentile_for_the_minimum():
    values = torch.cat([torch.full((1, 1), -50.0), torch.linspace(-2, 0, 99)[None]], 1)
    assert float(tr.Span.of(values, clip=5).low) == pytest.approx(
        np.percentile(values.numpy(), 5), rel=1e-6
    )


def slow_risk_loss(logits, labels, risk):
    total, foreground = 0.0, 0
    for b in range(len(labels)):
        for place in np.ndindex(*labels.shape[1:]):
            y = int(labels[(b, *place)])
            if y >= 0:
                row = logits[(b, slice(None), *place)].log_softmax(0)
                total -= float(risk[(b, *place)]) * float(row[y])
                foreground += y > 0
    return total / foreground


@pytest.mark.parametrize("seed", range(5))
def test_losses_equal_loops_and_pass_gradcheck(seed):
    _, labels = draw(seed, shape=(2, 3, 3))
    logits = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    risk = 1 + 9 * torch.rand(2, 3, 3, dtype=torch.float64)
    assert tr.risk_weighted_loss(logits, labels, risk).item() == pytest.approx(
        slow_risk_loss(logits.detach(), labels, risk), rel=1e-6
    )
    plain = functional.cross_entropy(logits, labels, ignore_index=-1)
    ones = torch.ones_like(risk)
    assert_close(tr.risk_weighted_loss(logits, labels, ones, divisor="pixels"), plain)
    assert_close(tr.vanilla_loss(logits, labels), plain)
    weights = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
    expected = functional.cross_entropy(logits, labels, weight=weights, ignore_index=-1)
    assert_close(tr.class_weighted_loss(logits, labels, weights), expected)
    hardness = (risk - 1) / 9
    ce = functional.cross_entropy(logits, labels, ignore_index=-1, reduction="none")
    linear = ((1 + hardness) * ce).sum() / (labels >= 0).sum()
    assert_close(tr.transferability_weighted_loss(logits, labels, hardness), linear)
    for loss in (
        lambda x: tr.risk_weighted_loss(x, labels, risk),
        lambda x: tr.risk_weighted_loss(x, labels, risk, divisor="image", min_foreground=0.9),
        lambda x: tr.class_weighted_loss(x, labels, weights),
        lambda x: tr.transferability_weighted_loss(x, labels, hardness),
        lambda x: soft_dice_loss(x, labels),
    ):
        assert torch.autograd.gradcheck(loss, (logits,))


def test_without_foreground_the_divisor_is_the_valid_pixels():
    logits, labels = torch.zeros(1, 2, 4), torch.tensor([[0, 0, 0, -1]])
    assert float(tr.risk_weighted_loss(logits, labels, torch.ones(1, 4))) == pytest.approx(
        math.log(2)
    )


def test_min_foreground_bounds_the_weight_of_a_lone_pixel():
    logits, labels = torch.zeros(1, 2, 100), torch.zeros(1, 100, dtype=torch.int64)
    labels[0, 0] = 1
    one = float(tr.risk_weighted_loss(logits, labels, torch.ones(1, 100)))
    bounded = float(tr.risk_weighted_loss(logits, labels, torch.ones(1, 100), min_foreground=0.1))
    assert one == pytest.approx(10 * bounded)


def test_a_batch_that_is_all_ignored_has_no_gradient():
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    labels = torch.full((1, 3), -1)
    for loss in (
        tr.vanilla_loss(logits, labels),
        tr.risk_weighted_loss(logits, labels, torch.zeros(1, 3)),
    ):
        loss.backward()
        assert loss.item() == 0 and (logits.grad == 0).all()


def test_class_weights_are_inverse_frequencies():
    assert_close(
        inverse_frequency(torch.tensor([6, 2, 0])),
        torch.tensor([8 / 18, 8 / 6, 0], dtype=torch.float64),
    )


def test_intervals_equal_scipy():
    from scipy.stats import t, ttest_rel

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=9), rng.normal(size=9)
    estimate = tr.Estimate.mean(a)
    expected = t.interval(0.95, 8, a.mean(), a.std(ddof=1) / 3)
    assert estimate.interval() == pytest.approx(expected)
    assert (estimate - tr.Estimate.mean(b)).p_value == pytest.approx(ttest_rel(a, b).pvalue)
    assert all(math.isnan(e) for e in tr.Estimate.mean([0.5]).interval())


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("labels must be", lambda t, y: tr.leep(t, y[:, :2], 3)),
        ("labels must be in", lambda t, y: tr.leep(t, y + 5, 3)),
        (
            "one column per source class",
            lambda t, y: tr.log_expected_prediction(t, y, tr.Joint(torch.ones(3, 2))),
        ),
        ("check the probabilities for NaN", lambda t, y: tr.leep(t * torch.nan, y, 3)),
        ("extent must be", lambda t, y: tr.risk_map(t, y, extent="slice")),
        ("base must be", lambda t, y: tr.risk_map(t, y, base=0.5)),
        ("clip must be", lambda t, y: tr.risk_map(t, y, clip=100)),
        ("divisor must be", lambda t, y: tr.risk_weighted_loss(t, y, y, divisor="all")),
        ("risk must have", lambda t, y: tr.risk_weighted_loss(t, y, y[:1])),
        ("same cases", lambda t, y: tr.Estimate.mean([1, 2]) - tr.Estimate.mean([1, 2, 3])),
    ],
)
def test_errors_say_what_must_be(words, call):
    with pytest.raises(ValueError, match=words):
        call(*draw(0))
