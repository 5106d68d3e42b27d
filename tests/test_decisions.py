"""Decisions: adjusted offsets by hand, tuned ones against brute force and on the cases that they were tuned on."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from blobs import make_source, write_blobs

import transfer_risk as tr
from transfer_risk.decisions import STEPS, _not_reaching, adjusted, tuned
from transfer_risk.evaluation import mean_dice
from transfer_risk.passes import Predictions
from transfer_risk.prediction import decide


@pytest.fixture(scope="module", params=[("a",), ("a", "b", "c")], ids=["2 classes", "4 classes"])
def task(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("blobs")
    return tr.load_task(write_blobs(root, classes=request.param, cases=5))


def trained_a_little(task, seed):
    return tr.pretrain(task, width=2, depth=2, iterations=4, seed=seed, lr=0.02)


def dice_with(source, task, decision, cases):
    return mean_dice(
        tr.evaluate(replace(source, decision=decision), task, cases=cases, distances=False)
    ).value


@pytest.mark.parametrize("seed", range(4))
def test_tuned_offsets_never_lower_dice_on_their_cases(task, seed):
    source, cases = trained_a_little(task, seed), task.split("train")
    decision = tuned(Predictions(source, task, cases, every_slice=True))
    before = dice_with(source, task, tr.Decision(), cases)
    after = dice_with(source, task, decision, cases)
    assert after >= (0 if math.isnan(before) else before) - 1e-12
    assert decision.offsets[0] == 0 and set(decision.offsets) <= set(STEPS)


def test_one_coordinate_equals_brute_force(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, cases=4))
    source, cases = trained_a_little(task, 3), task.split("train")
    decision = tuned(Predictions(source, task, cases, every_slice=True))
    dices = [dice_with(source, task, tr.Decision("tuned", (0.0, s)), cases) for s in STEPS]
    assert dice_with(source, task, decision, cases) == pytest.approx(max(dices), abs=1e-12)
    ties = [abs(s) for s, d in zip(STEPS, dices, strict=True) if d > max(dices) - 1e-12]
    assert abs(decision.offsets[1]) == min(ties)  # the smallest of equal ones


def test_cases_without_a_class_do_not_stop_the_search(tmp_path):
    """A step at which nothing is predicted on an unlabelled case has no Dice there; others have."""

    class Fixed:
        task = tr.Task("t", ("background", "a"), ("T1",), ())
        failed = {}  # noqa: RUF012

        def __iter__(self):
            yield (
                None,
                torch.tensor([[[0.9, 0.6, 0.8], [0.1, 0.4, 0.2]]]),
                torch.tensor([[0, 1, 1]]),
            )
            yield None, torch.tensor([[[0.99, 0.99], [0.01, 0.01]]]), torch.tensor([[0, 0]])

    # 0.2 e^1.5 > 0.8 and 0.1 e^1.5 < 0.9: Dice 1 on the first case, nothing on the second
    assert tuned(Fixed()).offsets == (0.0, 1.5)


def searched(cases, classes):
    """The coordinate search, with Dice from its definition."""

    def mean_dice_of(offsets):
        per_case = []
        for theta, labels in cases:
            own = (np.log(theta) + np.array(offsets)[:, None]).argmax(0)
            found = [
                2 * ((own == c) & (labels == c)).sum() / ((own == c).sum() + (labels == c).sum())
                for c in range(1, classes)
                if (own == c).any() or (labels == c).any()
            ]
            if found:
                per_case.append(np.mean(found))
        return np.mean(per_case) if per_case else 0.0

    offsets = [0.0] * classes
    for _ in range(4):
        before = list(offsets)
        for k in range(1, classes):
            tried = {s: mean_dice_of([*offsets[:k], float(s), *offsets[k + 1 :]]) for s in STEPS}
            best = max(tried.values())
            if best > tried[offsets[k]] + 1e-12:
                equal = [s for s, d in tried.items() if d > best - 1e-12]
                offsets[k] = float(min(equal, key=abs))
        if offsets == before:
            break
    return tuple(offsets)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_the_search_over_several_classes_equals_one_by_the_definition(seed, classes):
    rng = np.random.default_rng([seed, classes])
    cases = []
    for _ in range(3):
        labels = rng.integers(0, classes, 80)
        logits = rng.normal(size=(classes, 80)) + rng.normal(size=(classes, 1))
        logits[labels, np.arange(80)] += 1
        theta = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
        cases.append((theta, labels))
    names = ("background", "a", "b", "c")[:classes]

    class Drawn:
        task = tr.Task("t", names, ("T1",), ())
        failed = {}  # noqa: RUF012

        def __iter__(self):
            for theta, labels in cases:
                yield None, torch.from_numpy(theta)[None], torch.from_numpy(labels)[None]

    made = tuned(Drawn()).offsets
    assert made == searched(cases, classes) and any(made)


def test_cases_without_foreground_and_without_a_prediction_move_nothing():
    class Empty:
        task = tr.Task("t", ("background", "a"), ("T1",), ())
        failed = {}  # noqa: RUF012

        def __iter__(self):
            yield None, torch.tensor([[[0.9, 0.6], [0.1, 0.4]]]), torch.tensor([[0, 0]])

    assert tuned(Empty()).offsets == (0.0, 0.0)


def test_no_usable_case_is_an_error(task):
    source = make_source(task.classes)
    broken = replace(task.cases[0], label=None)
    with pytest.raises(ValueError, match="has no label file"):
        tuned(Predictions(source, task, [broken]))


def test_adjusted_with_equal_weights_is_argmax():
    decision = adjusted(torch.full((4,), 2.5, dtype=torch.float64))
    assert decision == tr.Decision("adjusted", (0.0,) * 4)
    theta = np.random.default_rng(0).dirichlet(np.ones(4), 500).T.astype(np.float32)
    source = make_source(("background", "a", "b", "c"))
    plain, shifted = (decide(replace(source, decision=d), theta) for d in (tr.Decision(), decision))
    np.testing.assert_array_equal(plain, shifted)


def test_adjusted_subtracts_the_logarithm_of_the_mean_weight():
    made = adjusted(torch.tensor([0.5, 5.0, math.nan], dtype=torch.float64))
    assert made.offsets == pytest.approx((0.0, -math.log(10), 0.0), abs=1e-6)
    absent = adjusted(torch.tensor([math.nan, 2.0, 4.0], dtype=torch.float64))
    assert np.isfinite(absent.offsets).all()
    assert absent.offsets[1] - absent.offsets[2] == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_step_that_reaches_a_class_is_that_of_the_decision_itself(seed):
    """Level and all but level with a step, where a quotient is rounded to the other side."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.from_numpy(np.exp(STEPS.astype(np.float32)))
    own = torch.rand(50_000, generator=rng)
    rest = own * steps[torch.randint(len(steps), own.shape, generator=rng)]
    rest[::3] = torch.nextafter(rest[::3], torch.tensor(torch.inf))
    rest[1::3] = torch.nextafter(rest[1::3], torch.tensor(0.0))
    own[:99], rest[99:199] = 0, 0
    first = torch.rand(own.shape, generator=rng) < 0.5
    wanted = torch.zeros(own.shape, dtype=torch.int64)
    for step in steps:
        value = own * step
        wanted += ~((value > rest) | ((value == rest) & first))
    assert torch.equal(_not_reaching(own, rest, first), wanted)


def test_only_a_source_of_the_classes_of_the_task_has_its_decision_tuned(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("a", "b"), cases=4))
    for classes in (("background", "b", "a"), ("background", "a")):
        words = (
            r"must have the classes of task blobs in their order, \['background', 'a', 'b'\].* got"
        )
        with pytest.raises(ValueError, match=words):
            tr.tune_decision(make_source(classes), task)
