"""Scales over many maps at once equal those of one array that holds them all."""

import numpy as np
import pytest
import torch

from transfer_risk.riskmap import Span
from transfer_risk.scales import common_span, percentile


def make_maps(seed):
    rng = np.random.default_rng(seed)
    maps = [-rng.exponential(rng.uniform(0.01, 9), (3, 7, 5)).astype(np.float32) for _ in range(4)]
    for values in maps:
        values[rng.random(values.shape) < 0.2] = np.nan
    maps[0][:] = np.round(maps[0], 1)  # ties
    maps[1][0] = 0.0
    maps[2][0] = -0.0
    return maps


@pytest.mark.parametrize("percent", [0.0, 0.3, 1.0, 25.0, 50.0, 99.9])
@pytest.mark.parametrize("seed", range(4))
def test_percentile_equals_numpy_on_everything(seed, percent):
    maps = make_maps(seed)
    together = np.concatenate([m.ravel() for m in maps]).astype(np.float64)
    expected = np.percentile(together[~np.isnan(together)], percent)
    assert percentile(maps, percent) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("clip", [0.0, 1.0, 30.0])
def test_common_span_equals_the_span_of_everything(clip):
    maps = [*make_maps(0), np.full((2, 3), np.nan, np.float32)]
    together = torch.from_numpy(np.concatenate([m.ravel() for m in maps]))
    made, expected = common_span(maps, clip=clip), Span.of(together[None], clip=clip)
    torch.testing.assert_close(made.low, expected.low)
    assert made.high == expected.high and (clip or made.low == expected.low)


def test_maps_without_a_value_have_no_width():
    span = common_span([np.full((2, 2), np.nan, np.float32)])
    assert span.low == span.high == 0
