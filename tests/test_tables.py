"""Scores from sums: against the library's own pixel functions and numerical derivatives."""

import numpy as np
import pytest
import torch

import transfer_risk as tr
from transfer_risk.overlaps import BINS, best_threshold_bins, eep_bins, thresholded
from transfer_risk.tables import Tables, dice, leep_estimates
from transfer_risk.transferability import hard_counts, likelihood_table


def draw(seed, *, shape=(3, 5, 4), sources=3, classes=3, dtype=torch.float64, ignored=0.1):
    """Probabilities (B, Z, *S) and labels (B, *S) of which some are ignored."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn((shape[0], sources, *shape[1:]), generator=rng, dtype=dtype)
    labels = torch.randint(0, classes, shape, generator=rng)
    labels[torch.rand(shape, generator=rng) < ignored] = -1
    return (2 * logits).softmax(1), labels


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


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("absent", [False, True])
def test_readings_equal_their_definitions(seed, absent):
    theta, labels = draw(seed, shape=(4, 6, 5), sources=4)
    if absent:
        labels[labels == 1] = 2
    made = leep_estimates(tables(theta, labels, np.ones(4)), ("a", "b", "c"))
    values = tr.log_expected_prediction(theta, labels, tr.Joint.of(theta, labels, 3))
    means = [float(values[labels == k].mean()) for k in range(3)]
    assert [made[f"leep[{c}]"].value for c in "abc"] == pytest.approx(means, nan_ok=True)
    assert made["leep_balanced"].value == pytest.approx(np.nanmean(means))
    assert made["nce"].value == pytest.approx(tr.nce(theta, labels, 3))
    own = labels[labels >= 0]
    shares = [float((own == k).double().mean()) for k in range(3)]
    floor = sum(p * np.log(p) for p in shares if p)
    assert made["leep_floor"].value == pytest.approx(floor)
    assert made["leep_normalised"].value == pytest.approx(1 - made["leep"].value / floor)


@pytest.mark.parametrize("seed", range(10))
def test_the_decision_by_thresholds_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    classes, pixels = 4, 60
    low, width = rng.uniform(0, 0.3, classes), rng.uniform(0.1, 0.5, classes)
    eep = low[:, None] + width[:, None] * rng.random((classes, pixels))
    first = rng.integers(0, BINS, classes)
    first[rng.integers(1, classes)] = BINS  # a class without a threshold
    edge = low + width * np.minimum(first, BINS - 1) / BINS + 1e-9
    tensors = [torch.from_numpy(a) for a in (eep, low, low + width, first, edge)]
    bins = eep_bins(*tensors[:3])
    made = thresholded(tensors[0], bins, tensors[3], tensors[4])
    for p in range(pixels):
        place = [int((eep[y, p] - low[y]) / width[y] * BINS) for y in range(classes)]
        passed = [y for y in range(1, classes) if min(place[y], BINS - 1) >= first[y]]
        assert made[p] == (max(passed, key=lambda y: eep[y, p] / edge[y]) if passed else 0)
    assert len(set(made.tolist())) > 1


def test_thresholds_come_from_the_other_cases():
    rng = np.random.default_rng(0)
    histograms = rng.integers(0, 9, (3, 2, 2, 8)).astype(float)
    bins = best_threshold_bins(histograms)
    for case in range(3):
        for k in range(2):
            pooled = sum(histograms[c, k] for c in range(3) if c != case)
            scores = [
                2 * pooled[1, b:].sum() / (pooled[:, b:].sum() + pooled[1].sum()) for b in range(8)
            ]
            assert bins[case, k] == int(np.argmax(scores))


def test_a_class_of_one_case_has_no_threshold():
    rng = np.random.default_rng(1)
    histograms = rng.integers(1, 9, (4, 3, 2, 8)).astype(float)
    before = best_threshold_bins(histograms)
    assert (before < 8).all()
    histograms[1:, 2, 1] = 0
    after = best_threshold_bins(histograms)
    assert (after[:, 2] == 8).all() and (after[:, :2] == before[:, :2]).all()


def test_dice_of_two_empty_masks_is_unknown():
    made = dice(np.array([0.0, 2.0]), np.array([0.0, 3.0]), np.array([0.0, 5.0]))
    assert np.isnan(made[0]) and made[1] == 0.5
