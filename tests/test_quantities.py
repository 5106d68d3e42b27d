"""Bounds, units and digits of what is measured of a run."""

import math

import numpy as np
import pytest
import torch

from transfer_risk.evaluation import Measure
from transfer_risk.mapstats import map_statistics
from transfer_risk.quantities import MEASURES, quantity_of
from transfer_risk.riskmap import Span


@pytest.mark.parametrize(
    ("name", "bounds", "unit", "digits"),
    [
        ("dice", (0, 1), "", 3),
        ("recall[hd95]", (0, 1), "", 3),
        ("hd95[area]", (0, math.inf), "mm", 2),
        ("transferability", (-math.inf, 0), "nats", 3),
        ("area_25", (0, 1), "", 3),
        ("components", (0, math.inf), "", 1),
        ("component_size", (0, math.inf), "mm3", 0),
        ("distance_target", (0, math.inf), "mm", 2),
        ("risk_mass[a_b]", (0, 1), "", 3),
    ],
)
def test_a_quantity_has_bounds_a_unit_and_digits(name, bounds, unit, digits):
    found = quantity_of(name)
    assert (found.bounds, found.unit, found.digits) == (bounds, unit, digits)


def test_every_measure_and_every_statistic_of_a_map_is_a_quantity():
    values, labels = -np.arange(8.0).reshape(2, 2, 2), np.arange(8).reshape(2, 2, 2) % 2
    distances = {"source": None, "target": np.ones((2, 2, 2))}
    statistics = map_statistics(
        values,
        labels,
        span=Span.of(torch.from_numpy(values)),
        spacing=(1, 1, 1),
        classes=("background", "a"),
        distances=distances,
    )
    measure = Measure("case", "class", *(0.5 for _ in MEASURES))
    for name, value in statistics.items() | {(n, getattr(measure, n)) for n in MEASURES}:
        low, high = quantity_of(name).bounds
        assert math.isnan(value) or low <= value <= high
