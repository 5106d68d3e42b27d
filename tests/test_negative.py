"""Negative transfer: ranks from counts against loops over voxels, laws, and the whole pass against one by hand."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from blobs import make_source, write_blobs
from scipy.stats import mannwhitneyu

import transfer_risk as tr
from transfer_risk.evaluation import mean_dice, segmented
from transfer_risk.harm import BANDS
from transfer_risk.mapstats import distance_to_boundary
from transfer_risk.outcomes import BINS, BOTH_WRONG, GAINED, LOST, WRONG, Outcomes


def slow_auroc(sizes, events, strata=None):
    """Each event against all other voxels, of its stratum where they are given."""
    wins = pairs = 0
    strata = np.zeros(len(sizes)) if strata is None else strata
    for p in np.flatnonzero(events):
        others = sizes[~events & (strata == strata[p])]
        wins += (sizes[p] > others).sum() + 0.5 * (sizes[p] == others).sum()
        pairs += len(others)
    return wins / pairs


def largest_error(outcomes, events):
    """Half the share of the pairs that have both voxels in one bin."""
    above = outcomes.by_size(events)
    below = outcomes.by_size(range(4)) - above
    return float(above @ below) / (above.sum() * below.sum()) / 2


def slow_deciles(sizes, events):
    """Tenths of a number of voxels that can be divided by ten, none of them tied."""
    return events[np.argsort(sizes)].reshape(10, -1).mean(1)


def counted(sizes, outcomes, strata=None):
    strata = np.zeros(len(sizes), dtype=int) if strata is None else strata
    return Outcomes.of(sizes, strata, outcomes)


@pytest.fixture(params=range(4))
def voxels(request):
    """Sizes with many ties, strata, outcomes."""
    rng = np.random.default_rng(request.param)
    strata = rng.integers(0, 3, 300)
    sizes = rng.integers(0, 40, 300) / 8 + strata
    chances = np.array([[0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2]])
    outcomes = np.array([rng.choice(4, p=chances[int(s > 4)]) for s in sizes])
    return sizes, strata, outcomes


@pytest.mark.parametrize("events", [[LOST], [GAINED], WRONG])
def test_auroc_equals_the_loop_and_scipy(voxels, events):
    sizes, strata, outcomes = voxels
    made, is_event = counted(sizes, outcomes, strata), np.isin(outcomes, events)
    assert made.auroc(events) == pytest.approx(slow_auroc(sizes, is_event), abs=1e-12)
    test = mannwhitneyu(sizes[is_event], sizes[~is_event])
    pairs = is_event.sum() * (~is_event).sum()
    assert made.auroc(events) == pytest.approx(test.statistic / pairs, abs=1e-12)
    matched = slow_auroc(sizes, is_event, strata)
    assert made.auroc_matched(events) == pytest.approx(matched, abs=1e-12)


def test_auroc_of_two_outcomes_leaves_the_others_out(voxels):
    sizes, _, outcomes = voxels
    moved = np.isin(outcomes, [LOST, GAINED])
    expected = slow_auroc(sizes[moved], outcomes[moved] == LOST)
    assert counted(sizes, outcomes).auroc([LOST], [GAINED]) == pytest.approx(expected, abs=1e-12)


def test_the_error_of_the_bins_is_what_is_stated():
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(-6, 4, 20_000)).astype(np.float32)
    outcomes = np.where(rng.random(20_000) < 0.1 + 0.02 * np.log(sizes).clip(-4, 4), LOST, 0)
    made, lost = counted(sizes, outcomes), outcomes == LOST
    exact = mannwhitneyu(sizes[lost], sizes[~lost]).statistic / (lost.sum() * (~lost).sum())
    assert abs(made.auroc([LOST]) - exact) <= largest_error(made, [LOST]) < 2e-5


def test_bins_are_finer_than_what_is_stated():
    sizes = 1.00007 ** np.arange(-230_000, 79_000)  # 1e-7 to 250
    assert counted(sizes, np.zeros(len(sizes), dtype=int)).counts.max() == 1
    ends = np.array([0.0, -0.0, 1e-9, 2.0**-24, 2.0**8, 1e4, np.inf])
    filled = counted(ends, np.zeros(7, dtype=int)).by_size([0])
    assert np.flatnonzero(filled).tolist() == [0, 1, BINS - 1] and filled[[0, 1, -1]].tolist() == [
        3,
        1,
        3,
    ]


def test_a_constant_says_nothing(voxels):
    _, strata, outcomes = voxels
    made = counted(np.full(300, 0.7), outcomes, strata)
    assert made.auroc([LOST]) == 0.5 and made.auroc_matched([LOST]) == 0.5
    np.testing.assert_allclose(made.deciles([LOST]), made.share([LOST]))


def test_monotone_maps_of_the_sizes_change_nothing(voxels):
    sizes, strata, outcomes = voxels
    made = counted(sizes, outcomes, strata)
    for mapped in (sizes**2, 3 * sizes + 1, np.expm1(sizes / 2)):
        other = counted(mapped, outcomes, strata)
        assert other.auroc([LOST]) == made.auroc([LOST])
        assert other.auroc_matched([LOST]) == made.auroc_matched([LOST])
        np.testing.assert_array_equal(other.deciles([LOST]), made.deciles([LOST]))


def test_turning_the_events_round_gives_one_minus_auroc(voxels):
    sizes, _, outcomes = voxels
    made = counted(sizes, outcomes)
    assert made.auroc([LOST]) == pytest.approx(1 - made.auroc([0, GAINED, BOTH_WRONG]))


def test_deciles_equal_the_loop_and_hold_equal_shares(voxels):
    rng = np.random.default_rng(1)
    sizes = rng.permutation(1.005 ** np.arange(-600, 400))
    outcomes = np.where(rng.random(1000) < sizes / 10, LOST, GAINED)
    made = counted(sizes, outcomes).deciles([LOST])
    np.testing.assert_allclose(made, slow_deciles(sizes, outcomes == LOST), atol=1e-12)
    sizes, strata, outcomes = voxels
    tied = counted(sizes, outcomes, strata)
    everything = tied.deciles(range(4))
    np.testing.assert_allclose(everything, 1)
    assert tied.deciles([LOST]).mean() == pytest.approx(tied.share([LOST]))


def test_by_hand():
    sizes = np.array([0.0, 0.0, 1.0, 2.0, 3.0])
    outcomes = np.array([0, LOST, GAINED, LOST, 0])
    made = counted(sizes, outcomes)
    assert made.auroc([LOST]) == 2.5 / 6  # lost at 0 ties one of three; lost at 2 is above two
    assert made.share([LOST]) == 0.4 and made.share([GAINED]) == 0.2
    np.testing.assert_allclose(made.deciles([LOST]), [0.5] * 4 + [0, 0, 1, 1, 0, 0])


def test_counts_of_cases_add_and_strata_part(voxels):
    sizes, strata, outcomes = voxels
    whole = counted(sizes, outcomes, strata)
    parts = [counted(sizes[p], outcomes[p], strata[p]) for p in np.array_split(np.arange(300), 7)]
    total = sum(parts, Outcomes.none())
    np.testing.assert_array_equal(total.cells, whole.cells)
    np.testing.assert_array_equal(total.counts, whole.counts)
    chosen = strata != 1
    assert whole.within([0, 2]).voxels == chosen.sum()
    expected = slow_auroc(sizes[chosen], outcomes[chosen] == LOST)
    assert whole.within([0, 2]).auroc([LOST]) == pytest.approx(expected, abs=1e-12)


def test_without_events_there_is_nothing_to_tell():
    made = counted(np.array([1.0, 2.0]), np.array([0, GAINED]))
    assert math.isnan(made.auroc([LOST])) and math.isnan(made.auroc_matched([LOST]))
    assert made.share([LOST]) == 0 and made.deciles([LOST]).tolist() == [0] * 10
    nothing = Outcomes.none()
    assert math.isnan(nothing.share([LOST])) and np.isnan(nothing.deciles([LOST])).all()


@pytest.mark.parametrize("value", [-0.5, math.nan])
def test_sizes_must_be_known_and_not_negative(value):
    with pytest.raises(ValueError, match=rf"sizes must be at least 0; got {value}; give -T"):
        counted(np.array([1.0, value]), np.array([0, 0]))


# The whole pass, on blobs.


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tr.load_task(write_blobs(tmp_path_factory.mktemp("blobs"), classes=("a", "b")))


CLASSES = ("background", "a", "b")


@pytest.fixture(scope="module")
def models():
    """A source of other classes, and two models of the task of which one has a decision of its own."""
    source = make_source(("background", "x", "y", "z"), seed=1)
    source.network.head.weight.data *= 30  # or its maps are flat
    scratch = make_source(CLASSES, seed=5)
    offsets = tr.Decision("tuned", (0.0, 0.25, -0.25))
    return source, replace(make_source(CLASSES, seed=3), decision=offsets), scratch


@pytest.fixture(scope="module")
def made(task, models):
    source, student, scratch = models
    return tr.negative_transfer(source, task, student=student, scratch=scratch)


@pytest.fixture(scope="module")
def table(task, models):
    """One row per voxel that counts, from maps, predictions and distances."""
    source, *two = models
    rows = []
    for case in task.split("test"):
        first, second = (next(segmented(m, task, [case])) for m in two)
        labels, size = first.labels, -tr.risk_maps(source, task)[case.id].transferability[0]
        distance = distance_to_boundary(labels, first.spacing)
        for p in map(tuple, np.argwhere(~np.isnan(size.numpy())).tolist()):
            band = min(math.ceil(distance[p] / min(first.spacing) - 1e-6), BANDS - 1)
            wrong = [bool(model.predicted[p] != labels[p]) for model in (first, second)]
            rows.append((float(size[p]), int(labels[p]), *wrong, distance[p], band))
    return pd.DataFrame(rows, columns=["size", "label", "student", "scratch", "distance", "band"])


SCOPES = {"all": (0, 1, 2), "background": (0,), "foreground": (1, 2), "a": (1,), "b": (2,)}


def test_shares_equal_the_loop(made, table):
    rows = {row["scope"]: row for row in made.rows()}
    assert list(rows) == list(SCOPES)
    for name, classes in SCOPES.items():
        own, row = table[table.label.isin(classes)], rows[name]
        assert row["voxels"] == len(own)
        assert row["lost"] == (own.student & ~own.scratch).mean()
        assert row["gained"] == (~own.student & own.scratch).mean()
        assert row["wrong"] == pytest.approx(own.student.mean())
        change = own.student.mean() - own.scratch.mean()
        assert row["lost"] - row["gained"] == pytest.approx(change)
        deciles = [row[f"decile_{k}"] for k in range(1, 11)]
        assert np.mean(deciles) == pytest.approx(row["lost"])


def test_auroc_equals_the_loop_within_the_stated_error(made, table):
    lost, gained = table.student & ~table.scratch, ~table.student & table.scratch
    assert lost.any() and gained.any()
    events = {"auroc": ([LOST], lost), "auroc_gained": ([GAINED], gained)}
    events["auroc_wrong"] = (WRONG, table.student)
    for row in made.rows():
        classes = SCOPES[row["scope"]]
        own = table.label.isin(classes)
        risk = made.transferability.within([k * BANDS + b for k in classes for b in range(BANDS)])
        for quantity, (outcomes, happened) in events.items():
            if happened[own].any() and not happened[own].all():
                exact = slow_auroc(table["size"][own].to_numpy(), happened[own].to_numpy())
                assert abs(row[quantity] - exact) <= largest_error(risk, outcomes) + 1e-12
            else:
                assert math.isnan(row[quantity])
        if lost[own].any():
            near = slow_auroc(-table.distance[own].to_numpy(), lost[own].to_numpy())
            assert row["auroc_boundary"] == pytest.approx(near, abs=1e-12)
            strata = (table.label * BANDS + table.band)[own].to_numpy()
            matched = slow_auroc(table["size"][own].to_numpy(), lost[own].to_numpy(), strata)
            assert row["auroc_matched"] == pytest.approx(matched, abs=2e-3)


def test_dice_is_that_of_evaluate(task, models, made):
    dice = [mean_dice(tr.evaluate(m, task, distances=False)) for m in models[1:]]
    assert made.student.value == dice[0].value and made.scratch.value == dice[1].value
    np.testing.assert_array_equal(made.difference.influence, (dice[0] - dice[1]).influence)


def test_models_change_places(task, models, made):
    source, student, scratch = models
    other = tr.negative_transfer(source, task, student=scratch, scratch=student)
    for a, b in zip(made.rows(), other.rows(), strict=True):
        assert a["lost"] == b["gained"] and a["gained"] == b["lost"]
        np.testing.assert_equal(a["auroc"], b["auroc_gained"])
        assert a["auroc_lost_gained"] == pytest.approx(1 - b["auroc_lost_gained"], nan_ok=True)
    assert made.difference.value == -other.difference.value


def test_a_model_beside_itself_loses_nothing(task, models):
    source, student, _ = models
    made = tr.negative_transfer(source, task, student=student, scratch=student)
    for row in made.rows():
        assert row["lost"] == row["gained"] == 0 and math.isnan(row["auroc"])
        assert math.isnan(row["auroc_boundary"])
    assert made.rows()[0]["wrong"] > 0 and not math.isnan(made.rows()[0]["auroc_wrong"])
    assert made.difference.value == 0


def test_only_models_of_the_task_are_compared(task, models):
    source, student, scratch = models
    with pytest.raises(
        ValueError, match=r"student must have the classes of task .*; source has .*'z'"
    ):
        tr.negative_transfer(source, task, student=source, scratch=scratch)
    other = replace(student, classes=("background", "b", "z"))  # b is b: z is no class of the task
    with pytest.raises(ValueError, match=r"student must have the classes of task"):
        tr.negative_transfer(source, task, student=other, scratch=scratch)
    tuned = replace(scratch, trained={"source": "csf-t1"})
    with pytest.raises(
        ValueError, match=r"scratch must have been trained from random.*from csf-t1"
    ):
        tr.negative_transfer(source, task, student=student, scratch=tuned)
    case = task.split("test")[0].id
    seen = replace(scratch, trained={"dataset": "Dataset001_Blobs", "cases": [case]})
    with pytest.raises(
        ValueError, match=rf"scratch must not .* measured case; source was on {case}"
    ):
        tr.negative_transfer(source, task, student=student, scratch=seen)
    elsewhere = replace(seen, trained={"dataset": "Dataset002_Other", "cases": [case]})
    assert tr.negative_transfer(source, task, student=student, scratch=elsewhere).rows()


def test_a_case_that_cannot_be_used_is_named(task, models):
    source, student, scratch = models
    broken = replace(task.split("test")[0], label=None)
    with pytest.raises(ValueError, match=f"case {broken.id}: has no label file"):
        tr.negative_transfer(source, task, student=student, scratch=scratch, cases=[broken])
