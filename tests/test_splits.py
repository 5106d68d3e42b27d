"""Which cases are kept for evaluation."""

import transfer_risk as tr
from transfer_risk.layouts.splits import held_out


def test_the_split_holds_groups_together_and_folds_partition():
    cases = [tr.Case(f"c{k}", ("i",), "l", group=f"g{k // 2}") for k in range(20)]
    test = held_out(cases)
    assert len(test) == 6
    assert all((f"c{2 * k}" in test) == (f"c{2 * k + 1}" in test) for k in range(10))
    folds = [set(held_out(cases, fold=(k, 5))) for k in range(5)]
    assert set.union(*folds) == {c.id for c in cases} and sum(map(len, folds)) == 20


def test_the_split_of_a_name_is_the_same_for_ever():
    cases = [tr.Case(f"c{k}", ("i",), "l") for k in range(10)]
    assert held_out(cases) == ("c0", "c2", "c4")
    assert held_out(cases, fold=(1, 4)) == ("c0", "c6", "c9")
