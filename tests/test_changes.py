"""Changes of the map without a run folder: the same numbers as `compare` has of finished runs."""

import math

import pytest
from blobs import make_source, write_blobs

import transfer_risk as tr


@pytest.fixture(scope="module", params=[("a",), ("a", "b")], ids=["binary", "three classes"])
def task_path(tmp_path_factory, request):
    return write_blobs(tmp_path_factory.mktemp("changes"), classes=request.param, cases=10)


@pytest.mark.parametrize("base", [10.0, 2.0])
def test_changes_equal_those_of_finished_runs(task_path, tmp_path, base):
    task = tr.load_task(task_path)
    tr.save_source(make_source(task.classes), tmp_path / "source")
    source = tr.load_source(tmp_path / "source")
    students = {}
    for method in ("vanilla", "risk-map"):
        recipe = tr.Recipe(method=method, iterations=3, batch=2, lr=1e-2)
        students[method] = tr.finetune(source, task, recipe, out=tmp_path / method)
    expected = tr.compare([tr.load_run(tmp_path / name) for name in students], base=base).changes
    expected = {(c.run, c.quantity): c for c in expected}
    made = tr.map_changes(source, task, students, base=base)
    assert {(c.run, c.quantity) for c in made} <= set(expected)
    assert len(made) == 2 * (9 + len(task.classes))
    for change in made:
        other = expected[change.run, change.quantity]
        for part in ("before", "after", "difference"):
            mine, theirs = getattr(change, part), getattr(other, part)
            assert mine.cases == theirs.cases
            assert mine.value == pytest.approx(theirs.value, rel=1e-5, abs=1e-7, nan_ok=True)


@pytest.mark.parametrize("other", [("x", "y", "z"), ("b", "y", "z")])
def test_other_classes_leave_dice_unknown_and_nothing_else(task_path, other):
    task = tr.load_task(task_path)
    source = make_source(("background", *other))
    made = tr.map_changes(source, task, {"m": make_source(task.classes, seed=1)})
    unknown = {c.quantity for c in made if math.isnan(c.before.value)}
    assert unknown == {"dice"}
    assert not any(math.isnan(c.after.value) for c in made)


def test_bad_input_is_named(task_path):
    task = tr.load_task(task_path)
    with pytest.raises(ValueError, match="students must name at least one"):
        tr.map_changes(make_source(task.classes), task, {})
