"""Cases of one patient: nothing is left out by halves, and intervals are over patients."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from blobs import make_source, write_blobs

import transfer_risk as tr
from transfer_risk import probing
from transfer_risk.comparison import Change, Contrast
from transfer_risk.doctor.division import _sides
from transfer_risk.evaluation import mean_dice
from transfer_risk.imagefiles import note_of
from transfer_risk.intervals import Estimate
from transfer_risk.overlaps import best_threshold_bins, shared_by_groups
from transfer_risk.passes import Predictions
from transfer_risk.summaries import _contrast_cells, with_interval
from transfer_risk.tables import group_sums
from transfer_risk.transferability import others_of
from transfer_risk.transfermaps import transferability_maps
from transfer_risk.verdicts import change_sentence

GROUPS = ("p", "q", "p", "r", "q", "p")


def grouped(task, scans):
    """The task with each case `scans` times, all scans of a case one group."""
    cases = [replace(c, id=f"{c.id}-{k}", group=c.id) for c in task.cases for k in range(scans)]
    test = tuple(c.id for c in cases if c.group in task.test)
    return replace(task, cases=tuple(cases), test=test)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("groups"), classes=("a", "b")))


@pytest.fixture(scope="module")
def source():
    return make_source(("background", "a", "b"))


def test_influences_of_a_group_are_added_up():
    rng = np.random.default_rng(0)
    values = rng.normal(size=6)
    made = Estimate.mean(values, groups=GROUPS)
    sums = [sum(made.influence[k] for k in range(6) if GROUPS[k] == g) for g in "pqr"]
    assert made.units == 3 and made.cases == 6
    assert made.standard_error == pytest.approx(np.sqrt(3 / 2 * sum(s**2 for s in sums)))
    assert made.value == pytest.approx(values.mean())


@pytest.mark.parametrize("seed", range(5))
def test_saying_everything_twice_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    values, others = rng.normal(size=(2, 5))
    values[0] = np.nan if seed == 4 else values[0]
    names = [f"p{k}" for k in range(5)]
    once = Estimate.mean(values), Estimate.mean(others)
    twice = tuple(Estimate.mean(np.tile(v, 2), groups=names + names[::1]) for v in (values, others))
    for a, b in (*zip(once, twice, strict=True), (once[0] - once[1], twice[0] - twice[1])):
        assert b.value == pytest.approx(a.value)
        assert b.interval() == pytest.approx(a.interval())
        assert b.p_value == pytest.approx(a.p_value)


def test_one_group_has_no_interval():
    made = Estimate.mean([0.2, 0.4], groups=("p", "p"))
    assert np.isnan(made.interval()).all() and np.isnan(made.p_value)


def test_sums_over_a_group_and_classes_of_several():
    values = np.random.default_rng(1).integers(0, 9, (6, 2, 3)).astype(float)
    made = group_sums(values, GROUPS)
    for k in range(6):
        np.testing.assert_array_equal(
            made[k], sum(values[j] for j in range(6) if GROUPS[j] == GROUPS[k])
        )
    np.testing.assert_array_equal(group_sums(values, ()), values)
    labelled = np.zeros((6, 3))
    labelled[[0, 2], 1] = 5  # of p alone
    labelled[[0, 1], 2] = 5  # of p and q
    assert shared_by_groups(labelled, GROUPS).tolist() == [False, False, True]
    assert shared_by_groups(labelled, ()).tolist() == [False, True, True]


def test_thresholds_come_from_the_other_groups():
    histograms = np.random.default_rng(0).integers(0, 9, (6, 2, 2, 8)).astype(float)
    bins = best_threshold_bins(histograms, GROUPS)
    for case in range(6):
        for k in range(2):
            pooled = sum(histograms[c, k] for c in range(6) if GROUPS[c] != GROUPS[case])
            scores = [
                2 * pooled[1, b:].sum() / (pooled[:, b:].sum() + pooled[1].sum()) for b in range(8)
            ]
            assert bins[case, k] == int(np.argmax(scores))


def test_the_others_are_those_of_other_groups():
    rng = np.random.default_rng(2)
    joints = [tr.Joint(torch.from_numpy(rng.random((2, 3)))) for _ in GROUPS]
    for k, made in enumerate(others_of(joints, GROUPS)):
        expected = sum(j.counts for j, g in zip(joints, GROUPS, strict=True) if g != GROUPS[k])
        torch.testing.assert_close(made.counts, expected)
    total = sum(j.counts for j in joints)
    for made in others_of(joints, ["p"] * 6):
        torch.testing.assert_close(made.counts, total)


def test_a_second_scan_of_everyone_is_no_new_information(task, source):
    once, twice = tr.score(source, task), tr.score(source, grouped(task, 2))
    assert len(twice.cases) == 2 * len(once.cases)
    for name, own in once.estimates.items():
        other = twice.estimates[name]
        if name.startswith("leep_loo"):  # frequencies are smoothed by one pixel
            assert other.value == pytest.approx(own.value, rel=1e-3)
            continue
        assert other.value == pytest.approx(own.value, rel=1e-9, nan_ok=True), name
        assert other.interval() == pytest.approx(own.interval(), rel=1e-9, nan_ok=True), name
    said = f"{len(twice.cases)} cases of {len(once.cases)} groups"
    assert any(said in w for w in twice.warnings) and not any("groups" in w for w in once.warnings)


def test_without_groups_a_second_scan_would_have_told_the_threshold(task, source):
    twice = grouped(task, 2)
    loose = replace(twice, cases=tuple(replace(c, group="") for c in twice.cases))
    names = ("leep", "eep_dice")
    apart, together = (tr.score(source, t).estimates for t in (loose, twice))
    for name in names:
        low, high = apart[name].interval()
        wide = together[name].interval()
        assert high - low < wide[1] - wide[0]


def test_all_scans_of_one_patient_leave_nothing_out(task, source):
    cases = tuple(replace(c, group="p") for c in task.cases)
    made = tr.score(source, replace(task, cases=cases))
    assert np.isnan(made.estimates["leep_loo"].value) and np.isnan(made.estimates["eep_dice"].value)
    assert np.isnan(made.estimates["leep"].interval()).all()
    assert any("cases of one group; no interval, nothing left out" in w for w in made.warnings)


def test_a_patient_is_mapped_on_the_joint_of_the_others(task, source):
    cases = tuple(replace(c, group=g) for c, g in zip(task.cases, GROUPS, strict=True))
    own = replace(task, cases=cases)
    made = {c.id: v for c, v in transferability_maps(Predictions(source, own, cases))}
    joints = {
        c.id: tr.Joint.of(theta, labels, 3) for c, theta, labels in Predictions(source, own, cases)
    }
    for case, theta, labels in Predictions(source, own, cases):
        rest = [joints[c.id] for c in cases if c.group != case.group]
        joint = tr.Joint(sum(j.counts for j in rest))
        expected = tr.log_expected_prediction(theta, labels, joint, smoothed=True)[0]
        values = made[case.id][0].numpy()
        np.testing.assert_allclose(values[~np.isnan(values)], expected.numpy(), rtol=1e-5)


def test_the_probe_divides_no_patient(task, source, monkeypatch):
    seen = []
    collect = probing.collect

    def spy(source, cases, *rest, **named):
        seen.append({c.unit for c in cases})
        return collect(source, cases, *rest, **named)

    monkeypatch.setattr(probing, "collect", spy)
    twice = grouped(task, 2)
    probing.probe_scores(source, twice, twice.split("train"))
    first, second = seen
    assert first and second and not first & second
    alone = [replace(c, group="p") for c in task.cases[:3]]
    with pytest.raises(ValueError, match="at least 2 groups of cases; got 1"):
        probing.probe_scores(source, task, alone)


def test_runs_are_compared_over_patients():
    before, after = np.random.default_rng(3).random((2, 4))
    names = ["p0", "p1", "p2", "p3"]
    once = Change.of("r", "dice", before, after)
    twice = Change.of("r", "dice", np.tile(before, 2), np.tile(after, 2), names * 2)
    assert twice.difference.interval() == pytest.approx(once.difference.interval())
    told = change_sentence("r", np.tile(after - before, 2), names * 2)
    assert told.partition("(")[2] == change_sentence("r", after - before).partition("(")[2]


def test_another_unit_keeps_groups_and_everything_else():
    values = np.random.default_rng(5).random(6)
    share = Estimate.mean(values, bounds=(0.0, 1.0), groups=GROUPS)
    points = share.scaled(100)
    assert points.groups == share.groups and points.bounds == (0.0, 100.0)
    assert points.value == pytest.approx(100 * share.value)
    assert points.interval() == pytest.approx(tuple(100 * end for end in share.interval()))
    assert points.p_value == pytest.approx(share.p_value)


def test_the_table_of_runs_against_each_other_is_over_patients(task):
    scans = grouped(task, 3)
    first, second = np.random.default_rng(6).random((2, len(scans.cases)))
    groups = [c.group for c in scans.cases]
    dice = Estimate.mean(second - first, bounds=(-1.0, 1.0), groups=groups)
    contrast = Contrast("one", "two", dice, math.nan, math.nan)
    _, _, told, p, *_ = _contrast_cells(contrast)
    low, high = (100 * end for end in dice.interval())
    assert told == f"{100 * dice.value:+.1f} [{low:+.1f}, {high:+.1f}]"
    assert p == f"{dice.p_value:.3f}"


def test_mean_dice_is_over_patients(task, source):
    rows = tr.evaluate(source, task, cases=task.cases, distances=False)
    alone, patients, one = (
        mean_dice(rows, [replace(c, group=g) for c, g in zip(task.cases, groups, strict=True)])
        for groups in ([""] * 6, GROUPS, "pppppp")
    )
    assert mean_dice(rows).interval() == alone.interval() and mean_dice(rows).units == 6
    assert patients.value == alone.value == one.value
    assert patients.units == 3 and patients.groups == GROUPS
    assert one.units == 1 and np.isnan(one.interval()).all()
    assert with_interval(one) == f"{one.value:.3f} (one patient: no interval)"
    assert with_interval(mean_dice(rows[:2])).endswith("(one case: no interval)")


def test_models_without_a_run_are_compared_over_patients(task, source):
    cases = tuple(replace(c, group=g) for c, g in zip(task.cases, GROUPS, strict=True))
    own = replace(task, cases=cases, test=tuple(c.id for c in cases[3:]))
    student = make_source(task.classes, seed=1)
    for change in tr.map_changes(source, own, {"m": student}):
        assert change.difference.groups == GROUPS[3:]
    made = tr.negative_transfer(source, own, student=student, scratch=source)
    assert made.student.groups == made.difference.groups == GROUPS[3:]


@pytest.mark.parametrize(
    ("groups", "in_sample", "said"),
    [
        (GROUPS, False, "joint of the other cases"),
        ("pppppp", False, "in-sample joint of 6 cases"),
        (GROUPS, True, "in-sample joint of 6 cases"),
    ],
)
def test_maps_of_one_patient_say_that_they_are_in_sample(
    task, source, tmp_path, groups, in_sample, said
):
    cases = tuple(replace(c, group=g) for c, g in zip(task.cases, groups, strict=True))
    paths, failed = tr.write_maps(
        source, replace(task, cases=cases), tmp_path, cases=cases, in_sample=in_sample
    )
    assert not failed and len(paths) == 12
    assert {note_of(path) for path in paths} == {f"source: {said}"}


def test_doctor_counts_patients(task):
    cases = tuple(replace(c, group="p" if c.id in task.test else c.id) for c in task.cases)
    (one,) = (f for f in _sides(replace(task, cases=cases)) if "patient" in f.found)
    assert one.severity == "warning" and "one test case or patient" in one.found
    assert not [f for f in _sides(task) if "patient" in f.found]
