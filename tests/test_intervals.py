"""Estimates against scipy's t interval and t tests."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from transfer_risk.intervals import Estimate

SEEDS = range(20)


def draw(seed, number=1):
    generator = np.random.default_rng(seed)
    return generator.normal(0.3, 1.0, (number, 2 + seed))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("seed", SEEDS)
def test_interval_of_a_mean_equals_scipy(seed, level):
    (values,) = draw(seed)
    estimate = Estimate.mean(values)
    assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
    assert estimate.standard_error == pytest.approx(stats.sem(values), rel=1e-9)
    expected = stats.t.interval(level, len(values) - 1, values.mean(), stats.sem(values))
    assert estimate.interval(level) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_default_level_is_95_percent(seed):
    estimate = Estimate.mean(draw(seed)[0])
    assert estimate.interval() == estimate.interval(0.95)
    columns = {"dice": estimate.value, "dice_low": estimate.interval()[0]}
    assert estimate.columns("dice") == columns | {"dice_high": estimate.interval()[1]}


@pytest.mark.parametrize("seed", SEEDS)
def test_p_value_of_a_mean_equals_scipy(seed):
    (values,) = draw(seed)
    expected = stats.ttest_1samp(values, 0).pvalue
    assert Estimate.mean(values).p_value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_difference_equals_paired_t_test(seed):
    first, second = draw(seed, 2)
    difference = Estimate.mean(first) - Estimate.mean(second)
    test = stats.ttest_rel(first, second)
    assert difference.value == pytest.approx((first - second).mean(), rel=1e-9)
    assert difference.p_value == pytest.approx(test.pvalue, rel=1e-9)
    expected = test.confidence_interval(0.95)
    assert difference.interval() == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_influences_sum_to_zero(seed):
    influence = Estimate.mean(draw(seed)[0]).influence
    assert influence.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_difference_is_antisymmetric(seed):
    first, second = (Estimate.mean(values) for values in draw(seed, 2))
    low, high = (first - second).interval()
    assert (second - first).interval() == pytest.approx((-high, -low), rel=1e-12)
    assert (second - first).p_value == pytest.approx((first - second).p_value, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_interval_excludes_zero_exactly_when_p_is_small(seed):
    estimate = Estimate.mean(draw(seed)[0])
    low, high = estimate.interval(0.95)
    assert (low > 0 or high < 0) == (estimate.p_value < 0.05)


def test_interval_by_hand():
    estimate = Estimate.mean([1.0, 2.0, 3.0])  # s = 1, t_2 = 4.3027
    assert estimate.standard_error == pytest.approx(1 / math.sqrt(3), rel=1e-12)
    half = 4.302652729911275 / math.sqrt(3)
    assert estimate.interval() == pytest.approx((2 - half, 2 + half), rel=1e-9)


# skewness


@pytest.mark.parametrize("seed", SEEDS)
def test_the_correction_inverts_hall_and_agrees_with_p(seed):
    values = np.exp(draw(seed)[0])
    estimate = replace(Estimate.mean(values), skewed=True)
    n, s = len(values), values.std()
    skewness = ((values - values.mean()) ** 3).mean() / s**3
    for end, sign in zip(estimate.interval(0.9), (1, -1), strict=True):
        t = (values.mean() - end) / (s / math.sqrt(n - 1))
        a, b = skewness / (3 * math.sqrt(n)), skewness / (6 * math.sqrt(n))  # Hall 1992
        g = t + a * t**2 + a**2 * t**3 / 3 + b
        assert g == pytest.approx(sign * stats.t.ppf(0.95, n - 1), rel=1e-6)
        shifted = replace(estimate, value=estimate.value - end)
        assert shifted.p_value == pytest.approx(0.1, rel=1e-6)


def test_symmetric_values_need_no_correction():
    plain = Estimate.mean([1.0, 2.0, 3.0, 4.0, 5.0])
    corrected = replace(plain, skewed=True)
    assert corrected.interval() == pytest.approx(plain.interval(), rel=1e-9)


def test_a_long_right_tail_moves_the_interval_to_the_right():
    plain = Estimate.mean([1.0, 1.1, 1.2, 1.0, 5.0])
    low, high = replace(plain, skewed=True).interval()
    assert low > plain.interval()[0] and high > plain.interval()[1]


# cases without the quantity


@pytest.mark.parametrize("seed", SEEDS)
def test_unknown_cases_do_not_enter_the_mean(seed):
    (values,) = draw(seed)
    padded = np.concatenate([[np.nan], values, [np.nan]])
    estimate = Estimate.mean(padded)
    assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
    assert len(estimate.influence) == len(padded)


@pytest.mark.parametrize("seed", SEEDS)
def test_unknown_cases_do_not_count_in_the_interval(seed):
    (values,) = draw(seed)
    padded = Estimate.mean(np.concatenate([[np.nan], values, [np.nan]]))
    plain = Estimate.mean(values)
    assert padded.standard_error == pytest.approx(plain.standard_error, rel=1e-9)
    assert padded.interval() == pytest.approx(plain.interval(), rel=1e-9)
    assert padded.p_value == pytest.approx(plain.p_value, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_cases_unknown_to_both_do_not_count_in_the_difference(seed):
    first, second = draw(seed, 2)
    gaps = [np.concatenate([values, [np.nan] * 3]) for values in (first, second)]
    difference = Estimate.mean(gaps[0]) - Estimate.mean(gaps[1])
    test = stats.ttest_rel(*gaps, nan_policy="omit")
    assert difference.value == pytest.approx((first - second).mean(), rel=1e-9)
    assert difference.p_value == pytest.approx(float(test.pvalue), rel=1e-9)


def test_case_unknown_to_one_does_not_count_in_the_difference():
    first, second = [1.0, 2.0, 4.0, math.nan], [1.5, 2.0, 3.0, 50.0]
    difference = Estimate.mean(first) - Estimate.mean(second)
    test = stats.ttest_rel(first, second, nan_policy="omit")
    assert difference.value == pytest.approx(0.5 / 3, rel=1e-9)  # not 2.33 - 14.1
    assert difference.p_value == pytest.approx(float(test.pvalue), rel=1e-9)


def assert_no_interval(estimate):
    assert math.isnan(estimate.standard_error)
    assert all(math.isnan(end) for end in estimate.interval())
    assert math.isnan(estimate.p_value)


def test_one_case_has_no_interval():
    estimate = Estimate.mean([0.7])
    assert estimate.value == 0.7
    assert_no_interval(estimate)
    assert_no_interval(estimate - Estimate.mean([0.2]))


def test_one_known_case_has_no_interval():
    estimate = Estimate.mean([math.nan, 0.7, math.nan])
    assert estimate.value == 0.7
    assert_no_interval(estimate)


@pytest.mark.parametrize("values", [[math.nan], [math.nan, math.nan, math.nan], []])
def test_no_known_case_gives_nan(values):
    estimate = Estimate.mean(values)
    assert math.isnan(estimate.value)
    assert len(estimate.influence) == len(values)
    assert_no_interval(estimate)


def test_difference_with_an_unknown_score_is_unknown():
    known, unknown = Estimate.mean([1.0, 2.0]), Estimate.mean([math.nan, math.nan])
    for difference in (known - unknown, unknown - known):
        assert math.isnan(difference.value)
        assert_no_interval(difference)


def test_constant_values():
    assert Estimate.mean([0.5, 0.5, 0.5]).interval() == (0.5, 0.5)
    assert Estimate.mean([0.5, 0.5, 0.5]).p_value == 0
    assert Estimate.mean([0.0, 0.0, 0.0]).p_value == 1


def test_estimate_minus_itself_is_zero():
    estimate = Estimate.mean([0.1, 0.4, 0.9])
    assert (estimate - estimate).interval() == (0, 0)
    assert (estimate - estimate).p_value == 1


def test_error_different_cases():
    words = "estimates must be over the same cases; got 2 and 3"
    with pytest.raises(ValueError, match=words):
        Estimate.mean([1.0, 2.0]) - Estimate.mean([1.0, 2.0, 3.0])


@pytest.mark.parametrize("skewed", [False, True])
def test_an_interval_ends_at_the_bounds_of_its_score(skewed):
    values = [0.9, 0.99, 0.2]
    free, shares = Estimate.mean(values), Estimate.mean(values, bounds=(0.0, 1.0))
    free, shares = (dataclasses.replace(e, skewed=skewed) for e in (free, shares))
    low, high = free.interval()
    assert high > 1 and shares.interval() == (max(low, 0.0), 1.0)
    assert (shares - shares).interval() == (0, 0) and (shares - shares).bounds == (-1, 1)
    assert (free - free).bounds == (-math.inf, math.inf)


def test_a_difference_of_shares_ends_at_one():
    low, high = (Estimate.mean(v, bounds=(0.0, 1.0)) for v in ([0.1, 0.2], [0.95, 0.99]))
    start, end = (high - low).interval()
    assert end == 1 and start < (high - low).value < end
    unknown = Estimate.mean([0.1, math.nan], bounds=(0.0, 1.0))  # another way to the difference
    assert (high - unknown).bounds == (-1, 1)


def test_what_float32_leaves_of_no_difference_is_none():
    assert Estimate.mean([2e-8, 3e-8, 2.5e-8]).p_value == 1
    assert Estimate.mean([2e-5, 3e-5, 2.5e-5]).p_value < 0.05
