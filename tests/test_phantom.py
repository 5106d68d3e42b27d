"""The embedded cohort: valid nnU-Net folders, seeded subjects, plausible contrasts."""

import errno
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from math import exp

import nibabel as nib
import numpy as np
import pytest
from ball import ball_template
from scipy import ndimage

from transfer_risk.phantom import (
    Template,
    dataset,
    load_template,
    write_tissue_cohort,
    write_tumour_cohort,
)
from transfer_risk.phantom.anatomy import draw_tissue_subject, draw_tumour_subject
from transfer_risk.phantom.fields import draw_displacement, draw_noise
from transfer_risk.phantom.relaxation import TISSUES, Sequence, Tissue, spin_echo_signal
from transfer_risk.phantom.scanner import REFERENCE, choose_scanner, scan

needs_nilearn = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None, reason="the default template comes with nilearn"
)


@pytest.fixture(scope="module")
def brain():
    """ICBM152 at 4 mm where it is installed, else concentric shells."""
    installed = importlib.util.find_spec("nilearn") is not None
    return load_template(spacing=4.0) if installed else ball_template()


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def cohort_voxels(folder):
    return {path.name: voxels(path) for path in sorted(folder.glob("*Tr/*.nii.gz"))}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- files


@pytest.mark.parametrize(
    ("write", "channels", "classes", "prefix"),
    [
        (write_tissue_cohort, ["T1", "T2"], ["csf", "gm", "wm"], "tissue"),
        (write_tumour_cohort, ["T1", "T2", "FLAIR"], ["ncr", "ed", "et"], "tumour"),
    ],
)
def test_cohort_is_a_valid_nnunet_raw_folder(tmp_path, brain, write, channels, classes, prefix):
    folder = write(tmp_path / "raw", cases=2, template=brain)
    header = json.loads((folder / "dataset.json").read_text())
    assert header["channel_names"] == {str(i): name for i, name in enumerate(channels)}
    assert header["labels"] == {name: i for i, name in enumerate(["background", *classes])}
    assert (header["numTraining"], header["file_ending"]) == (2, ".nii.gz")
    cases = [f"{prefix}_000", f"{prefix}_001"]
    images = [f"{case}_{i:04d}.nii.gz" for case in cases for i in range(len(channels))]
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == images
    labels = [f"{case}.nii.gz" for case in cases]
    assert sorted(path.name for path in (folder / "labelsTr").iterdir()) == labels
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


def test_images_and_label_share_one_geometry_in_mm(tmp_path, brain):
    folder = write_tissue_cohort(tmp_path, cases=1, template=brain)
    label = nib.load(folder / "labelsTr" / "tissue_000.nii.gz")
    image = nib.load(folder / "imagesTr" / "tissue_000_0001.nii.gz")
    assert image.shape == label.shape == brain.t1.shape
    np.testing.assert_allclose(image.affine, brain.affine)
    np.testing.assert_allclose(image.get_qform(), label.get_sform(), atol=1e-4)
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_background_is_exactly_zero_and_the_brain_is_not(tmp_path, brain):
    folder = write_tumour_cohort(tmp_path, cases=1, template=brain)
    first, *others = (voxels(path) for path in sorted((folder / "imagesTr").iterdir()))
    mask = first > 0
    assert all(np.array_equal(other > 0, mask) for other in others)
    assert 0.1 < mask.mean() < 0.6
    assert mask[voxels(folder / "labelsTr" / "tumour_000.nii.gz") > 0].all()


# --- randomness


def test_equal_seeds_give_equal_voxels_and_other_seeds_other_subjects(tmp_path, brain):
    first, again, other = (
        cohort_voxels(write_tumour_cohort(tmp_path / str(i), cases=1, seed=s, template=brain))
        for i, s in enumerate((3, 3, 4))
    )
    assert same(first, again)
    assert not np.array_equal(first["tumour_000.nii.gz"], other["tumour_000.nii.gz"])


def test_a_case_does_not_depend_on_the_number_of_cases(tmp_path, brain):
    few = cohort_voxels(write_tissue_cohort(tmp_path / "few", cases=1, template=brain))
    many = cohort_voxels(write_tissue_cohort(tmp_path / "many", cases=3, template=brain))
    assert same(few, {name: many[name] for name in few})
    assert not np.array_equal(many["tissue_000.nii.gz"], many["tissue_001.nii.gz"])


def test_institutions_scan_the_same_heads_with_other_scanners(tmp_path, brain):
    here = cohort_voxels(write_tissue_cohort(tmp_path / "a", cases=1, template=brain))
    there = cohort_voxels(
        write_tissue_cohort(tmp_path / "b", cases=1, template=brain, institution=2)
    )
    assert np.array_equal(here["tissue_000.nii.gz"], there["tissue_000.nii.gz"])
    assert not np.array_equal(here["tissue_000_0000.nii.gz"], there["tissue_000_0000.nii.gz"])
    scanners = [choose_scanner(i) for i in range(6)]
    assert scanners[0] == REFERENCE and choose_scanner(5) == scanners[5]
    assert len({(s.gain, s.snr, s.bias, s.resolution) for s in scanners}) == 6


def test_noise_has_unit_variance_everywhere():
    rng = np.random.default_rng(0)
    fields = np.stack([draw_noise((12, 10, 8), sigma=3.0, rng=rng) for _ in range(2000)])
    np.testing.assert_allclose(fields.std(axis=0), 1, atol=0.12)
    assert np.abs(np.diff(fields, axis=1)).mean() < 0.3


def test_deformations_never_fold():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        displacement = draw_displacement((42, 50, 44), spacing=4.0, rng=rng)
        jacobian = np.stack([np.stack(np.gradient(part), axis=-1) for part in displacement], -2)
        determinant = np.linalg.det(jacobian + np.eye(3))
        assert determinant.min() > 0.05
        assert np.abs(displacement).max() * 4.0 > 5  # mm: they do move something


# --- signal


def test_signal_is_the_hand_computed_one():
    tissue = Tissue(t1=1000, t2=100, density=0.8)
    spin_echo = 0.8 * (1 - exp(-0.5)) * exp(-0.2)
    assert spin_echo_signal(tissue, Sequence(500, 20)) == pytest.approx(spin_echo)
    recovery = 0.8 * abs(1 - 2 * exp(-0.25) + exp(-2)) * exp(-0.2)
    assert spin_echo_signal(tissue, Sequence(2000, 20, 250)) == pytest.approx(recovery)


@pytest.mark.parametrize("institution", range(12))
def test_contrasts_have_the_known_order(institution):
    sequences = choose_scanner(institution).sequences
    t1, t2, flair = (
        {name: spin_echo_signal(tissue, sequences[channel]) for name, tissue in TISSUES.items()}
        for channel in ("T1", "T2", "FLAIR")
    )
    assert t1["wm"] > t1["gm"] > t1["csf"]
    assert t2["csf"] > t2["gm"] > t2["wm"]
    assert min(flair, key=flair.get) == "csf" and max(flair, key=flair.get) == "ed"


def test_images_show_the_contrasts(tmp_path, brain):
    healthy = write_tissue_cohort(tmp_path, cases=1, template=brain)
    labels = voxels(healthy / "labelsTr" / "tissue_000.nii.gz")
    t1, t2 = (voxels(path) for path in sorted((healthy / "imagesTr").iterdir()))
    csf, gm, wm = (labels == value for value in (1, 2, 3))
    assert np.median(t1[wm]) > np.median(t1[gm]) > np.median(t1[csf])
    assert np.median(t2[csf]) > np.median(t2[gm]) > np.median(t2[wm])
    overlap = np.mean(t1[gm] > np.percentile(t1[wm], 10))
    assert 0.01 < overlap < 0.6  # visible, not trivial


def test_lesions_are_bright_on_flair():
    template = ball_template()
    subject = draw_tumour_subject(template, rng=np.random.default_rng(1))
    flair = scan(
        subject,
        REFERENCE.sequences["FLAIR"],
        scanner=REFERENCE,
        spacing=4.0,
        rng=np.random.default_rng(2),
    )
    oedema = ndimage.binary_erosion(subject.labels == 2)
    assert np.median(flair[oedema]) > 1.2 * np.median(flair[subject.mask])


def test_noise_is_rician_with_the_stated_snr():
    template = ball_template()
    subject = draw_tissue_subject(template, rng=np.random.default_rng(0))
    quiet = replace(REFERENCE, bias=0.0)  # two scans differ in noise alone
    images = [
        scan(
            subject,
            Sequence(600, 15),
            scanner=quiet,
            spacing=4.0,
            rng=np.random.default_rng([5, i]),
        )
        for i in range(2)
    ]
    assert all(image[~subject.mask].max() == 0 < image[subject.mask].min() for image in images)
    first, second = (image.astype(float) for image in images)
    deep = ndimage.binary_erosion(subject.labels == 3, iterations=2)
    noise = (first - second)[deep].std() / 2**0.5
    assert first[subject.mask].mean() / noise == pytest.approx(quiet.snr, rel=0.1)


# --- lesions


def test_lesions_are_nested(brain):
    for seed in range(12):
        labels = draw_tumour_subject(brain, rng=np.random.default_rng(seed)).labels
        necrosis, oedema, rim = (labels == value for value in (1, 2, 3))
        core = necrosis | rim
        assert oedema.any()
        assert not (ndimage.binary_dilation(necrosis) & ~core).any()
        assert ndimage.label(labels > 0)[1] == 1
        assert not (ndimage.binary_dilation(core) & (labels == 0)).any()


def test_lesion_sizes_spread_like_a_log_normal(brain):
    shares, cores, necroses = [], [], []
    for seed in range(20):
        subject = draw_tumour_subject(brain, rng=np.random.default_rng([7, seed]))
        count = np.bincount(subject.labels.ravel(), minlength=4)
        shares.append(count[1:].sum() / subject.mask.sum())
        cores.append(count[1] + count[3])
        necroses.append(count[1])
    assert np.std(np.log(shares)) > 0.4
    assert min(shares) > 0.003 and max(shares) < 0.08
    assert 0.01 < np.median(shares) < 0.035
    assert np.mean(np.array(cores) > 0) > 0.7
    assert 0 < np.mean(np.array(necroses) == 0) < 0.7


def test_heads_stay_within_the_volume(brain):
    for seed in range(12):
        mask = draw_tissue_subject(brain, rng=np.random.default_rng(seed)).mask
        shell = np.ones_like(mask)
        shell[1:-1, 1:-1, 1:-1] = False
        assert (mask & shell).sum() < 0.001 * mask.sum()


def test_lesions_grow_in_grey_and_white_matter(brain):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        before = draw_tissue_subject(brain, rng=np.random.default_rng(seed)).labels
        after = draw_tumour_subject(brain, rng=rng).labels
        assert np.isin(before[after == 2], (2, 3)).mean() > 0.7


# --- template


@needs_nilearn
def test_default_template_is_a_brain_in_talairach_like_space():
    template = load_template(spacing=4.0)
    litres = [part.sum() * 4.0**3 / 1e6 for part in (template.csf, template.gm, template.wm)]
    assert 0.1 < litres[0] < 0.4 and 0.7 < litres[1] < 1.2 and 0.4 < litres[2] < 0.9
    centre = np.linalg.inv(template.affine) @ [0, 0, 10, 1]  # mm: between the thalami
    x, y, z = np.rint(centre[:3]).astype(int)
    assert template.t1[x, y, z] > 0
    assert np.all(template.t1[template.fractions.sum(axis=0) == 0] == 0)
    np.testing.assert_allclose(np.diag(template.affine), [4, 4, 4, 1])


def save_maps(folder, template, **changes):
    paths = {}
    for name in ("t1", "gm", "wm"):
        volume = changes.get(name, getattr(template, name))
        paths[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(volume, changes.get("affine", template.affine)), paths[name])
    return paths


def test_own_files_are_resampled_to_ras_and_isotropic(tmp_path):
    source = ball_template()
    flipped = np.diag([-2.0, 4.0, 6.0, 1.0])
    template = load_template(**save_maps(tmp_path, source, affine=flipped), spacing=4.0)
    assert nib.aff2axcodes(template.affine) == ("R", "A", "S")
    assert template.spacing == 4.0
    before = [(getattr(source, part) > 0.5).sum() * 48 for part in ("gm", "wm")]
    after = [getattr(template, part).sum() * 64 for part in ("gm", "wm")]
    np.testing.assert_allclose(after, before, rtol=0.08)


def test_tissue_maps_of_another_shape_are_refused(tmp_path):
    source = ball_template()
    paths = save_maps(tmp_path, source, gm=source.gm[:-1])
    with pytest.raises(ValueError, match=r"gm must have the shape of t1 \(40, 40, 40\); got"):
        load_template(**paths)
    with pytest.raises(ValueError, match=r"gm must be \(X, Y, Z\) like t1; got"):
        Template(source.t1, source.csf, source.gm[:-1], source.wm, source.affine)


def test_bad_templates_are_named(tmp_path):
    source = ball_template()
    with pytest.raises(ValueError, match="t1, gm and wm must be passed together; got 1 of 3"):
        load_template(t1=tmp_path / "t1.nii.gz")
    with pytest.raises(ValueError, match=r"spacing must lie in \(0, 10\] mm; got 0"):
        load_template(spacing=0)
    with pytest.raises(ValueError, match=r"wm must lie in \[0, 1\]; got"):
        Template(source.t1, source.csf, source.gm, 2 * source.wm, source.affine)
    with pytest.raises(ValueError, match="affine must be isotropic"):
        Template(source.t1, source.csf, source.gm, source.wm, np.diag([1.0, 1, 2, 1]))
    with pytest.raises(ValueError, match="t1, gm and wm must overlap"):
        load_template(**save_maps(tmp_path, source, t1=np.zeros_like(source.t1)))
    with pytest.raises(ValueError, match="t1 must be a 3D image"):
        load_template(**save_maps(tmp_path, source, t1=source.t1[..., None].repeat(2, axis=3)))
    moved = save_maps(tmp_path, source)
    nib.save(nib.Nifti1Image(source.wm, np.diag([4.0, 4, 5, 1])), moved["wm"])
    with pytest.raises(ValueError, match="wm must have the affine of t1"):
        load_template(**moved)
    inverted = Template(220 - source.t1, source.csf, source.gm, source.wm, source.affine)
    with pytest.raises(ValueError, match="t1 must be T1-weighted, white matter brighter than grey"):
        draw_tissue_subject(inverted, rng=np.random.default_rng(0))


# --- errors and interruptions


def test_missing_nilearn_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '.\[demo\]' in the clone, or pass temp"):
        write_tissue_cohort(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    kept = tmp_path / "Dataset001_Tissue" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match="Dataset001_Tissue exists already; remove it or pass"):
        write_tissue_cohort(tmp_path, template=ball_template())
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cases": 0}, "cases must be at least 1; got 0"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
        ({"institution": -2}, "institution must be an integer of at least 0; got -2"),
        ({"name": "Tissue"}, "name must look like Dataset001_Tissue, as nnU-Net demands; got"),
        ({"prefix": "a/b"}, "prefix must be letters, digits"),
    ],
)
def test_bad_options_are_named(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        write_tissue_cohort(tmp_path, template=ball_template(), **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("good_writes", [0, 1, 4])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, good_writes):
    save, done = nib.save, []

    def save_until_full(image, path):
        if len(done) == good_writes:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(path)
        save(image, path)

    monkeypatch.setattr(dataset.nib, "save", save_until_full)
    with pytest.raises(OSError, match="No space left on device"):
        write_tissue_cohort(tmp_path, cases=2, template=ball_template())
    assert list(tmp_path.iterdir()) == []


def test_importing_the_phantom_imports_neither_torch_nor_nilearn():
    code = "import sys, transfer_risk.phantom; print({'torch', 'nilearn'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
