"""Saved probability maps: every form gives the same source, and what bad files say."""

import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.lib import format as npy

import transfer_risk as tr
from transfer_risk.adapters.pickles import load_plain
from transfer_risk.prediction import predict_volume
from transfer_risk.volumes import read_images

HOME = Path(__file__).parent / "fixtures" / "nnunet"
SAVED = HOME / "sagittal" / "predicted"
SHAPE = (5, 6, 4)


@pytest.fixture
def theta():
    """Probabilities (3, *SHAPE)."""
    rng = np.random.default_rng(0)
    raw = rng.random((3, *SHAPE)).astype(np.float32)
    return raw / raw.sum(0)


def described(folder, text):
    (folder / "source.toml").write_text(
        f'format = 1\n{text}\n[network]\ntarget = "probabilities"\n'
    )
    return tr.load_source(folder)


def save_npz(folder, name="probabilities", case="a", **arrays):
    np.savez_compressed(folder / f"{case}.npz", **(arrays or {name: np.zeros((2, 3, 3, 3), "f4")}))


def test_what_nnunet_saved_equals_its_own_model():
    source = tr.load_source(SAVED)
    model = tr.load_source(HOME / "sagittal" / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert source.classes == ("background", "shell", "core") == model.classes
    for case in ("test_0", "test_1"):
        files = sorted((HOME / "sagittal" / "imagesTr").glob(f"{case}_*"))
        volume = read_images(tuple(map(str, files)))
        np.testing.assert_allclose(source.stored(case), predict_volume(model, volume), atol=1e-2)


def test_version_1_is_put_back_into_the_image(tmp_path, theta):
    inner = theta[:, 1:4, 2:6, 1:3].transpose(0, 3, 2, 1).astype(np.float16)  # z, y, x
    save_npz(tmp_path, softmax=inner)
    properties = OrderedDict(
        original_size_of_raw_data=np.array(SHAPE[::-1]),
        crop_bbox=[[1, 3], [2, 6], [1, 4]],
        itk_origin=(0.0, 1.0, 2.0),
        classes=np.array([-1, 0, 1], dtype=np.float32),
    )
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(properties, protocol=protocol))
        made = tr.load_source(tmp_path).stored("a")
        assert made.shape == (3, *SHAPE)
        np.testing.assert_allclose(made[:, 1:4, 2:6, 1:3], theta[:, 1:4, 2:6, 1:3], atol=2e-3)
        outside = np.ones(SHAPE, bool)
        outside[1:4, 2:6, 1:3] = False
        assert (made[0][outside] == 1).all() and (made[1:, outside] == 0).all()
    (tmp_path / "a.pkl").unlink()
    assert tr.load_source(tmp_path).stored("a").shape == (3, 3, 4, 2)  # the label's own geometry
    properties["crop_bbox"] = [[1, 4], [2, 6], [1, 4]]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(properties))
    with pytest.raises(
        ValueError, match=r"a.npz: has the shape \(2, 4, 3\), which is not the crop"
    ):
        tr.load_source(tmp_path).stored("a")


def test_images_that_nnunet_turned_are_turned_back(tmp_path, theta):
    affine = np.diag([-1.0, 1, -2, 1])
    turned = theta[:, ::-1, :, ::-1]
    save_npz(tmp_path, probabilities=turned.transpose(0, 3, 2, 1))
    stuff = {"original_affine": affine, "reoriented_affine": np.diag([1.0, 1, 2, 1])}
    content = {"nibabel_stuff": stuff, "shape_before_cropping": SHAPE}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    np.testing.assert_allclose(tr.load_source(tmp_path).stored("a"), theta, atol=1e-6)


def test_every_form_gives_the_same(tmp_path, theta):
    classes = ("background", "in_ner", "rim")
    forms = {name: tmp_path / name for name in ("npz", "npy", "four", "own", "each", "part")}
    for folder in forms.values():
        folder.mkdir()
    save_npz(forms["npz"], probabilities=theta.transpose(0, 3, 2, 1))
    np.save(forms["npy"] / "a.npy", theta.astype(np.float64))
    whole = nib.Nifti1Image(np.moveaxis(theta, 0, -1), np.eye(4))
    nib.save(whole, forms["four"] / "a.nii.gz")
    nib.save(whole, forms["own"] / "a_probabilities.nii.gz")
    nib.save(nib.Nifti1Image(theta[0], np.eye(4)), forms["own"] / "a.nii.gz")
    for name, channel in zip(classes, theta, strict=True):
        nib.save(nib.Nifti1Image(channel, np.eye(4)), forms["each"] / f"a_{name}.nii.gz")
        if name != "background":
            nib.save(nib.Nifti1Image(channel, np.eye(4)), forms["part"] / f"a_{name}.nii")
    for folder in forms.values():
        source = described(folder, f"classes = {list(classes)}")
        assert source.classes == classes and source.channels == ()
        np.testing.assert_allclose(source.stored("a"), theta, atol=1e-6)


def test_classes_that_nobody_names_are_numbered_and_reported(tmp_path, theta):
    np.save(tmp_path / "a.npy", theta)
    source = tr.load_source(tmp_path)
    assert source.classes == ("background", "class1", "class2") and source.name == tmp_path.name
    assert "3 channels taken for background, class1, class2" in source.notes[0]


def test_regions_become_exclusive_classes(tmp_path):
    p = np.array([0.9, 0.5], dtype=np.float32).reshape(2, 1, 1, 1)
    np.save(tmp_path / "a.npy", p)
    (tmp_path / "source.toml").write_text(
        'format = 1\nclasses = ["background", "whole", "core"]\n[network]\ntarget = "probabilities"\nregions = true\n'
    )
    made = tr.load_source(tmp_path).stored("a")
    np.testing.assert_allclose(made.ravel(), [0.1 * 0.5, 0.9 * 0.5, 0.5], rtol=1e-5)


def test_regions_may_be_files_of_their_own(tmp_path):
    for name, value in (("whole", 0.9), ("core", 0.5), ("background", 0.1)):
        image = nib.Nifti1Image(np.full((2, 3, 4), value, np.float32), np.eye(4))
        nib.save(image, tmp_path / f"a_{name}.nii.gz")
    (tmp_path / "source.toml").write_text(
        'format = 1\nclasses = ["background", "whole", "core"]\n[network]\ntarget = "probabilities"\nregions = true\n'
    )
    made = tr.load_source(tmp_path).stored("a")
    assert made.shape == (3, 2, 3, 4)
    np.testing.assert_allclose(made[:, 0, 0, 0], [0.1 * 0.5, 0.9 * 0.5, 0.5], rtol=1e-5)


def test_there_is_no_network(tmp_path, theta):
    np.save(tmp_path / "a.npy", theta)
    source = tr.load_source(tmp_path)
    with pytest.raises(ValueError, match="saved probabilities has no network"):
        source.network(torch.zeros(1))
    with pytest.raises(ValueError, match="nothing but saved probabilities; it cannot predict"):
        tr.predict(source, ["a.nii.gz"])
    with pytest.raises(
        ValueError, match="has no probabilities of case b; it has 1 cases such as a"
    ):
        source.stored("b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t * 3, "must hold probabilities in"),
        (lambda t: t * np.nan, "must hold probabilities in"),
        (
            lambda t: t / 2,
            "probabilities must sum to 1 over the classes; they sum to.*regions = true",
        ),
        (lambda t: t[:2], "must have 3 channels for 3 classes; has 2"),
        (lambda t: t[0], r"must hold a 4D array; declares the shape \(5, 6, 4\)"),
        (lambda t: (9 * t).astype(int), "must hold floating-point probabilities; declares int64"),
        (lambda t: t.astype(object), "must hold floating-point probabilities; declares object"),
    ],
)
@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_arrays_that_are_no_probabilities(change, words, ending, tmp_path, theta):
    made = change(theta)
    if ending == "npy":
        np.save(tmp_path / "a.npy", made)
    else:
        save_npz(tmp_path, probabilities=made)
    with pytest.raises(ValueError, match=rf"a.{ending}: {words}"):
        described(tmp_path, 'classes = ["background", "b", "c"]').stored("a")


def header(shape, descr="<f4"):
    """First bytes of an .npy file that declares an array."""
    from io import BytesIO

    stream = BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_headers_that_declare_more_than_the_file_holds(tmp_path):
    bomb = header((3, 10**5, 10**5, 10**5))
    (tmp_path / "a.npy").write_bytes(bomb + b"0" * 100)
    with pytest.raises(
        ValueError, match=r"a.npy: declares 12000000000000000 bytes of data, which its"
    ):
        tr.load_source(tmp_path)
    (tmp_path / "a.npy").unlink()
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("probabilities.npy", bomb + b"0" * 100)
    with pytest.raises(ValueError, match=r"bytes of data, which its 2[0-9]{2} bytes cannot hold"):
        tr.load_source(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("probabilities.npy", header((3, 4, 4, 4)) + b"0" * 100)
    with pytest.raises(ValueError, match=r"declares an array \(3, 4, 4, 4\) of 768 bytes; has 100"):
        tr.load_source(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(
            "probabilities.npy", header((3, 4, 4, 4)).replace(b"\x01\x00", b"\x03\x00", 1)
        )
    with pytest.raises(ValueError, match=r"must be of npy format 1 or 2; is of \(3, 0\)"):
        tr.load_source(tmp_path)


def test_a_nifti_header_that_declares_more_than_the_file_holds(tmp_path, theta):
    path = tmp_path / "a_probabilities.nii"
    nib.save(nib.Nifti1Image(np.moveaxis(theta, 0, -1), np.eye(4)), path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<5h", data, 40, 4, 30000, 30000, 30000, 3)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a_probabilities.nii: declares 324000000000000 bytes"):
        tr.load_source(tmp_path)


def test_more_voxels_than_the_geometry_beside(tmp_path):
    shutil.copytree(SAVED, tmp_path / "saved")
    content = load_plain(SAVED / "test_0.pkl") | {"shape_before_cropping": (5, 5, 5)}
    (tmp_path / "saved" / "test_0.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(
        ValueError, match=r"test_0.npz: must have the 125 voxels of its .pkl; declares"
    ):
        tr.load_source(tmp_path / "saved").stored("test_0")
    (tmp_path / "saved" / "test_0.pkl").write_bytes(pickle.dumps({"nibabel_stuff": 3}))
    with pytest.raises(ValueError, match=r"test_0.npz: argument of type 'int'"):
        tr.load_source(tmp_path / "saved").stored("test_0")
    (tmp_path / "saved" / "test_0.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"test_0.pkl: must hold a table; holds a list"):
        tr.load_source(tmp_path / "saved").stored("test_0")


class Opens:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


class Huge:
    """An empty array of a large shape."""

    def __reduce__(self):
        rebuild = np.zeros(0).__reduce__()[0]
        return rebuild, (np.ndarray, (10**12,), b"b")


class Bytes:
    """Bytes in a way that numpy does not write them."""

    def __reduce__(self):
        import _codecs

        return _codecs.encode, ("abc", "rot13")


def test_pickles_are_read_as_plain_data_alone(tmp_path):
    path, trace = tmp_path / "a.pkl", tmp_path / "trace"
    plain = {"a": [1, (2.5, None)], "b": np.arange(3), "c": np.float32(1), "d": OrderedDict(e="f")}
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps(plain, protocol=protocol))
        made = load_plain(path)
        assert made["a"] == plain["a"] and made["b"].tolist() == [0, 1, 2] and made["d"]["e"] == "f"
    for content, words in (
        (Opens(trace), "is a pickle that wants .*open; only plain containers and numpy arrays"),
        (Huge(), "is not whole or damaged .*declares an array of shape"),
        (Bytes(), "is not whole or damaged .*in another way than numpy does"),
        (torch.zeros(2), r"is a pickle that wants torch"),
    ):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=f"a.pkl: {words}"):
            load_plain(path)
    assert not trace.exists()
    path.write_bytes(pickle.dumps(plain)[:40])
    with pytest.raises(ValueError, match=r"a.pkl: is not whole or damaged"):
        load_plain(path)
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(ValueError, match="must be at most 67108864 bytes; has 67108865"):
        load_plain(path)


def test_folders_that_cannot_be_read(tmp_path, theta):
    save_npz(tmp_path, other=np.zeros(3))
    with pytest.raises(ValueError, match=r"a.npz: must hold probabilities or softmax; holds other"):
        tr.load_source(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match=r"a.npz: is not whole or damaged"):
        tr.load_source(tmp_path)
    (tmp_path / "a.npz").unlink()
    with pytest.raises(ValueError, match=r"has no probabilities; they must be <case>.npz"):
        described(tmp_path, 'classes = ["background", "b"]')
    np.save(tmp_path / "a.npy", theta)
    save_npz(tmp_path)
    with pytest.raises(
        ValueError, match=r"case a must have one file of probabilities; has a.npy and a.npz"
    ):
        tr.load_source(tmp_path)
    (tmp_path / "a.npz").unlink(), (tmp_path / "source.toml").unlink()
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match=r"dataset.json: is no dataset.json of nnU-Net"):
        tr.load_source(tmp_path)
    (tmp_path / "source.toml").write_text(
        'format = 1\n[network]\ntarget = "probabilities"\nx = 1\n'
    )
    with pytest.raises(ValueError, match="saved probabilities does not know x"):
        tr.load_source(tmp_path)


def test_one_file_for_each_class_has_to_be_whole(tmp_path, theta):
    nib.save(nib.Nifti1Image(theta[2], np.eye(4)), tmp_path / "a_c.nii.gz")
    with pytest.raises(ValueError, match="case a has no file of class b"):
        described(tmp_path, 'classes = ["background", "b", "c"]')
    nib.save(nib.Nifti1Image(theta[1], np.diag([-1, 1, 1, 1])), tmp_path / "a_b.nii.gz")
    with pytest.raises(
        ValueError, match=r"a_b.nii.gz: has other axis directions than .*a_c.nii.gz"
    ):
        described(tmp_path, 'classes = ["background", "b", "c"]').stored("a")
    nib.save(nib.Nifti1Image(theta[1][:2], np.eye(4)), tmp_path / "a_b.nii.gz")
    with pytest.raises(ValueError, match="its classes must have one shape"):
        described(tmp_path, 'classes = ["background", "b", "c"]').stored("a")
    nib.save(nib.Nifti1Image(theta[1][:1, 0], np.eye(4)), tmp_path / "a_b.nii.gz")
    with pytest.raises(ValueError, match=r"a_b.nii.gz: must be 3D; has the shape \(1, 4\)"):
        described(tmp_path, 'classes = ["background", "b", "c"]').stored("a")
    (tmp_path / "a_b.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a_b.nii.gz: is not whole or damaged"):
        described(tmp_path, 'classes = ["background", "b", "c"]')


def test_a_class_may_end_as_another_does(tmp_path, theta):
    for name, channel in zip(("background", "core_tumor", "tumor"), theta, strict=True):
        nib.save(nib.Nifti1Image(channel, np.eye(4)), tmp_path / f"a_{name}.nii.gz")
    source = described(tmp_path, 'classes = ["background", "core_tumor", "tumor"]')
    np.testing.assert_allclose(source.stored("a"), theta, atol=1e-6)
