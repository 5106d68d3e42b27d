"""Signed-rank p against all 2^n sign patterns, Holm against its definition, and what few cases can reach."""

from itertools import product

import numpy as np
import pytest

from transfer_risk.significance import holm, needed_cases, signed_rank_p, smallest_p
from transfer_risk.verdicts import (
    change_sentence,
    empty_sentences,
    power_sentence,
    transfer_sentence,
)


def by_enumeration(differences):
    """Share of the sign patterns whose smaller rank sum is at most the observed one."""
    size = np.abs(differences)
    ranks = [(size < s).sum() + ((size == s).sum() + 1) / 2 for s in size]
    observed = min(
        sum(r for r, d in zip(ranks, differences, strict=True) if d > 0),
        sum(r for r, d in zip(ranks, differences, strict=True) if d < 0),
    )
    hits = 0
    for signs in product((False, True), repeat=len(ranks)):
        up = sum(r for r, s in zip(ranks, signs, strict=True) if s)
        hits += min(up, sum(ranks) - up) <= observed
    return hits / 2 ** len(ranks)


@pytest.mark.parametrize("seed", range(5))
def test_the_signed_rank_p_is_exact(seed):
    rng = np.random.default_rng(seed)
    free = rng.normal(0.5, 1, size=3 + seed)
    assert signed_rank_p(free) == pytest.approx(by_enumeration(free))
    tied = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -2.0][: 4 + seed])
    assert signed_rank_p(tied) == pytest.approx(by_enumeration(tied))


def test_zeros_and_unknown_differences_do_not_count():
    assert signed_rank_p([0.0, np.nan, 1.0, 2.0, -3.0]) == signed_rank_p([1.0, 2.0, -3.0])
    assert signed_rank_p([0.0, np.nan]) == 1.0
    assert np.isnan(signed_rank_p([np.nan, np.nan])) and np.isnan(signed_rank_p([]))
    assert holm([0.02, np.nan, 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


@pytest.mark.parametrize("cases", range(1, 9))
def test_the_smallest_p_is_that_of_cases_that_all_agree(cases):
    agreed = np.arange(1.0, cases + 1)
    assert smallest_p(cases) == pytest.approx(signed_rank_p(agreed))
    assert smallest_p(cases, 4) == pytest.approx(max(holm([signed_rank_p(agreed)] * 4)))


@pytest.mark.parametrize("comparisons", [1, 3, 10])
def test_needed_cases_is_the_first_number_that_can_reach_the_level(comparisons):
    needed = needed_cases(comparisons)
    assert smallest_p(needed, comparisons) < 0.05 <= smallest_p(needed - 1, comparisons)


def test_holm_equals_its_definition():
    rng = np.random.default_rng(0)
    for size in range(1, 8):
        p = rng.random(size) ** 3
        ordered = np.sort(p)
        for value, adjusted in zip(p, holm(p), strict=True):
            steps = [
                min(1, (size - k) * q) for k, q in enumerate(ordered) if q <= value
            ]  # every smaller one
            assert adjusted == pytest.approx(max(steps))
    assert holm([]) == []


def test_the_sentence_of_change_counts_what_got_worse():
    sentence = change_sentence("r", np.array([0.1, -0.02, np.nan, 0.0]))
    assert sentence.startswith("r: 1 of 3 cases got worse than before (Dice +2.7 points [")
    assert change_sentence("r", np.array([-0.1])) == (
        "r: 1 of 1 case got worse than before (Dice -10.0 points)"
    )
    assert "is unknown" in change_sentence("r", np.array([np.nan]))


def test_negative_transfer_is_a_case_worse_than_from_scratch():
    worse = transfer_sentence("r", np.array([-0.1, 0.2]), "s", (10, 10))
    assert worse.startswith(
        "r: negative transfer in 1 of 2 cases: worse than training from scratch (s; Dice +5.0"
    )
    better = transfer_sentence("r", np.array([0.1, 0.2]), "s", (10, 20))
    assert "no negative transfer in any of 2 cases: none is worse than from scratch" in better
    assert better.endswith("; iterations differ: 10 and 20)")
    assert "negative transfer is unknown" in transfer_sentence("r", np.array([np.nan]), "s")


def test_few_cases_are_told_that_the_test_cannot_reach_the_level():
    assert power_sentence(5, 0) == () and power_sentence(6, 1) == ()
    assert power_sentence(5, 1) == (
        "With 5 cases the signed-rank test cannot reach .05: its smallest p is 0.0625; it needs 6 cases",
    )
    assert power_sentence(4, 1, "patient")[0].startswith("With 4 patients the signed-rank test")
    (sentence,) = power_sentence(6, 3)
    assert "0.0312, 0.0938 after Holm's correction; it needs 7 cases" in sentence


def test_cases_without_foreground_are_named_where_only_one_side_predicts_there():
    unknown = np.nan
    dice, others = np.array([0.5, 0.0, unknown, unknown]), np.array([0.4, unknown, 0.0, unknown])
    assert list(empty_sentences("r", dice, "the source", others, "abcd")) == [
        "r: has false positives, and the source has none, in b, without foreground; not counted above",
        "r: has no false positives, and the source has, in c, without foreground; not counted above",
    ]
    assert not list(empty_sentences("r", dice, "s", np.full(4, unknown), "abcd"))  # not measured
