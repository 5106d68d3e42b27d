"""Measures of labelled cases: what they need, and the two ways to average them."""

import math
from dataclasses import replace

import pytest
from blobs import make_source, write_blobs

import transfer_risk as tr
from transfer_risk.evaluation import Measure, check_cases, mean_dice, pooled_mean


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("blobs"), cases=4))


@pytest.mark.parametrize(
    "use",
    [
        lambda task, cases: tr.evaluate(make_source(), task, cases=cases),
        lambda task, cases: tr.training_slices(cases, task),
        lambda task, cases: check_cases(task, cases),
        lambda task, cases: tr.score(make_source(), task, cases=cases[1:]),
        lambda task, cases: tr.risk_maps(make_source(), task, cases=cases),
        lambda task, cases: tr.tune_decision(make_source(), task, cases=cases),
    ],
    ids=["evaluate", "training_slices", "check_cases", "score", "risk_maps", "tune_decision"],
)
def test_a_case_without_a_label_is_named(task, use):
    first, second, *_ = task.cases
    bare = replace(second, label=None)
    with pytest.raises(ValueError, match=f"^case {bare.id}: has no label file$"):
        use(task, [first, bare])


def test_finetune_names_a_case_without_a_label(task):
    bare = replace(task.split("train")[0], label=None)
    cases = tuple(bare if c.id == bare.id else c for c in task.cases)
    with pytest.raises(ValueError, match=f"^case {bare.id}: has no label file$"):
        tr.finetune(make_source(), replace(task, cases=cases), tr.Recipe(iterations=1, n_slices=2))


def test_cases_or_cells_are_averaged():
    """Two classes in the first case, one in the second: (.5 + .9) / 2 of cases, 1.9 / 3 of cells."""
    cells = [
        ("c", "a", 0.2, 1.0),
        ("c", "b", 0.8, 0.0),
        ("d", "a", 0.9, 0.5),
        ("d", "b", math.nan, 0),
    ]
    rows = [Measure(case, name, dice, math.nan, recall, 0) for case, name, dice, recall in cells]
    assert mean_dice(rows).value == pytest.approx(0.7) and mean_dice(rows).cases == 2
    assert pooled_mean(rows) == pytest.approx(1.9 / 3)
    assert pooled_mean(rows, "recall") == pytest.approx(1.5 / 4)
    assert math.isnan(pooled_mean(rows, "hd95"))
