"""Evenly spread windows against slow loops."""

import itertools
import math

import numpy as np
import pytest
import torch

import transfer_risk as tr
from transfer_risk.windows import blended, importance, starts


@pytest.mark.parametrize("length", range(1, 60))
@pytest.mark.parametrize(("window", "overlap"), [(16, 0.5), (15, 0.5), (10, 0.25), (8, 0.0)])
def test_windows_cover_everything_with_the_overlap_and_no_more_than_needed(length, window, overlap):
    firsts = starts(length, window, overlap)
    assert firsts[0] == 0
    if length <= window:
        assert firsts == [0]
        return
    assert firsts[-1] == length - window
    steps = np.diff(firsts)
    assert steps.max() - steps.min() <= 1
    assert steps.max() <= math.ceil(window * (1 - overlap))
    assert len(firsts) == math.ceil((length - window) / (window * (1 - overlap))) + 1


def test_importance_is_a_gaussian_around_the_middle():
    weights = importance((8, 16)).numpy()
    assert np.unravel_index(weights.argmax(), weights.shape) == (4, 8)
    assert weights.max() == 1 and weights.min() > 0
    assert weights[4, 10] == pytest.approx(math.exp(-0.5), abs=0.02)  # one deviation off


@pytest.mark.parametrize("shape", [(12, 11), (8, 8), (9, 21)])
def test_blending_equals_a_loop(shape):
    torch.manual_seed(0)
    images, kernel = torch.randn(2, 1, *shape), torch.randn(3, 1, 3, 3)
    network = lambda x: torch.conv2d(x, kernel, padding=1)  # noqa: E731
    made = blended(images, (8, 8), 0.5, network)
    weights = importance((8, 8))
    total, mass = torch.zeros(2, 3, *shape), torch.zeros(shape)
    for a, b in itertools.product(*(starts(n, 8, 0.5) for n in shape)):
        total[..., a : a + 8, b : b + 8] += weights * network(images[..., a : a + 8, b : b + 8])
        mass[a : a + 8, b : b + 8] += weights
    torch.testing.assert_close(made, total / mass)


def test_an_unknown_tiling_is_an_error():
    with pytest.raises(ValueError, match="tiling must be one of fixed, even; got 'odd'"):
        tr.Preprocessing(tiling="odd")
