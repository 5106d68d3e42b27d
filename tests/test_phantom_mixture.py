"""A template from a T1 alone: tissues that are known come back, what is no brain is refused."""

import nibabel as nib
import numpy as np
import pytest
from ball import ball_template

from transfer_risk.phantom import mixture, template_from_t1
from transfer_risk.study.cohorts import write_cohorts


@pytest.fixture
def shells(tmp_path):
    """A T1 of concentric shells with noise, and their tissues (3, X, Y, Z)."""
    known = ball_template(spacing=2.0, size=80)
    rng = np.random.default_rng(0)
    t1 = np.where(known.t1 > 0, known.t1 + 8 * rng.standard_normal(known.t1.shape), 0)
    path = tmp_path / "shells.nii.gz"
    nib.save(nib.Nifti1Image(t1.astype(np.float32), known.affine), path)
    return path, known.fractions


def brain_of(fractions):
    """Fractions (3, X, Y, Z) in the box around grey and white matter: fluid around them is no part of a template."""
    brain = fractions[1:].sum(axis=0) > 0.5
    ends = [np.flatnonzero(brain.any(axis=axes))[[0, -1]] for axes in ((1, 2), (0, 2), (0, 1))]
    return fractions[(slice(None), *(slice(first, last + 1) for first, last in ends))]


def test_tissues_come_back_where_intensities_tell_them(shells):
    path, known = shells
    made = template_from_t1(path, spacing=2.0)
    wrong = np.abs(brain_of(made.fractions)[1:] - brain_of(known)[1:])
    assert wrong.mean() < 1e-3
    total = made.fractions.sum(axis=0)
    assert np.allclose(total[total > 0], 1, atol=1e-5)
    again = template_from_t1(path, spacing=2.0)
    assert np.array_equal(again.fractions, made.fractions)


def test_a_cohort_of_another_brain(shells, tmp_path):
    path, _ = shells
    write_cohorts(tmp_path / "own", anatomy="tissue", seed=0, spacing=6.0, cases=1, t1=path)
    write_cohorts(tmp_path / "other", anatomy="tissue", seed=0, spacing=6.0, cases=1)
    shapes = [
        nib.load(next((tmp_path / name / "Dataset002_Target" / "labelsTr").iterdir())).shape
        for name in ("own", "other")
    ]
    assert shapes[0] != shapes[1]


def test_a_head_with_skull_is_refused(tmp_path):
    path = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)), path)
    with pytest.raises(ValueError, match=r"brain alone.*100 % of the voxels of .*strip the skull"):
        template_from_t1(path)


def test_a_spacing_out_of_range_is_refused_before_the_file_is_read():
    with pytest.raises(ValueError, match=r"spacing must lie in \(0, 10\] mm; got 11"):
        template_from_t1("no such file", spacing=11)


def test_missing_scikit_learn_says_what_to_install(shells, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.mixture", None)
    with pytest.raises(ValueError, match=r"scikit-learn; run pip install"):
        template_from_t1(shells[0])


def test_a_large_image_is_sampled(shells, monkeypatch):
    path, _ = shells
    whole = template_from_t1(path, spacing=4.0)
    monkeypatch.setattr(mixture, "FITTED", 2_000)
    part = template_from_t1(path, spacing=4.0)
    assert np.abs(part.fractions - whole.fractions).mean() < 0.01
