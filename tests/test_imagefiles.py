"""Shape and affine from the header alone: those of the voxels when they are read."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from transfer_risk.imagefiles import grid_of, load, load_all

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((4, 3, 2), "a.nii"),
        ((4, 3), "a.nii.gz"),
        ((4, 3, 2, 1), "a.nii"),
        ((4, 3, 1, 1, 1), "a.nii"),
        ((4, 3, 2, 5), "a.nii#3"),
        ((4, 3, 2, 1, 5), "a.nii#4"),
        ((4, 3, 2), "a.img"),
    ],
    ids=str,
)
def test_the_grid_is_that_of_the_voxels(tmp_path, shape, name):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    kind = nib.AnalyzeImage if name.endswith(".img") else nib.Nifti1Image
    nib.save(kind(data, AFFINE), tmp_path / name.partition("#")[0])
    (found, affine), (voxels, own) = (read(str(tmp_path / name)) for read in (grid_of, load))
    assert found == voxels.shape and len(found) == 3
    np.testing.assert_array_equal(affine, own)
    channel = data[..., int(name[-1])] if "#" in name else data
    np.testing.assert_array_equal(voxels.ravel(), channel.ravel())


def test_no_voxel_is_read(tmp_path):
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 7)), AFFINE), path)
    path.write_bytes(path.read_bytes()[:400])
    assert grid_of(str(path))[0] == (9, 8, 7)
    with pytest.raises(ValueError, match=r"a\.nii: cannot be read as an image"):
        load(str(path))


@pytest.mark.parametrize("read", [grid_of, load])
def test_files_without_a_grid_are_named(tmp_path, read):
    path = tmp_path / "a.nii"
    with pytest.raises(ValueError, match=r"a\.nii: no such file"):
        read(str(path))
    nib.save(nib.Nifti1Image(np.zeros((4, 3, 2, 2)), AFFINE), path)
    with pytest.raises(ValueError, match=r"must be a 3D image; got shape \(4, 3, 2, 2\)"):
        read(str(path))
    with pytest.raises(ValueError, match=r"a\.nii#2: must be a channel, from 0, of a 4D image"):
        read(f"{path}#2")
    image = nib.Nifti1Image(np.zeros((4, 3, 2)), AFFINE)
    image.header.set_xyzt_units("micron")
    nib.save(image, path)
    with pytest.raises(ValueError, match="must have its geometry in mm; its header says micron"):
        read(str(path))


@pytest.mark.parametrize("channel", ["", "#1"])
def test_zero_stays_zero_in_scaled_whole_numbers(tmp_path, channel):
    """nibabel's scaling to int16 has an offset here, which leaves -4e-5 of a background of 0."""
    rng = np.random.default_rng(0)
    data = np.where(rng.random((6, 5, 4, 2)) < 0.5, 0, rng.normal(size=(6, 5, 4, 2)))
    image = nib.Nifti1Image(data if channel else data[..., 1], AFFINE)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    stored = np.asarray(nib.load(tmp_path / "a.nii").dataobj)
    assert not (stored == 0).any()
    voxels, _ = load(f"{tmp_path / 'a.nii'}{channel}")
    assert ((voxels == 0) == (data[..., 1] == 0)).all()
    assert np.abs(voxels - data[..., 1]).max() < 1e-3


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mgz"])
def test_channels_of_one_file_are_those_read_one_by_one_and_it_is_opened_once(
    tmp_path, monkeypatch, ending
):
    data = np.random.default_rng(0).normal(size=(5, 4, 3, 4)).astype(np.float32)
    kind = nib.MGHImage if ending == ".mgz" else nib.Nifti1Image
    for name in "ab":
        nib.save(kind(data, np.diag([1.0, 2, 3, 1])), tmp_path / f"{name}{ending}")
        data = data[..., ::-1]
    paths = [
        f"{tmp_path / name}{ending}#{k}"
        for name, k in (*zip("aaa", "031", strict=True), *zip("bb", "12", strict=True))
    ]
    wanted = [load(path) for path in paths]
    opened = []
    real = nib.load
    monkeypatch.setattr(
        nib, "load", lambda name, **named: opened.append(name) or real(name, **named)
    )
    for (voxels, affine), (own, other) in zip(load_all(paths), wanted, strict=True):
        np.testing.assert_array_equal(voxels, own)
        np.testing.assert_array_equal(affine, other)
    assert [Path(name).name for name in opened] == [f"a{ending}", f"b{ending}"]
