"""Slices look the same however the array lies, with the letters and proportions of the affine."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from transfer_risk.views import View, anatomy, grey_window, riskiest_slice

SHAPE, AFFINE = (4, 5, 6), np.array([[2, 0, 0, 7], [0, 1, 0, -3], [0, 0, 3.0, 0], [0, 0, 0, 1]])
TURNS = [
    np.array([[p, s] for p, s in zip(order, signs, strict=True)])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


@pytest.mark.parametrize(
    ("axis", "letters", "spacing"),
    [(0, "PAIS", (1, 3)), (1, "LRIS", (2, 3)), (2, "LRPA", (2, 1))],
)
def test_ras_arrays_are_drawn_with_right_front_and_top_up_or_right(axis, letters, spacing):
    volume = np.arange(120).reshape(SHAPE)
    view = View.of(AFFINE, axis)
    assert "".join(view.letters) == letters and view.spacing == spacing
    plane = view.slice(volume, 1)
    np.testing.assert_array_equal(plane, np.take(volume, 1, axis).T)
    rows, columns = plane.shape
    assert view.box(plane) == (0, columns * spacing[0], 0, rows * spacing[1])


@pytest.mark.parametrize("axis", range(3))
def test_every_orientation_of_the_array_gives_the_same_picture(axis):
    volume = np.arange(120).reshape(SHAPE)
    plain = View.of(AFFINE, axis)
    for turn in TURNS:
        turned = nib.orientations.apply_orientation(volume, turn)
        affine = AFFINE @ nib.orientations.inv_ornt_aff(turn, SHAPE)
        own = int(turn[axis, 0])
        index = 1 if turn[axis, 1] > 0 else SHAPE[axis] - 2
        view = View.of(affine, own)
        np.testing.assert_array_equal(view.slice(turned, index), plain.slice(volume, 1))
        assert view.letters == plain.letters and view.spacing == plain.spacing


def test_an_oblique_image_has_the_letters_of_the_nearest_directions():
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    view = View.of(turn @ AFFINE, 2)
    assert "".join(view.letters) == "LRPA"
    assert view.spacing == pytest.approx((2, 1))


def test_the_window_holds_the_mask_with_a_margin():
    mask = np.zeros((5, 4), dtype=bool)
    mask[1:3, 2] = True
    view = View.of(AFFINE, 2)  # 2 mm across, 1 mm up
    assert view.window(mask, margin=1.0) == (3, 7, 0, 4)
    assert view.window(np.zeros((5, 4), dtype=bool)) == (0, 8, 0, 5)


def test_grey_runs_over_the_anatomy_and_not_over_the_background():
    image = np.full((10, 10, 1), -1000.0)
    image[2:8, 2:8] = np.linspace(0, 100, 36).reshape(6, 6, 1)
    assert anatomy(image).sum() == 36
    low, high = grey_window(image)
    assert 0 <= low < 1 and 99 < high <= 100
    assert grey_window(np.zeros((2, 2, 1))) == (0.0, 1.0)


def test_the_riskiest_slice_has_the_largest_sum():
    risk = np.ones((3, 4, 5))
    risk[1, 2, 3] = 4
    assert [riskiest_slice(risk, axis=a) for a in range(3)] == [1, 2, 3]
