"""Map statistics against slow loops over voxels, and by hand."""

import math

import numpy as np
import pytest
import torch

from transfer_risk.mapstats import boundary, distance_to_boundary, map_statistics
from transfer_risk.riskmap import Span

CLASSES = ("background", "a", "b")
SPACING = (1.0, 2.0, 3.5)


def neighbours(place, shape):
    for axis in range(3):
        for step in (-1, 1):
            other = list(place)
            other[axis] += step
            if 0 <= other[axis] < shape[axis]:
                yield tuple(other)


def slow_boundary(classes):
    result = np.zeros(classes.shape, dtype=bool)
    for place in np.ndindex(classes.shape):
        own = classes[place]
        others = [classes[q] for q in neighbours(place, classes.shape)]
        result[place] = own > 0 and any(o not in (own, -1) for o in others)
    return result


def slow_components(high):
    """Sizes in voxels of the face-connected parts, by flooding."""
    left, sizes = {tuple(p) for p in np.argwhere(high)}, []
    while left:
        front, size = [left.pop()], 0
        while front:
            place = front.pop()
            size += 1
            reached = [q for q in neighbours(place, high.shape) if q in left]
            left.difference_update(reached)
            front += reached
        sizes.append(size)
    return sizes


def slow_distance(high, edge):
    ends = [np.array(p) * SPACING for p in np.argwhere(edge)]
    starts = [np.array(p) * SPACING for p in np.argwhere(high)]
    return np.mean([min(np.linalg.norm(s - e) for e in ends) for s in starts])


@pytest.fixture(params=range(4))
def case(request):
    rng = np.random.default_rng(request.param)
    shape = (5, 4, 3)
    labels = rng.integers(-1, 3, size=shape)
    predicted = rng.integers(0, 4, size=shape)
    values = -3 * rng.random(shape).astype(np.float32)
    values[labels < 0] = np.nan
    return values, labels, predicted


def statistics(values, labels, predicted, span=None, **options):
    span = span or Span(torch.tensor(-4.0), torch.tensor(0.0))
    distances = {
        "source": distance_to_boundary(predicted, SPACING),
        "target": distance_to_boundary(labels, SPACING),
    }
    return map_statistics(
        values, labels, span=span, spacing=SPACING, classes=CLASSES, distances=distances, **options
    )


def test_statistics_equal_loops(case):
    values, labels, predicted = case
    made = statistics(*case)
    valid = [p for p in np.ndindex(labels.shape) if labels[p] >= 0]
    hardness = {p: -float(values[p]) / 4 for p in valid}
    assert made["transferability"] == pytest.approx(np.mean([values[p] for p in valid]), rel=1e-6)
    for threshold in (25, 50, 75):
        share = sum(h > threshold / 100 for h in hardness.values()) / len(valid)
        assert made[f"area_{threshold}"] == share
    high = np.zeros(labels.shape, dtype=bool)
    for p, h in hardness.items():
        high[p] = h > 0.5
    sizes = slow_components(high)
    assert made["components"] == len(sizes)
    assert made["component_size"] == pytest.approx(np.mean(sizes) * math.prod(SPACING))
    assert made["distance_source"] == pytest.approx(slow_distance(high, slow_boundary(predicted)))
    assert made["distance_target"] == pytest.approx(slow_distance(high, slow_boundary(labels)))
    mass = {p: 10**h - 1 for p, h in hardness.items()}
    for k, name in enumerate(CLASSES):
        own = sum(m for p, m in mass.items() if labels[p] == k)
        assert made[f"risk_mass[{name}]"] == pytest.approx(own / sum(mass.values()), rel=1e-5)
    assert sum(made[f"risk_mass[{c}]"] for c in CLASSES) == pytest.approx(1)


def test_the_boundary_equals_a_loop(case):
    _, labels, predicted = case
    np.testing.assert_array_equal(boundary(labels), slow_boundary(labels))
    np.testing.assert_array_equal(boundary(predicted), slow_boundary(predicted))


def test_by_hand():
    labels = np.array([0, 1, 1, 1, 0])[:, None, None]
    assert boundary(labels).ravel().tolist() == [False, True, False, True, False]
    values = np.array([0.0, -1.0, -2.0, -2.0, 0.0], dtype=np.float32)[:, None, None]
    span = Span(torch.tensor(-2.0), torch.tensor(0.0))
    none = np.zeros_like(labels)
    made = statistics(values, labels, none, span, base=3.0)
    assert made["area_25"] == 0.6 and made["area_50"] == 0.4 and made["area_75"] == 0.4
    assert made["components"] == 1 and made["component_size"] == 14
    assert made["distance_target"] == 0.5  # the middle is 1 mm from both ends, the end is one
    assert math.isnan(made["distance_source"])  # nothing is predicted: no boundary
    assert made["risk_mass[a]"] == 1 and made["risk_mass[b]"] == 0


def test_what_has_no_meaning_is_unknown():
    labels = np.ones((2, 2, 1), dtype=np.int16)
    flat = statistics(np.zeros((2, 2, 1), dtype=np.float32), labels, labels)
    assert flat["components"] == 0 and flat["area_50"] == 0
    for name in ("component_size", "distance_target", "distance_source", "risk_mass[a]"):
        assert math.isnan(flat[name])
    nothing = statistics(np.full((2, 2, 1), np.nan, dtype=np.float32), labels, labels)
    assert math.isnan(nothing["transferability"]) and math.isnan(nothing["area_25"])
