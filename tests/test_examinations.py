import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

import transfer_risk as tr
from transfer_risk.channels import channel_note, channel_order, channels_read, expected_channels
from transfer_risk.examinations import examinations, write_predictions
from transfer_risk.prediction import prepare


class Brighter(nn.Module):
    """Class 1 where the second channel (or the only one) is brighter than the first (or than 0)."""

    def forward(self, images):
        first = images[:, :1] if images.shape[1] > 1 else torch.zeros_like(images)
        return torch.cat([first, images[:, -1:]], 1)


def source(*channels, **options):
    preprocessing = tr.Preprocessing(normalise="none")
    classes = ("background", "bright")
    return tr.Source("b", Brighter(), classes, channels, preprocessing=preprocessing, **options)


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((4, 4, 2), value, np.float32), np.eye(4)), path)
    return path


def content(path):
    return set(np.unique(np.asarray(nib.load(path).dataobj)))


@pytest.mark.parametrize(
    ("files", "channels", "expected"),
    [
        (["c_0000.nii.gz", "c_0001.nii.gz"], 2, {"c": [0, 1]}),
        (["c_0001.nii", "c_0000.nii.gz"], 2, {"c": [0, 1]}),
        (["c_0000.nii.gz"], 1, {"c": [0]}),
        (["c_0001.nii.gz"], 1, {"c_0001": [0]}),
        (["scan_2019.nii.gz", "scan_2020.nii.gz"], 2, {"scan_2019": [0], "scan_2020": [0]}),
        (["c_0001.nii.gz"], 2, {"c": [1]}),
        (["c.nii.gz", "c_0002.nii.gz"], 2, {"c": [0], "c_0002": [0]}),
        (["a/c_0000.nii.gz", "a/c_0000.nii.gz"], 2, {"c": [0]}),
        (["c_0000.mgz", "c_0001.MGZ"], 2, {"c": [0, 1]}),
        (["c_0000.img", "c_0001.hdr"], 2, {"c": [0, 1]}),
        (["c_0000.NII.GZ", "c_0001.Nii"], 2, {"c": [0, 1]}),
        (["c.gz", "d.nii.txt"], 2, {"c.gz": [0], "d.nii.txt": [0]}),
    ],
)
def test_only_the_numbers_of_the_sources_channels_join_files(files, channels, expected):
    made = examinations(files, channels)
    assert {name: sorted(found) for name, found in made.items()} == expected


@pytest.mark.parametrize(
    ("files", "channels"),
    [
        (("a/t1.nii.gz", "b/t1.nii.gz"), 1),
        (("a/t1.nii.gz", "b/t1.nii.gz"), 2),
        (("a/c_0000.nii.gz", "b/c_0001.nii.gz"), 2),
        (("c_0000.nii", "c_0000.nii.gz"), 2),
        (("c.nii.gz", "c_0000.nii.gz"), 1),
    ],
)
def test_files_that_would_become_one_map_are_refused(files, channels):
    words = f"{files[0]} and {files[1]} would both become"
    with pytest.raises(ValueError, match=re.escape(words)):
        examinations(files, channels)


def test_channels_are_taken_by_number_not_by_place(tmp_path):
    dark, bright = save(tmp_path / "x_0000.nii.gz", 1), save(tmp_path / "x_0001.nii.gz", 2)
    paths, failed = write_predictions(source("T1", "T2"), [bright, dark], tmp_path / "out")
    assert [p.name for p in paths] == ["x.nii.gz"] and not failed
    assert content(paths[0]) == {1}


def test_background_is_written_as_labels_say(tmp_path):
    dark, bright = save(tmp_path / "x.nii.gz", 0), save(tmp_path / "y.nii.gz", 2)
    model = source("T1", labels={"background": 7, "bright": 0})
    paths, failed = write_predictions(model, [dark, bright], tmp_path / "out")
    assert not failed and [content(p) for p in paths] == [{7}, {0}]


def test_a_missing_first_channel_is_named_and_the_others_are_done(tmp_path):
    alone = save(tmp_path / "a_0001.nii.gz", 2)
    whole = [save(tmp_path / f"b_000{k}.nii.gz", 2 - k) for k in (0, 1)]
    paths, failed = write_predictions(source("T1", "T2"), [alone, *whole], tmp_path / "out")
    assert [p.name for p in paths] == ["b.nii.gz"] and content(paths[0]) == {0}
    (words,) = failed
    assert f"one file for each of the channels ['T1', 'T2']; got 1 ({alone})" in words


def test_channels_that_are_stood_in_for_are_those_without_a_file(tmp_path):
    second, first = save(tmp_path / "a_0001.nii.gz", 2), save(tmp_path / "b_0000.nii.gz", 2)
    model, told = source("T1", "T2", missing_channels="zero"), []
    paths, failed = write_predictions(model, [second, first], tmp_path / "out", tell=told.append)
    assert not failed and [content(p) for p in paths] == [{1}, {0}]
    assert [re.search("for the channels (.*), for which there is no", n)[1] for n in told] == [
        "['T1']",
        "['T2']",
    ]


def test_a_model_that_was_trained_with_stand_ins_wants_the_channels_of_its_task(tmp_path):
    image, told = save(tmp_path / "anything.nii.gz", 2), []
    model = source("T1", "T2", missing_channels="zero", trained={"channels_read": ["T2"]})
    paths, failed = write_predictions(model, [image], tmp_path / "out", tell=told.append)
    assert not failed and content(paths[0]) == {1} and "zeros for the channels ['T1']" in told[0]
    with pytest.raises(ValueError, match=r"for each of the channels \['T2'\]; got 2"):
        tr.predict(model, [image, image])
    two = [save(tmp_path / f"c_000{k}.nii.gz", k + 2) for k in (0, 1)]  # which of them is T2?
    paths, (words,) = write_predictions(model, two, tmp_path / "out")
    assert not paths and "for each of the channels ['T2']; got 2" in words
    paths, failed = write_predictions(model, two[1:], tmp_path / "out")
    assert not failed and [p.name for p in paths] == ["c.nii.gz"]


@pytest.mark.parametrize("missing", ["", "zero"])
def test_nothing_is_said_or_moved_where_no_channel_is_missing(tmp_path, missing):
    files, told = [save(tmp_path / f"a_000{k}.nii.gz", k + 2) for k in (0, 1)], []
    trained = {"channels_read": list(channels_read(source("T1", "T2"), ("T2", "FLAIR", "T1")))}
    model = source("T1", "T2", missing_channels=missing, trained=trained)
    paths, failed = write_predictions(model, files, tmp_path / "out", tell=told.append)
    assert not failed and content(paths[0]) == {1} and not told
    lone, failed = write_predictions(
        source("T1", "T2"), files[1:], tmp_path / "lone", tell=told.append
    )
    assert not lone and failed and not told


@pytest.mark.parametrize(
    ("how", "channels", "expected"),
    [
        ("", ("T2", "T1"), ()),
        ("zero", ("T2", "T1", "FLAIR"), ()),
        ("zero", ("FLAIR", "T2"), ("T2",)),
        ("repeat", ("FLAIR", "T2"), ("T2",)),
        ("repeat", ("CT",), ("CT",)),
        ("repeat", ("CT", "PET"), ()),  # by position
    ],
)
def test_the_channels_that_are_read_beside_stand_ins(how, channels, expected):
    model = source("T1", "T2", missing_channels=how)
    assert channels_read(model, channels) == expected
    if expected:
        trained = replace(model, trained={"channels_read": list(expected)})
        order = channel_order(model, channels)
        assert [channels[k] for k in order if k >= 0] == [
            expected[k] for k in channel_order(trained, expected_channels(trained)) if k >= 0
        ]


def test_capital_letters_of_channels_do_not_matter():
    model = source("T1", "FLAIR")
    assert channel_order(model, ("flair", "t1")) == [1, 0]  # not by position
    assert not channel_note(model, ("flair", "t1"))
    assert channel_order(replace(model, missing_channels="zero"), ("Flair",)) == [-1, 0]


def test_a_model_that_was_trained_with_stand_ins_reads_no_more_where_a_task_has_more():
    def trained(how, *read):
        return source("T1", "T2", missing_channels=how, trained={"channels_read": list(read)})

    assert channel_order(trained("zero", "T1"), ("T1", "T2")) == [0, -1]
    assert channel_order(trained("repeat", "T2"), ("T1", "T2")) == [1, 1]
    assert channel_order(trained("repeat", "CT"), ("PET", "CT")) == [1, 1]  # not by position
    note = channel_note(trained("zero", "T1"), ("T1", "T2"))
    assert note.endswith("was given zeros for the channels ['T2'], as in its fine-tuning")
    assert channel_note(trained("zero", "T1"), ("T1",)).endswith("['T2'], which the task lacks")


def test_4d_files_and_their_channels_are_one_examination(tmp_path):
    data = np.stack([np.full((4, 4, 2), k, np.float32) for k in (1, 3)], -1)
    path = tmp_path / "m.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    vector = tmp_path / "v" / "m.nii.gz"
    vector.parent.mkdir()
    nib.save(nib.Nifti1Image(data[:, :, :, None], np.eye(4)), vector)  # as NIfTI has vectors
    for images in ([path], [vector], [f"{path}#1", f"{path}#0"]):
        paths, failed = write_predictions(source("T1", "T2"), images, tmp_path / "out")
        assert not failed and [p.name for p in paths] == ["m.nii.gz"] and content(paths[0]) == {1}
    (one,), _ = write_predictions(source("T1"), [f"{path}#1"], tmp_path / "one")
    assert one.name == "m.nii.gz"
    with pytest.raises(ValueError, match="is one of the images"):
        write_predictions(source("T1"), [f"{path}#1"], tmp_path)


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        (nib.MGHImage, ".mgz"),
        (nib.Nifti1Image, ".NII.GZ"),
        (nib.Nifti1Pair, ".img"),
        (nib.AnalyzeImage, ".hdr"),
    ],
)
def test_files_of_all_kinds_are_channels_of_one_examination(tmp_path, kind, ending):
    files = [tmp_path / f"c_000{k}{ending}" for k in (0, 1)]
    for k, path in enumerate(files):
        nib.save(kind(np.full((4, 4, 2), k + 1, np.float32), np.eye(4)), path)
    everything = sorted(p for p in tmp_path.iterdir() if p.is_file())  # with both files of a pair
    for images in (files, everything):
        paths, failed = write_predictions(source("T1", "T2"), images, tmp_path / "out")
        assert not failed and [p.name for p in paths] == ["c.nii.gz"] and content(paths[0]) == {1}


def save_4d(path, *values):
    data = np.stack([np.full((4, 4, 2), k, np.float32) for k in values], -1)
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def test_a_4d_file_has_the_channels_that_a_model_with_stand_ins_wants(tmp_path):
    trained = {"channels_read": ["T1", "T2"]}
    channels = ("FLAIR", "T1", "T1ce", "T2")
    model = source(*channels, missing_channels="zero", trained=trained)
    two = save_4d(tmp_path / "two.nii.gz", 1, 3)
    parts = [f"{two}#0", f"{two}#1"]
    for images in ([two], parts):
        paths, failed = write_predictions(model, images, tmp_path / "out")
        assert not failed and [p.name for p in paths] == ["two.nii.gz"]
        assert content(paths[0]) == {1}  # T2 is brighter than FLAIR, which is 0
    four = save_4d(tmp_path / "four.nii.gz", 1, 1, 1, 3)
    _, (words,) = write_predictions(model, [four], tmp_path / "out")
    assert "wants one file for each of the channels ['T1', 'T2']; got 4 (" in words


@pytest.mark.parametrize(
    ("channels", "number", "trained"),
    [
        (("T1",), 2, ()),
        (("T1", "T2"), 3, ()),
        (("T1", "T2", "T3"), 2, ()),
        (("T1", "T2"), 3, ("T2",)),
    ],
)
def test_a_4d_file_with_other_channels_is_named_with_what_is_wanted(
    tmp_path, channels, number, trained
):
    path = save_4d(tmp_path / "m.nii.gz", *range(number))
    fine = [save(tmp_path / f"x_000{k}.nii.gz", 2) for k in range(len(trained or channels))]
    model = source(*channels, missing_channels="zero", trained={"channels_read": list(trained)})
    paths, (words,) = write_predictions(model, [path, *fine], tmp_path / "out")
    assert [p.name for p in paths] == ["x.nii.gz"]
    wanted = list(trained or channels)
    assert words.startswith(
        f"{path}: has {number} channels; source b wants {len(wanted)}, {wanted};"
    )


@pytest.mark.parametrize("part", ["flat.nii.gz#1", "m.nii.gz#2"])
def test_a_channel_that_is_not_there_is_named(tmp_path, part):
    save(tmp_path / "flat.nii.gz", 1)
    nib.save(nib.Nifti1Image(np.ones((4, 4, 2, 2), np.float32), np.eye(4)), tmp_path / "m.nii.gz")
    _, (words,) = write_predictions(source("T1"), [tmp_path / part], tmp_path / "out")
    assert words.startswith(f"{tmp_path / part}: must be a channel, from 0, of a 4D image; ")


def test_too_few_channels_name_the_files(tmp_path):
    path = save(tmp_path / "t1.nii.gz", 1)
    paths, (words,) = write_predictions(source("T1", "T2"), [path], Path(tmp_path / "out"))
    assert not paths and f"got 1 ({path}); name those of one examination" in words
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("probabilities", [False, True])
def test_an_image_is_never_written_over(tmp_path, probabilities):
    path = save(tmp_path / ("x_probabilities.nii.gz" if probabilities else "x.nii.gz"), 1)
    other = save(tmp_path / "here" / "x.nii.gz", 1)
    before = path.read_bytes()
    folder = tmp_path / "here" / ".."
    with pytest.raises(ValueError, match=r"is one of the images; choose another folder"):
        write_predictions(
            source("T1"), [path, other][: 1 + probabilities], folder, probabilities=probabilities
        )
    assert path.read_bytes() == before and len(list(tmp_path.rglob("*.nii.gz"))) == 2


def test_a_prediction_is_written_again_and_a_label_is_not(tmp_path):
    path = save(tmp_path / "images" / "x.nii.gz", 3)
    out = tmp_path / "labels"
    for _ in range(2):
        paths, _ = write_predictions(source("T1"), [path], out, probabilities=True)
        assert paths == [out / "x.nii.gz"]
    for name in ("x.nii.gz", "x_probabilities.nii.gz"):
        before = save(out / name, 0).read_bytes()
        with pytest.raises(
            ValueError, match=rf"{name}: is there, and no prediction; choose another"
        ):
            write_predictions(source("T1"), [path], out, probabilities=True)
        assert (out / name).read_bytes() == before
        (out / name).write_bytes(b"no image")
        with pytest.raises(ValueError, match="is there, and no prediction"):
            write_predictions(source("T1"), [path], out, probabilities=True)
        (out / name).unlink()


def test_probabilities_of_an_earlier_prediction_do_not_stand_beside_a_new_one(tmp_path):
    path, out = save(tmp_path / "x.nii.gz", 3), tmp_path / "out"
    write_predictions(source("T1"), [path], out, probabilities=True)
    assert (out / "x_probabilities.nii.gz").is_file()
    write_predictions(source("T1"), [path], out)
    assert [p.name for p in out.iterdir()] == ["x.nii.gz"]
    other = save(out / "x_probabilities.nii.gz", 0)
    write_predictions(source("T1"), [path], out)
    assert other.is_file()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 2, 1)])
def test_label_maps_have_the_stored_shape_of_the_image(tmp_path, shape):
    path = tmp_path / "x.nii.gz"
    nib.save(nib.Nifti1Image(np.full(shape, 3, np.float32), np.eye(4)), path)
    (made,), failed = write_predictions(source("T1"), [path], tmp_path / "out")
    assert not failed and nib.load(made).shape == shape and content(made) == {1}
    channels = [tmp_path / f"y_000{k}.nii.gz" for k in range(2)]
    for k, channel in enumerate(channels):
        nib.save(nib.Nifti1Image(np.full(shape, k + 1, np.float32), np.eye(4)), channel)
    (made,), failed = write_predictions(source("T1", "T2"), channels, tmp_path / "out")
    assert not failed and nib.load(made).shape == shape


def test_what_cannot_be_predicted_is_named(tmp_path):
    black, fine = save(tmp_path / "a.nii.gz", 0), save(tmp_path / "b.nii.gz", 3)
    plain = source("T1")

    def refusing(volume):
        if not volume.image.any():
            raise ValueError("image must not be 0 everywhere")
        return prepare(plain, volume)

    model = replace(plain, prepare=refusing)
    paths, (words,) = write_predictions(model, [black, fine], tmp_path / "out")
    assert [p.name for p in paths] == ["b.nii.gz"]
    assert words == f"{black}: image must not be 0 everywhere"


@pytest.mark.parametrize("number", ["0001", "0007"])
def test_a_number_beyond_the_channels_is_no_other_examination(tmp_path, number):
    files = [tmp_path / f"c_{k}.nii.gz" for k in ("0000", number)]
    with pytest.raises(
        ValueError,
        match=rf"c_{number}\.nii\.gz: must be one of the source's channels 0 to 0 of c_0000",
    ):
        examinations(files, 1)
    assert set(examinations(files[1:], 1)) == {f"c_{number}"}  # an examination of that name
    other = tmp_path / "other" / files[1].name
    assert set(examinations([files[0], other], 1)) == {"c", f"c_{number}"}


def test_a_channel_of_a_file_that_the_source_has_no_number_for_is_refused(tmp_path):
    four = save_4d(tmp_path / "m.nii.gz", 5, 1, 2, 3)
    model = source("T1", "T1ce", "T2")
    said = (
        "m.nii.gz#3: must be #0 to #2, by the order of the source's channels; write those that it"
    )
    with pytest.raises(ValueError, match=said):
        write_predictions(model, [f"{four}#{k}" for k in (1, 2, 3)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    paths, failed = write_predictions(model, [f"{four}#{k}" for k in (2, 0, 1)], tmp_path / "out")
    assert not failed and content(paths[0]) == {0}  # T1 is 5, T2 is 2
    lone = source("T1", "T2", missing_channels="zero", trained={"channels_read": ["T2"]})
    paths, failed = write_predictions(lone, [f"{four}#3"], tmp_path / "one")
    assert not failed and content(paths[0]) == {1}


def test_files_are_numbered_as_new_images_are_else_as_the_sources_channels(tmp_path):
    model = source(
        "T1", "T1ce", "FLAIR", missing_channels="zero", trained={"channels_read": ["FLAIR", "T1"]}
    )
    for names, expected in (((0, 2), {0}), ((2, 0), {1}), ((0, 1), {1})):
        images = [
            save(tmp_path / f"{names}" / f"c_000{k}.nii.gz", v)
            for k, v in zip(names, (2, 1), strict=True)
        ]
        paths, failed = write_predictions(model, images, tmp_path / f"{names}" / "out")
        assert not failed and content(paths[0]) == expected
