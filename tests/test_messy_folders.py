"""Data folders as people have them: scaled labels, NaN, odd JSON, names of any script, missing and stray files."""

import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from folders import LABELS, decathlon, nnunet, pairs, refused, save, tasks

import transfer_risk as tr
from transfer_risk.adapters.nnunet.plans import labels_of
from transfer_risk.datasetjson import whole
from transfer_risk.imagefiles import load
from transfer_risk.layouts.dataset import slug
from transfer_risk.volumes import read


def test_label_values_with_a_scale_factor_are_the_whole_numbers_that_they_mean(tmp_path):
    root = pairs(tmp_path / "data")
    for name in "abc":
        save(root / "labels" / f"{name}.nii.gz", LABELS.astype(np.int16) * 50, slope=1 / 50)
    stored = np.unique(nib.load(root / "labels" / "a.nii.gz").dataobj)
    assert stored.astype(int).tolist() == [0, 0, 1]  # 0.99999998 and 1.99999996
    task = tr.load_task(tr.write_tasks(root, tmp_path / "t")[0])
    assert task.labels == {"label1": (1,), "label2": (2,)}
    np.testing.assert_array_equal(read(task.cases[0], task).labels, LABELS)


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "nan"), (np.inf, "inf"), (0.5, "0.5"), (1.01, "1.01")]
)
def test_a_label_file_that_holds_no_whole_numbers_is_named(tmp_path, value, words):
    root = pairs(tmp_path / "data")
    task = tr.write_tasks(root, tmp_path / "before")[0]
    labels = LABELS.astype(np.float32)
    labels[0, 0, 0] = value
    save(root / "labels" / "b.nii.gz", labels)
    said = refused(root, tmp_path / "t")
    assert f"b.nii.gz: must hold whole numbers, one for each class; got {words}; set" in said
    case = next(c for c in tr.load_task(task).cases if c.id == "b")
    with pytest.raises(ValueError, match=r"labels/b\.nii\.gz: has label values outside .*" + words):
        read(case, tr.load_task(task))


def test_a_value_that_file_pairs_get_later_is_no_background(tmp_path):
    root = pairs(tmp_path / "data")
    one, two = tr.write_tasks(root, tmp_path / "t", binary=True)
    assert "background = [\n    0,\n    2,\n]" in one.read_text()
    assert tr.load_task(one).background == (0, 2) and tr.load_task(two).background == (0, 1)
    save(root / "labels" / "b.nii.gz", np.where(LABELS == 2, 8, LABELS).astype(np.uint8))
    task = tr.load_task(one)
    assert task.background == (0, 2)
    with pytest.raises(ValueError, match=r"labels/b\.nii\.gz: has label values outside .* 8 \(10 "):
        read(task.cases[1], task)
    found = [f.found for f in tr.diagnose(one) if f.severity == "error" and f.check == "labels"]
    assert found == ["label value 8 (10 voxels in 1 of 3 cases) is declared nowhere"]


@pytest.mark.parametrize("without", ["background", r"\[labels\]\nlabel2"])
def test_what_a_task_of_file_pairs_does_not_say_is_read_from_the_label_files(tmp_path, without):
    root = pairs(tmp_path / "data")
    path = tr.write_tasks(root, tmp_path / "t", binary=True)[1]
    said = tr.load_task(path)
    text = re.sub(without + r" = \[.*?\]\n", "", path.read_text(), flags=re.S)
    assert text != path.read_text()
    path.write_text(text)
    task = tr.load_task(path)
    assert (task.labels, task.background) == (said.labels, said.background)
    (root / "labels" / "b.nii.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"labels/b\.nii\.gz: cannot be read as an image"):
        tr.load_task(path)


def test_a_task_of_file_pairs_that_says_all_is_loaded_without_reading_them(tmp_path):
    root = pairs(tmp_path / "data")
    path = tr.write_tasks(root, tmp_path / "t")[0]
    (root / "labels" / "b.nii.gz").write_bytes(b"")
    task = tr.load_task(path)
    assert task.labels == {"label1": (1,), "label2": (2,)} and task.background == (0,)


@pytest.mark.parametrize("text", ["null", "5", "[]", '"x"'])
def test_a_dataset_json_of_any_subfolder_is_an_object(tmp_path, text):
    nnunet(tmp_path / "data" / "good")
    bad = tmp_path / "data" / "other" / "dataset.json"
    bad.parent.mkdir()
    bad.write_text(text)
    said = refused(tmp_path / "data", tmp_path / "t")
    assert f"{bad}: must be a JSON object that describes a data set; got {text}; mend" in said


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "5", "{}", "[3]", '[{"train": []}]', '[{"val": 3}]', '[{"val": [3]}]'),
        '[{"val": ["c0"]}, {"val": "c1"}]',
    ],
)
def test_splits_that_are_none_are_named(tmp_path, text):
    root = nnunet(tmp_path / "data")
    (root / "splits_final.json").write_text(text)
    said = refused(root, tmp_path / "t")
    assert "splits_final.json: must be a list of folds such as" in said
    assert f"; got {text}; mend it, or remove it" in said


def test_splits_that_hold_out_an_unknown_case_are_refused_before_a_task_is_written(tmp_path):
    root = nnunet(tmp_path / "data")
    (root / "splits_final.json").write_text(json.dumps([{"train": ["c0"], "val": ["c1", "c9"]}]))
    said = refused(root, tmp_path / "t")
    assert "data: splits_final.json holds out 'c9', which is no labelled case" in said
    assert "mend it, or move it away for a split of transfer-risk's own" in said
    (root / "splits_final.json").rename(tmp_path / "away")
    (path,) = tr.write_tasks(root, tmp_path / "t", fold=(0, 3))
    assert len(tr.load_task(path).test) == 1


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"channel_names": {"T1": 0}},
            'number of a channel in channel_names must be a whole number; got "T1"',
        ),
        (
            {"channel_names": ["T1"]},
            'channel_names must be an object such as {"0": "T1"}; got ["T1"]',
        ),
        (
            {"labels": {"0": "background", "1": "x"}},
            "value of class '0' must be a whole number; got \"background\"",
        ),
        (
            {"labels": {"background": 0, "x": 1.5}},
            "value of class 'x' must be a whole number; got 1.5",
        ),
        (
            {"labels": {"background": 0, "x": 1, "ignore": None}},
            "value of ignore in labels must be a whole number; got null",
        ),
    ],
)
def test_a_dataset_json_with_other_values_is_named(tmp_path, more, words):
    said = refused(nnunet(tmp_path / "data", more=more), tmp_path / "t")
    assert "data/dataset.json: " in said and words in said


@pytest.mark.parametrize(
    ("labels", "order", "expected"),
    [
        (
            {"whole": [1, 2, 3], "core": [1, 3], "et": [3]},
            [1, 2, 3],
            {"whole": (2,), "core": (1,), "et": (3,)},
        ),
        ({"whole": [1, 2, 3], "core": [2, 3]}, [1, 2], {"whole": (1,), "core": (2, 3)}),
        ({"whole": [1, 2, 3], "core": [2, 3]}, [1, 3], {"whole": (1,), "core": (3, 2)}),
        ({"whole": [1, 2], "core": 2}, None, {"whole": (1,), "core": (2,)}),
        ({"b": [2], "a": [1]}, None, {"a": (1,), "b": (2,)}),
        ({"b": 2, "a": 1}, None, {"a": (1,), "b": (2,)}),
    ],
)
def test_classes_of_nnunet_are_those_of_its_outputs(tmp_path, labels, order, expected):
    more = {"labels": {"background": 0} | labels, "regions_class_order": order}
    task = tr.load_task(tr.write_tasks(nnunet(tmp_path / "data", more=more), tmp_path / "t")[0])
    assert task.labels == expected and task.classes == ("background", *expected)
    if order or isinstance(labels.get("b"), list):
        assert list(labels_of(more, Path("dataset.json"))[0]) == list(
            expected
        )  # of a model, in the same order


@pytest.mark.parametrize("values", [[1], []])
def test_a_region_that_later_ones_overwrite_is_named(tmp_path, values):
    more = {"labels": {"background": 0, "core": values, "whole": [1, 2]}}
    said = refused(nnunet(tmp_path / "data", more=more), tmp_path / "t")
    assert "dataset.json: region 'core' must have a value that no later one has" in said
    assert f"got {values}; list the outermost region first" in said


def test_a_perfect_model_of_regions_has_dice_1(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [1]}
    more = {"labels": labels, "regions_class_order": [1, 2], "channel_names": {"0": "image"}}
    task = tr.load_task(tr.write_tasks(nnunet(tmp_path / "data", more=more), tmp_path / "t")[0])
    maps = tmp_path / "maps"
    maps.mkdir()
    (maps / "dataset.json").write_text(json.dumps(more))
    theta = np.stack([np.isin(LABELS, v) for v in ([1, 2], [1])]).astype(np.float32)
    for case in task.cases:
        np.savez(maps / f"{case.id}.npz", probabilities=theta.transpose(0, 3, 2, 1))
    source = tr.load_source(maps)
    assert source.classes == task.classes
    made = tr.score(replace(source, channels=task.channels), task)
    assert made.estimates["dice"].value == pytest.approx(1, abs=1e-6)


def test_whole_numbers_of_json():
    assert [whole(v, "x") for v in (2, "3", 4.0)] == [2, 3, 4]
    for value in (1.5, "a", None, [1], "nan", float("inf"), 10**400):
        with pytest.raises(ValueError, match="x must be a whole number; got"):
            whole(value, "x")


def test_a_task_that_could_not_be_loaded_is_not_written(tmp_path):
    said = refused(nnunet(tmp_path / "data", labels=()), tmp_path / "t")
    assert "data, task data: classes must name background and at least one more" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Brain GM_T1", "brain-gm-t1"),
        ("数据", "数据"),
        ("Grün", "grün"),
        (unicodedata.normalize("NFD", "grün"), "grün"),
        ("हिन्दी", "हिन्दी"),
        ("???", "task"),
        ("", "task"),
        (".hidden", "hidden"),
        ("a/b", "a-b"),
    ],
)
def test_file_names_keep_the_letters_of_any_script(text, expected):
    assert slug(text) == expected


def test_folders_and_classes_of_any_script_have_tasks(tmp_path):
    (path,) = tr.write_tasks(nnunet(tmp_path / "脑" / "数据"), tmp_path / "t")
    assert path.name == "数据.toml" and tr.load_task(path).name == "数据"
    root = nnunet(tmp_path / "z", labels=("灰质", "白质"))
    made = tr.write_tasks(root, tmp_path / "t", binary=True)
    assert [p.name for p in made] == ["z-灰质-t1.toml", "z-白质-t1.toml"]
    assert tr.load_task(made[1]).labels == {"白质": (2,)}


def test_the_folder_where_one_stands_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(nnunet(tmp_path / "brain"))
    assert [p.name for p in tr.write_tasks(".", tmp_path / "t")] == ["brain.toml"]


def test_two_classes_of_one_file_name_are_named(tmp_path):
    root = nnunet(tmp_path / "z", labels=("a b", "a-b"))
    said = refused(root, tmp_path / "t", "--binary")
    assert (
        f"{root}: z-a-b-t1.toml would be written twice, for class 'a b' on channel 'T1' and class 'a-b' on channel 'T1'; "
        "rename one of them" in said
    )


def test_two_folders_of_one_file_name_are_named(tmp_path):
    first, second = (nnunet(tmp_path / "data" / name) for name in ("a b", "a-b"))
    said = refused(tmp_path / "data", tmp_path / "t")
    assert f"{first} and {second}: a-b.toml would be written twice; rename one of the f" in said


@pytest.mark.parametrize("lacking", "abc")
def test_a_channel_that_one_case_lacks_is_named(tmp_path, lacking):
    root = pairs(
        tmp_path / "data",
        [f"{c}_{m}" for c in "abc" for m in ("T1", "T2") if (c, m) != (lacking, "T2")],
    )
    words = rf"images: has no image for .*labels/{lacking}\.nii\.gz \(channel T2, which [abc] has\)"
    said = refused(root, tmp_path / "t")
    assert re.search(words, said) and "--allow-missing" in said
    allowed = tasks(root, tmp_path / "t", "--allow-missing")
    assert allowed.exit_code == 0 and re.search(f"note: left out: .*{words}", allowed.stderr)
    task = tr.load_task(tmp_path / "t" / "data.toml")
    assert task.channels == ("T1", "T2") and lacking not in {c.id for c in task.cases}


def test_labels_without_any_image_are_named(tmp_path):
    root = pairs(tmp_path / "data", ["b"])
    words = r"has no image for .*labels/a\.nii\.gz \(channel image, which b has\) \(and 1 more such"
    assert re.search(words, refused(root, tmp_path / "t"))
    (root / "images" / "b.nii.gz").unlink()
    words = r"no labelled case in the layout pairs; .*labels/a\.nii\.gz \(channel image\)"
    assert re.search(words, refused(root, tmp_path / "t", "--allow-missing"))


def test_an_edited_task_file_is_not_replaced(tmp_path):
    root, out = tmp_path / "data", tmp_path / "t"
    nnunet(root / "one")
    (path,) = tr.write_tasks(root, out)
    assert tr.write_tasks(root, out) == [path]  # the same again
    edited = path.read_text().replace('region = "all"', 'region = "nonzero"')
    path.write_text(edited)
    nnunet(root / "a_new_one")
    result = tasks(root, out)
    assert result.exit_code == 1
    assert f"{path}: is there already and differs from what would be written; delete" in (
        result.stderr
    )
    assert list(out.iterdir()) == [path] and path.read_text() == edited
    path.unlink()
    assert len(tr.write_tasks(root, out)) == 2


def test_several_edited_task_files_are_counted(tmp_path):
    root = nnunet(tmp_path / "data")
    for path in tr.write_tasks(root, tmp_path / "t", binary=True):
        path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"x-t1\.toml: is there already .*\(and 1 more such files"):
        tr.write_tasks(root, tmp_path / "t", binary=True)


@pytest.mark.parametrize("part", ["image", "label"])
def test_a_file_that_the_decathlon_lists_and_does_not_have_is_named(tmp_path, part):
    root = decathlon(tmp_path / "Task09_X")
    before = tr.write_tasks(root, tmp_path / "before")[0]
    for k in (1, 2):
        (root / f"{part}sTr" / f"x{k}.nii.gz").unlink()
    words = rf"{part}sTr/x1\.nii\.gz: no such file, though .*dataset\.json lists it"
    said = refused(root, tmp_path / "t")
    assert re.search(rf"{words} \(and 1 more such cases\); complete the folder", said)
    with pytest.raises(ValueError, match=f"{words}; complete the folder, or list the cases"):
        tr.load_task(before)
    assert tasks(root, tmp_path / "t", "--allow-missing").exit_code == 0
    assert [c.id for c in tr.load_task(tmp_path / "t" / "x.toml").cases] == ["x0", "x3"]


def test_a_task_on_the_channel_that_all_cases_have_is_loaded(tmp_path):
    root = tmp_path / "data"
    for case in "abc":
        save(root / "images" / f"{case}_T1.nii.gz", np.ones((4, 4, 2), np.float32))
        save(root / "labels" / f"{case}.nii.gz", np.arange(32, dtype=np.uint8).reshape(4, 4, 2) % 2)
    tr.write_tasks(root, tmp_path / "tasks")
    save(root / "images" / "b_T2.nii.gz", np.ones((4, 4, 2), np.float32))
    task = tr.load_task(tmp_path / "tasks" / "data.toml")
    assert task.channels == ("T1",) and len(task.cases) == 3
    with pytest.raises(ValueError, match=r"channel T2, which b has"):
        tr.write_tasks(root, tmp_path / "others")


@pytest.mark.parametrize(("unit", "read"), [("mm", True), ("unknown", True), ("micron", False)])
def test_a_header_in_another_unit_than_mm_is_refused(tmp_path, unit, read):
    image = nib.Nifti1Image(np.ones((4, 4, 3), dtype=np.int16), np.diag([50.0, 50, 50, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    if read:
        assert load(str(tmp_path / "a.nii.gz"))[1][0, 0] == 50
    else:
        with pytest.raises(
            ValueError, match=r"a\.nii\.gz: must have its geometry in mm; .* micron"
        ):
            load(str(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize("axes", [(), (1,), (1, 1), (1, 1, 1)])
def test_trailing_axes_of_length_1_are_dropped(tmp_path, axes):
    save(tmp_path / "a.nii.gz", LABELS.reshape(*LABELS.shape, *axes))
    np.testing.assert_array_equal(load(str(tmp_path / "a.nii.gz"))[0], LABELS)


@pytest.mark.parametrize("axes", [(2,), (2, 1), (1, 2)])
def test_an_image_of_several_channels_is_no_3d_image(tmp_path, axes):
    save(tmp_path / "a.nii.gz", np.zeros((4, 4, 2, *axes), np.uint8))
    with pytest.raises(ValueError, match=r"a\.nii\.gz: must be a 3D image; got shape \(4, 4, 2, "):
        load(str(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize("name", ["x_t1.nii", "a.nii"])
def test_a_folder_is_no_image(tmp_path, name):
    root = pairs(tmp_path / "data")
    for part in ("images", "labels"):
        (root / part / name).mkdir()
    (path,) = tr.write_tasks(root, tmp_path / "t")
    task = tr.load_task(path)
    assert [c.id for c in task.cases] == ["a", "b", "c"] and task.channels == ("image",)


@pytest.mark.parametrize("part", ["images", "labels"])
def test_a_link_to_nowhere_is_no_folder_but_a_missing_file(tmp_path, part):
    root = pairs(tmp_path / "data")
    (path,) = tr.write_tasks(root, tmp_path / "t")
    (root / part / "b.nii.gz").unlink()
    (root / part / "b.nii.gz").symlink_to("nowhere.nii.gz")
    case = tr.load_task(path).cases[1]
    with pytest.raises(ValueError, match=rf"{part}/b\.nii\.gz: no such file"):
        read(case, tr.load_task(path))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("labels/a.nii", "labels/a.nii.gz"),
        ("images/a.mgz", "images/a.nii.gz"),
        ("images/a_T1.nii.gz", "images/a__T1.nii.gz"),
    ],
)
def test_a_file_that_is_there_twice_is_named(tmp_path, first, second):
    root = pairs(tmp_path / "data")
    for name in (first, second):
        if not (root / name).exists():
            save(root / name, LABELS)
    said = refused(root, tmp_path / "t").replace("\n", " ")
    assert f"{first.partition('/')[2]} is there too; remove one of them" in said
    assert f"{second}: must be the only image of" in said


def test_an_image_with_more_channels_than_the_decathlon_names_is_refused(tmp_path):
    root = decathlon(tmp_path / "Task09_X")
    before = tr.write_tasks(root, tmp_path / "before")[0]
    save(root / "imagesTr" / "x2.nii.gz", np.stack(4 * [LABELS.astype(np.float32)], -1))
    words = (
        r"x2\.nii\.gz: has 4 channels, .*dataset\.json names 2 in modality \(T1, T2\); name them"
    )
    assert re.search(words, refused(root, tmp_path / "t"))
    with pytest.raises(ValueError, match=words):
        tr.load_task(before)


def test_an_unreadable_image_of_the_decathlon_is_a_finding_of_its_own(tmp_path):
    root = decathlon(tmp_path / "Task09_X")
    path = tr.write_tasks(root, tmp_path / "t")[0]
    (root / "imagesTr" / "x2.nii.gz").write_bytes(b"")
    found = {f.where for f in tr.diagnose(path) if f.check == "reading"}
    assert found == {f"{root}/imagesTr/x2.nii.gz#{k}" for k in (0, 1)}


def test_files_of_a_kind_that_is_not_read_are_named(tmp_path):
    root = nnunet(tmp_path / "data", more={"file_ending": ".nrrd"})
    tr.write_tasks(root, tmp_path / "before")  # converted, though dataset.json does not say so
    for path in root.rglob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".nrrd")))
    said = refused(root, tmp_path / "t")
    assert 'dataset.json: file_ending is ".nrrd", which is not read; convert images and lab' in said
    assert "to one of .nii.gz, .nii, .mgz, .img" in said
    plain = pairs(tmp_path / "plain")
    for path in plain.rglob("*.nii.gz"):
        path.rename(path.with_name(path.name.replace(".nii.gz", ".nrrd")))
    said = refused(plain, tmp_path / "t")
    assert "in the layout pairs; files that are read end in .nii.gz, .nii, .mgz, .img" in said


@pytest.mark.parametrize("ending", [{}, {"file_ending": ".nii.gz"}])
def test_a_case_of_nnunet_without_image_is_named(tmp_path, ending):
    root = nnunet(tmp_path / "data")
    description = json.loads((root / "dataset.json").read_text())
    del description["file_ending"]
    (root / "dataset.json").write_text(json.dumps(description | ending))
    (root / "imagesTr" / "c1_0000.nii.gz").unlink()
    said = refused(root, tmp_path / "t").replace("\n", " ")
    assert f"{root}/imagesTr: has no image c1_0000 (.nii.gz, .nii, .mgz, .img) for" in said
    assert "labelsTr/c1.nii.gz; add it, or remove the label" in said
