"""Joint, map and scores against pixel-by-pixel loops; laws over random cases."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import transfer_risk as tr
from transfer_risk import transferability
from transfer_risk.tables import leep_floor
from transfer_risk.transferability import (
    Joint,
    check_batch,
    expected_prediction,
    hard_counts,
    leep,
    likelihood_table,
    log_expected_prediction,
    nce,
)

SEEDS = range(20)
SHAPES = [(2, 6, 5), (1, 7, 8), (3, 3, 4, 3), (2, 4, 2, 5), (4, 9)]
MAP_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
SCORE_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-6}


class Case(NamedTuple):
    probabilities: torch.Tensor
    labels: torch.Tensor
    num_classes: int


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(seed, dtype=torch.float64):
    """2-5 source and 2-4 target classes, ignored pixels; every third case lacks a class."""
    generator = torch.Generator().manual_seed(seed)
    shape = SHAPES[seed % len(SHAPES)]
    sources, classes = 2 + seed % 4, 2 + seed % 3
    logits = 2 * torch.randn(shape[0], sources, *shape[1:], generator=generator, dtype=dtype)
    present = classes - (seed % 3 == 1)
    labels = torch.randint(-1, present, shape, generator=generator)
    return Case(logits.softmax(1), labels, classes)


def pixels_of(case):
    """Index, source probabilities and label of every pixel that counts; plain Python numbers."""
    theta = case.probabilities.movedim(1, -1)
    for index in itertools.product(*[range(n) for n in case.labels.shape]):
        label = case.labels[index].item()
        if label >= 0:
            yield index, theta[index].tolist(), label


def slow_joint(case):
    table = [[0.0] * case.probabilities.shape[1] for _ in range(case.num_classes)]
    for _, theta, label in pixels_of(case):
        for z, value in enumerate(theta):
            table[label][z] += value
    return table


def slow_conditional(table, smoothed=False):
    classes, sources = len(table), len(table[0])
    result = [[0.0] * sources for _ in range(classes)]
    for z in range(sources):
        mass = sum(row[z] for row in table)
        for y in range(classes):
            if smoothed:
                result[y][z] = (table[y][z] + 1 / classes) / (mass + 1)
            elif mass > 0:
                result[y][z] = table[y][z] / mass
    return result


def slow_map(case, conditional):
    result = torch.full(case.labels.shape, math.nan, dtype=torch.float64)
    for index, theta, label in pixels_of(case):
        chance = sum(p * t for p, t in zip(conditional[label], theta, strict=True))
        result[index] = math.log(chance) if chance > 0 else -math.inf
    return result


def slow_leep(case):
    values = slow_map(case, slow_conditional(slow_joint(case)))
    known = [v for v in values.flatten().tolist() if not math.isnan(v)]
    return math.fsum(known) / len(known)


def slow_nce(case):
    pairs = [(y, max(range(len(t)), key=t.__getitem__)) for _, t, y in pixels_of(case)]
    total = 0.0
    for pair in pairs:
        source = [p for p in pairs if p[1] == pair[1]]
        total += math.log(source.count(pair) / len(source))
    return total / len(pairs)


def class_counts(case):
    return torch.bincount(case.labels[case.labels >= 0], minlength=case.num_classes)


def in_sample_map(case):
    return log_expected_prediction(case.probabilities, case.labels, Joint.of(*case))


# parity with loops


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_joint_equals_loop(seed, dtype):
    case = make_case(seed, dtype)
    counts = Joint.of(*case).counts
    expected = torch.tensor(slow_joint(case), dtype=torch.float64)
    assert counts.dtype == torch.float64
    assert_close(counts, expected, rtol=SCORE_TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_conditional_equals_loop(seed, smoothed):
    case = make_case(seed)
    joint = Joint.of(*case)
    expected = slow_conditional(slow_joint(case), smoothed)
    actual = joint.smoothed if smoothed else joint.conditional
    assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_map_equals_loop(seed, dtype):
    case = make_case(seed, dtype)
    actual = in_sample_map(case)
    expected = slow_map(case, slow_conditional(slow_joint(case)))
    assert actual.dtype == dtype
    tolerance = MAP_TOLERANCE[dtype]
    assert_close(actual.double(), expected, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_smoothed_map_of_unseen_case_equals_loop(seed, dtype):
    case, other = make_case(seed, dtype), make_case(seed + 60, dtype)  # the same shape and classes
    table = slow_conditional(slow_joint(other), smoothed=True)
    options = {"joint": Joint.of(*other), "smoothed": True}
    actual = log_expected_prediction(case.probabilities, case.labels, **options)
    expected = slow_map(case, table)
    assert bool(torch.isfinite(actual[case.labels >= 0]).all())
    tolerance = MAP_TOLERANCE[dtype]
    assert_close(actual.double(), expected, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_leep_equals_loop(seed, dtype):
    case = make_case(seed, dtype)
    assert leep(*case) == pytest.approx(slow_leep(case), rel=SCORE_TOLERANCE[dtype], abs=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_nce_equals_loop(seed, dtype):
    case = make_case(seed, dtype)
    assert nce(*case) == pytest.approx(slow_nce(case), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_hard_counts_equal_loop(seed):
    case = make_case(seed)
    expected = torch.zeros(case.num_classes, case.probabilities.shape[1], dtype=torch.float64)
    for _, theta, label in pixels_of(case):
        expected[label, theta.index(max(theta))] += 1
    assert_close(hard_counts(*case), expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_likelihood_table_equals_loop(seed, dtype):
    case = make_case(seed, dtype)
    conditional = slow_conditional(slow_joint(case))
    expected = torch.zeros(case.num_classes, case.probabilities.shape[1], dtype=torch.float64)
    for _, theta, label in pixels_of(case):
        chance = sum(p * t for p, t in zip(conditional[label], theta, strict=True))
        expected[label] += torch.tensor(theta, dtype=torch.float64) / chance
    actual = likelihood_table(case.probabilities, case.labels, Joint.of(*case))
    assert actual.dtype == torch.float64
    assert_close(actual, expected, rtol=SCORE_TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_expected_prediction_is_a_distribution_that_holds_the_map(seed):
    case = make_case(seed)
    joint = Joint.of(*case)
    predicted = expected_prediction(case.probabilities, joint.conditional)
    shape = case.labels.shape
    assert predicted.shape == (shape[0], case.num_classes, *shape[1:])
    ones = torch.ones(shape, dtype=torch.float64)
    assert_close(predicted.sum(1), ones, rtol=0, atol=1e-9)
    own = predicted.gather(1, case.labels.clamp(min=0).unsqueeze(1)).squeeze(1).log()
    own[case.labels < 0] = math.nan
    assert_close(in_sample_map(case), own, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("sources", [2, 40])
def test_images_longer_than_a_run_equal_one_product(sources, monkeypatch):
    monkeypatch.setattr(transferability, "RUN", 1)  # runs of 4096 pixels, the least
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, sources, 3, 41, 79, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 3, (2, 3, 41, 79), generator=generator)
    theta = logits.softmax(1)
    hot = torch.stack([labels == y for y in range(3)]).double()
    counts = torch.einsum("ybijk,bzijk->yz", hot, theta)
    joint = Joint.of(theta, labels, 3)
    assert_close(joint.counts, counts, rtol=1e-9, atol=0)
    predicted = torch.einsum("yz,bzijk->ybijk", counts / counts.sum(0), theta)
    expected = (predicted * hot).sum(0).log()
    expected[labels < 0] = math.nan
    actual = log_expected_prediction(theta, labels, joint)
    assert_close(actual, expected, rtol=0, atol=1e-9, equal_nan=True)
    weights = hot / predicted
    table = torch.einsum("ybijk,bzijk->yz", weights, theta)
    assert_close(likelihood_table(theta, labels, joint), table, rtol=1e-9, atol=0)


# influence of a case


def weighted_leep(cases, weights):
    """LEEP of cases whose pixels count `weight` times, from its definition."""
    joints = [Joint.of(*case).counts for case in cases]
    total = Joint(sum(w * j for w, j in zip(weights, joints, strict=True)))
    maps = [log_expected_prediction(case.probabilities, case.labels, total) for case in cases]
    sums = [float(values.nansum()) for values in maps]
    sizes = [int((case.labels >= 0).sum()) for case in cases]
    score = sum(w * s for w, s in zip(weights, sums, strict=True))
    return score / sum(w * n for w, n in zip(weights, sizes, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_influence_formula_equals_numerical_derivative(seed):
    cases = [make_case(seed + 60 * i) for i in range(4)]
    joints = [Joint.of(*case) for case in cases]
    joint = sum(joints[1:], joints[0])
    mass = joint.counts.sum(0)
    table = torch.zeros_like(joint.counts)
    for case in cases:
        table += likelihood_table(case.probabilities, case.labels, joint)
    pixels = sum(int((case.labels >= 0).sum()) for case in cases)
    slope = (table / mass - (table * joint.counts).sum(0) / mass**2) / pixels
    score = weighted_leep(cases, [1.0] * 4)
    influence = []
    for number, case in enumerate(cases):
        values = log_expected_prediction(case.probabilities, case.labels, joint)
        own = float(values.nansum()) - score * int((case.labels >= 0).sum())
        influence.append(own / pixels + float((slope * joints[number].counts).sum()))
        step = 1e-5
        up, down = ([1 + sign * step * (i == number) for i in range(4)] for sign in (1, -1))
        numerical = (weighted_leep(cases, up) - weighted_leep(cases, down)) / (2 * step)
        assert influence[-1] == pytest.approx(numerical, rel=1e-6, abs=1e-9)
    assert math.fsum(influence) == pytest.approx(0, abs=1e-12)


# laws


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_leep_lies_between_minus_label_entropy_and_zero(seed, dtype):
    case = make_case(seed, dtype)
    slack = 1e-9 if dtype == torch.float64 else 1e-6
    assert leep_floor(class_counts(case).numpy()) - slack <= leep(*case) <= 0


@pytest.mark.parametrize("seed", SEEDS)
def test_uninformative_source_scores_minus_label_entropy(seed):
    case = make_case(seed)
    constant = torch.full_like(case.probabilities, 1 / case.probabilities.shape[1])
    floor = leep_floor(class_counts(case).numpy())
    assert leep(constant, *case[1:]) == pytest.approx(floor, rel=1e-9)
    assert nce(constant, *case[1:]) == pytest.approx(floor, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_perfect_source_scores_zero(seed):
    case = make_case(seed)
    hot = torch.nn.functional.one_hot(case.labels.clamp(min=0), case.num_classes).movedim(-1, 1)
    assert leep(hot.double().flip(1), *case[1:]) == pytest.approx(0, abs=1e-12)
    assert nce(hot.double().flip(1), *case[1:]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("sharpness", [1.0, 20.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_map_is_at_most_zero_and_bounded_below(seed, sharpness):
    case = make_case(seed)
    case = case._replace(probabilities=(sharpness * case.probabilities.log()).softmax(1))
    values = in_sample_map(case)[case.labels >= 0]
    bound = -math.log(case.probabilities.shape[1] ** 2 * len(values))
    assert float(values.max()) <= 0
    assert float(values.min()) >= bound - 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_map_is_nan_exactly_where_ignored(seed):
    case = make_case(seed)
    assert torch.equal(in_sample_map(case).isnan(), case.labels < 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_probabilities_of_ignored_pixels_do_not_count(seed):
    case = make_case(seed)
    other = make_case(seed + 60).probabilities
    ignored = (case.labels < 0).unsqueeze(1)
    changed = case._replace(probabilities=torch.where(ignored, other, case.probabilities))
    assert_close(Joint.of(*changed).counts, Joint.of(*case).counts, rtol=1e-12, atol=0)
    assert leep(*changed) == pytest.approx(leep(*case), rel=1e-12)
    assert nce(*changed) == nce(*case)


@pytest.mark.parametrize("seed", SEEDS)
def test_joints_add_and_subtract(seed):
    first, second = make_case(seed), make_case(seed + 60)
    both = [torch.cat(pair) for pair in zip(first[:2], second[:2], strict=True)]
    joined = Joint.of(*both, first.num_classes)
    a, b = Joint.of(*first), Joint.of(*second)
    assert_close((a + b).counts, joined.counts, rtol=1e-9, atol=0)
    assert_close((b + a).counts, (a + b).counts, rtol=0, atol=0)
    assert_close((joined - b).counts, a.counts, rtol=1e-9, atol=1e-12)
    assert_close((a - a).counts, torch.zeros_like(a.counts), rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_joint_counts_the_valid_pixels(seed):
    case = make_case(seed)
    joint = Joint.of(*case)
    assert joint.num_pixels == pytest.approx(int((case.labels >= 0).sum()), rel=1e-9)
    assert_close(joint.counts.sum(1), class_counts(case).double(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_conditional_columns_sum_to_one(seed):
    joint = Joint.of(*make_case(seed))
    ones = torch.ones(joint.counts.shape[1], dtype=torch.float64)
    assert_close(joint.conditional.sum(0), ones, rtol=0, atol=1e-12)
    assert_close(joint.smoothed.sum(0), ones, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_order_of_source_classes_does_not_matter(seed):
    case = make_case(seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(case.probabilities.shape[1], generator=generator)
    moved = case._replace(probabilities=case.probabilities[:, order])
    tolerance = {"rtol": 0, "atol": 1e-9, "equal_nan": True}
    assert_close(in_sample_map(moved), in_sample_map(case), **tolerance)
    assert_close(Joint.of(*moved).counts, Joint.of(*case).counts[:, order], rtol=1e-9, atol=0)
    assert leep(*moved) == pytest.approx(leep(*case), rel=1e-9)
    assert nce(*moved) == pytest.approx(nce(*case), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_unused_source_class_does_not_matter(seed):
    case = make_case(seed)
    nothing = torch.zeros_like(case.probabilities[:, :1])
    wider = case._replace(probabilities=torch.cat([case.probabilities, nothing], 1))
    tolerance = {"rtol": 0, "atol": 1e-9, "equal_nan": True}
    assert_close(in_sample_map(wider), in_sample_map(case), **tolerance)
    assert leep(*wider) == pytest.approx(leep(*case), rel=1e-9)
    assert nce(*wider) == pytest.approx(nce(*case), rel=1e-9, abs=1e-15)
    table = likelihood_table(wider.probabilities, wider.labels, Joint.of(*wider))
    assert_close(table[:, -1], torch.zeros(case.num_classes).double(), rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_source_class_split_in_fixed_shares_does_not_matter(seed):
    case = make_case(seed)
    theta = case.probabilities
    first, rest = theta[:, :1], theta[:, 1:]
    split = case._replace(probabilities=torch.cat([0.3 * first, 0.7 * first, rest], 1))
    tolerance = {"rtol": 0, "atol": 1e-9, "equal_nan": True}
    assert_close(in_sample_map(split), in_sample_map(case), **tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_absent_target_class_does_not_matter(seed):
    case = make_case(seed)
    more = case._replace(num_classes=case.num_classes + 1)
    tolerance = {"rtol": 0, "atol": 1e-9, "equal_nan": True}
    assert_close(in_sample_map(more), in_sample_map(case), **tolerance)
    assert leep(*more) == pytest.approx(leep(*case), rel=1e-9)
    assert nce(*more) == pytest.approx(nce(*case), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_hard_probabilities_give_nce(seed):
    case = make_case(seed)
    sources = case.probabilities.shape[1]
    hard = torch.nn.functional.one_hot(case.probabilities.argmax(1), sources).movedim(-1, 1)
    assert leep(hard.double(), *case[1:]) == pytest.approx(nce(*case), rel=1e-9, abs=1e-12)
    counts = hard_counts(*case)
    conditional = leep_floor(counts.flatten().numpy()) - leep_floor(counts.sum(0).numpy())
    assert nce(*case) == pytest.approx(conditional, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_class_scores_weighted_by_class_size_sum_to_leep(seed):
    case = make_case(seed)
    values, counts = in_sample_map(case), class_counts(case)
    total = 0.0
    for y in range(case.num_classes):
        if counts[y]:
            total += float(counts[y] / counts.sum().double() * values[case.labels == y].mean())
    assert total == pytest.approx(leep(*case), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("seed", SEEDS)
def test_batch_equals_one_by_one(seed, dtype):
    case = make_case(seed, dtype)
    pairs = zip(case.probabilities, case.labels, strict=True)
    parts = [Case(theta[None], labels[None], case.num_classes) for theta, labels in pairs]
    joints = [Joint.of(*part) for part in parts]
    joint = sum(joints[1:], joints[0])
    tolerance = SCORE_TOLERANCE[dtype]
    assert_close(joint.counts, Joint.of(*case).counts, rtol=tolerance, atol=0)
    maps = [log_expected_prediction(part.probabilities, part.labels, joint) for part in parts]
    tolerance = MAP_TOLERANCE[dtype]
    assert_close(torch.cat(maps), in_sample_map(case), rtol=0, atol=tolerance, equal_nan=True)
    tables = [likelihood_table(part.probabilities, part.labels, joint) for part in parts]
    whole = likelihood_table(case.probabilities, case.labels, joint)
    assert_close(sum(tables), whole, rtol=SCORE_TOLERANCE[dtype], atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_integer_type_of_labels_does_not_matter(dtype):
    case = make_case(2)
    if dtype == torch.uint8:
        case = case._replace(labels=case.labels.clamp(min=0))
    other = case._replace(labels=case.labels.to(dtype))
    assert leep(*other) == leep(*case)
    assert nce(*other) == nce(*case)


def test_inputs_that_are_not_contiguous_are_read_rightly():
    case = make_case(2)
    turned = case._replace(
        probabilities=case.probabilities.movedim(1, -1).contiguous().movedim(-1, 1),
        labels=case.labels.transpose(1, 2).contiguous().transpose(1, 2),
    )
    assert not turned.probabilities.is_contiguous()
    assert_close(in_sample_map(turned), in_sample_map(case), rtol=0, atol=1e-9, equal_nan=True)


def test_inputs_are_not_changed():
    case = make_case(3)
    theta, labels = case.probabilities.clone(), case.labels.clone()
    joint = Joint.of(*case)
    counts = joint.counts.clone()
    leep(*case), nce(*case), joint.conditional, joint.smoothed
    likelihood_table(case.probabilities, case.labels, joint)
    assert torch.equal(case.probabilities, theta)
    assert torch.equal(case.labels, labels)
    assert torch.equal(joint.counts, counts)


# hand-computed and degenerate cases


def test_two_pixels_by_hand():
    theta = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]], dtype=torch.float64)
    labels = torch.tensor([[0, 1]])
    joint = Joint.of(theta, labels, 2)
    assert_close(joint.counts, theta[0].T.contiguous(), rtol=0, atol=0)
    assert leep(theta, labels, 2) == pytest.approx(math.log(0.625), rel=1e-12)  # .75^2 + .25^2
    assert nce(theta, labels, 2) == 0
    smoothed = torch.tensor([[0.625, 0.375], [0.375, 0.625]], dtype=torch.float64)
    assert_close(joint.smoothed, smoothed, rtol=0, atol=1e-15)


def test_source_class_without_mass():
    joint = Joint(torch.tensor([[2.0, 0.0], [6.0, 0.0], [0.0, 0.0]]))
    conditional = torch.tensor([[0.25, 0.0], [0.75, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert_close(joint.conditional, conditional, rtol=0, atol=0)
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert_close(joint.smoothed[:, 1], third, rtol=1e-12, atol=0)


def test_unseen_pixel_is_minus_infinity_unless_smoothed():
    theta = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)
    joint = Joint(torch.tensor([[4.0, 0.0], [0.0, 4.0]]))
    labels = torch.tensor([[1]])
    assert log_expected_prediction(theta, labels, joint).item() == -math.inf
    smoothed = log_expected_prediction(theta, labels, joint, smoothed=True)
    assert smoothed.item() == pytest.approx(math.log(0.5 / 5), rel=1e-12)


@pytest.mark.parametrize("score", [leep, nce])
def test_scores_take_arrays_and_refuse_what_is_no_probability(score):
    case = make_case(0)
    plain = score(case.probabilities, case.labels, 2)
    assert score(case.probabilities.numpy(), case.labels.numpy(), 2) == plain
    for wrong in (100 * case.probabilities, torch.randn_like(case.probabilities)):
        with pytest.raises(ValueError, match=r"sum to 1 over axis 1; .* softmax, not its logits"):
            score(wrong, case.labels, 2)


def test_rounding_and_ignored_pixels_are_no_reason_to_refuse():
    theta = torch.tensor([[[1.0000001, 0.4, -1.0], [-0.0000001, 0.6, -1.0]]])
    assert math.isfinite(leep(theta, torch.tensor([[0, 1, -1]]), 2))


def test_all_ignored_gives_no_score_and_an_empty_joint():
    theta, labels = make_case(0).probabilities, torch.full((2, 6, 5), -1)
    for score in (leep, nce):
        with pytest.raises(ValueError, match="must have a pixel that counts"):
            score(theta, labels, 2)
    joint = Joint.of(theta, labels, 2)
    assert joint.num_pixels == 0
    assert bool(log_expected_prediction(theta, labels, joint).isnan().all())
    assert not likelihood_table(theta, labels, joint).any()


def test_one_target_class_alone_scores_zero():
    case = make_case(1)
    labels = torch.zeros_like(case.labels)
    assert leep(case.probabilities, labels, 2) == pytest.approx(0, abs=1e-12)
    assert nce(case.probabilities, labels, 2) == 0


@pytest.mark.parametrize(
    ("counts", "entropy"),
    [([1, 1], math.log(2)), ([5, 0], 0.0), ([0, 0], 0.0), ([2, 2, 4], 1.5 * math.log(2))],
)
def test_the_floor_is_minus_the_label_entropy(counts, entropy):
    assert leep_floor(np.array(counts)) == pytest.approx(-entropy, rel=1e-12, abs=0)


def test_useless_source_on_two_percent_foreground():
    assert leep_floor(np.array([98, 2])) == pytest.approx(-0.098, abs=5e-4)


# errors


def test_error_counts_shape():
    with pytest.raises(ValueError, match=r"counts must be \(Y, Z\); got shape \(3,\)"):
        Joint(torch.ones(3))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_error_counts_values(bad):
    words = "counts must be finite and not negative; check the probabilities for NaN"
    with pytest.raises(ValueError, match=words):
        Joint(torch.tensor([[1.0, bad]]))


def test_error_nan_probabilities():
    case = make_case(0)
    case.probabilities[case.labels.unsqueeze(1).expand_as(case.probabilities) >= 0] = math.nan
    with pytest.raises(ValueError, match="check the probabilities for NaN"):
        leep(*case)


def test_error_subtracting_what_was_not_in():
    small, large = Joint(torch.ones(2, 2)), Joint(torch.full((2, 2), 2.0))
    with pytest.raises(ValueError, match="counts must be finite and not negative"):
        small - large


@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (3, 3)])
def test_error_joints_of_different_classes(shape):
    first, second = Joint(torch.full((2, 3), 5.0)), Joint(torch.ones(shape))
    words = rf"joints must be of the same classes; got \(2, 3\) and \({shape[0]}, {shape[1]}\)"
    with pytest.raises(ValueError, match=words):
        first + second
    with pytest.raises(ValueError, match=words):
        first - second


def test_rounding_below_zero_is_cut_off():
    assert_close(Joint(torch.tensor([[-1e-9, 1.0]])).counts[0, 0].item(), 0.0, rtol=0, atol=0)


FUNCTIONS = [check_batch, Joint.of, leep, nce]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_error_probabilities_dtype(function):
    with pytest.raises(TypeError, match=r"probabilities must be floating point; got torch\.int64"):
        function(torch.ones(1, 2, 3, dtype=torch.int64), torch.zeros(1, 3, dtype=torch.int64), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_error_labels_dtype(function, dtype):
    with pytest.raises(TypeError, match=f"labels must be integers; got {dtype}"):
        function(torch.full((1, 2, 3), 0.5), torch.zeros(1, 3, dtype=dtype), 2)


@pytest.mark.parametrize("shape", [(1, 4), (2, 3), (3,), (1, 1, 3)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_error_labels_shape(function, shape):
    words = r"labels must be \(B, \*S\) for probabilities \(B, Z, \*S\); got .* for \(1, 2, 3\)"
    with pytest.raises(ValueError, match=words):
        function(torch.full((1, 2, 3), 0.5), torch.zeros(shape, dtype=torch.int64), 2)


def test_error_probabilities_without_space():
    with pytest.raises(ValueError, match=r"got \(4,\) for \(4, 2\)"):
        check_batch(torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.int64), 2)


@pytest.mark.parametrize(("low", "high"), [(-2, 1), (0, 2), (-1, 255)])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_error_labels_range(function, low, high):
    words = rf"labels must be in \[-1, 2\); got values from {low} to {high}"
    with pytest.raises(ValueError, match=words):
        function(torch.full((1, 2, 3), 0.5), torch.tensor([[low, 0, high]]), 2)


def test_error_joint_of_another_source():
    case, joint = make_case(0), Joint(torch.ones(2, 5))
    words = "joint must have one column per source class; got 5 columns for probabilities with 2"
    with pytest.raises(ValueError, match=words):
        log_expected_prediction(case.probabilities, case.labels, joint)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_probabilities_of_16_bits_are_summed_in_more(dtype):
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(1, 3, 40_000, generator=generator).softmax(1).to(dtype)
    labels = torch.randint(-1, 2, (1, 40_000), generator=generator)
    joint = Joint.of(theta, labels, 2)
    assert_close(joint.counts, Joint.of(theta.float(), labels, 2).counts, rtol=0, atol=0)
    made = log_expected_prediction(theta, labels, joint)
    assert made.dtype == torch.float32
    expected = log_expected_prediction(theta.float(), labels, joint)
    assert_close(made, expected, rtol=0, atol=0, equal_nan=True)
    assert leep(theta, labels, 2) == leep(theta.float(), labels, 2)


def test_arrays_of_files_and_what_stands_in_ignored_pixels_change_no_score():
    case = make_case(0)
    theta, labels = case.probabilities.numpy(), case.labels.numpy()
    for score in (leep, nce):
        plain = score(theta, labels, 2)
        assert score(theta.astype(">f8"), labels.astype(">i2"), 2) == plain
        turned = score(theta[..., ::-1], labels[..., ::-1], 2)
        assert turned == pytest.approx(plain, rel=1e-12)
        outside = np.where((labels < 0)[:, None], np.nan, theta)
        assert (labels < 0).any() and score(outside, labels, 2) == plain
        inside = np.where((labels == 0)[:, None], np.nan, theta)
        with pytest.raises(ValueError, match="check the probabilities for NaN"):
            score(inside, labels, 2)
    with pytest.raises(ValueError, match="must have a pixel that counts"):
        leep(np.zeros((0, 2, 5)), np.zeros((0, 5), dtype=int), 2)


def test_gradients_of_a_network_do_not_matter():
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    theta, labels = logits.softmax(1), torch.zeros(2, 4, 5, dtype=torch.int64)
    labels[:, 2:] = 1
    plain = theta.detach()
    assert tr.leep(theta, labels, 2) == tr.leep(plain, labels, 2)
    joint = tr.Joint.of(theta, labels, 2)
    assert not joint.counts.requires_grad
    values = tr.log_expected_prediction(theta, labels, joint)
    assert torch.equal(values, tr.log_expected_prediction(plain, labels, joint))
    assert torch.equal(tr.risk_map(theta, labels).risk, tr.risk_map(plain, labels).risk)
