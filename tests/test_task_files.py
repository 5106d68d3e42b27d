"""What a task file and its data folder may say, and what is refused because it would do nothing or mix cases up."""

import re
import shutil
import tomllib

import nibabel as nib
import numpy as np
import pytest
import tomli_w
from blobs import make_source, write_blobs
from command_line import run

import transfer_risk as tr
from transfer_risk.imagefiles import file_and_channel


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[split]", "[splt]", "a task file does not know splt; it may have format, name, root"),
        ("test = [", "tests = [", "[split] does not know tests; it may have cases, group, test"),
        ('region = "all"', 'regions = "nonzero"', "a task file does not know regions; it may have"),
        ('name = "blobs"', "", "needs the key 'name'"),
        (
            "[training]",
            "[training]\nspacings = [1.0]",
            "preprocessing does not know spacings; it may have",
        ),
        ("axis = 2", "axes = 2", "[slices] does not know axes; it may have axis, select"),
    ],
)
def test_a_misspelt_or_missing_key_is_named(tmp_path, old, new, words):
    path = write_blobs(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        tr.load_task(path)
    assert str(caught.value).startswith(str(path))


def test_a_class_that_the_data_do_not_have_is_named(tmp_path):
    path = write_blobs(tmp_path)
    text = path.read_text().replace('"a",', '"b",')
    path.write_text(re.sub(r"\[labels\]\n(?:a = .*?\]\n)", "", text, flags=re.S))
    with pytest.raises(
        ValueError, match=r"classes must be background and some of \['a'\].*\['b'\]"
    ):
        tr.load_task(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cases": 2 * (tr.Case("x", ("x.nii",)),)}, "ids of cases must be unique; x is there"),
        ({"classes": ("background", "a", "a")}, "classes must be unique; a is there"),
        (
            {"channels": ("T1", "T1"), "cases": (tr.Case("x", ("x.nii", "y.nii")),)},
            "channels must be unique; T1 is there",
        ),
    ],
)
def test_names_are_unique(fields, words):
    given = {"classes": ("background", "a"), "channels": ("T1",), "cases": ()} | fields
    with pytest.raises(ValueError, match=words):
        tr.Task(name="t", **given)


def pairs(root, images, labels):
    """A plain folder of these images and labels."""
    rng = np.random.default_rng(0)
    for folder, names in (("images", images), ("labels", labels)):
        (root / folder).mkdir(parents=True)
        for name in names:
            data = rng.integers(0, 2, (4, 4, 2)).astype(np.uint8)
            nib.save(nib.Nifti1Image(data, np.eye(4)), root / folder / f"{name}.nii.gz")
    return root


@pytest.mark.parametrize(
    ("images", "labels", "channels"),
    [
        (["sub-01", "sub-01_ses-2"], ["sub-01"], ("image",)),
        (["sub-01", "sub-01_ses-2"], ["sub-01", "sub-01_ses-2"], ("image",)),
        (["a_t1", "a_t2", "a_b_t1", "a_b_t2"], ["a", "a_b"], ("t1", "t2")),
        (["a_t1", "ab_t1"], ["a", "ab"], ("t1",)),
    ],
)
def test_an_image_belongs_to_the_case_of_the_longest_name(tmp_path, images, labels, channels):
    (path,) = tr.write_tasks(pairs(tmp_path / "data", images, labels), tmp_path / "tasks")
    task = tr.load_task(path)
    assert task.channels == channels and [c.id for c in task.cases] == sorted(labels)
    for case in task.cases:
        names = [case.id if c == "image" else f"{case.id}_{c}" for c in channels]
        assert [p.rpartition("/")[2] for p in case.images] == [f"{n}.nii.gz" for n in names]


def test_an_empty_label_file_is_named(tmp_path):
    root = pairs(tmp_path / "data", ["a"], ["a"])
    (root / "labels" / "a.nii.gz").write_bytes(b"")
    said = run("tasks", root, "--out", tmp_path / "tasks")
    assert said.exit_code == 1 and "a.nii.gz: cannot be read as an image" in said.stderr
    assert not (tmp_path / "tasks").exists()


def test_a_fold_that_does_not_fit_writes_nothing(tmp_path):
    write_blobs(tmp_path / "many", cases=6)
    write_blobs(tmp_path / "few", cases=3)
    root = tmp_path / "both"
    for number, name in enumerate(("many", "few")):
        place = root / f"Dataset00{number}_{name}"
        shutil.copytree(tmp_path / name / "data" / "Dataset001_Blobs", place)
    said = run("tasks", root, "--out", tmp_path / "tasks", "--fold", "0/5")
    assert said.exit_code == 1
    assert "task few: fold must be k/n with 0 <= k < n, n from 2 to the 3 groups" in said.stderr
    assert not (tmp_path / "tasks").exists()


def test_two_folders_of_one_name_are_not_written_over_each_other(tmp_path):
    write_blobs(tmp_path)
    data = tmp_path / "data"
    shutil.copytree(data / "Dataset001_Blobs", data / "Dataset002_Blobs")
    with pytest.raises(ValueError, match=r"blobs\.toml would be written twice; rename"):
        tr.write_tasks(data, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.nii.gz#3", ("a.nii.gz", "3")),
        ("a#1/b.nii.gz", ("a#1/b.nii.gz", "")),
        ("a#1/b.nii.gz#0", ("a#1/b.nii.gz", "0")),
        ("b.nii.gz", ("b.nii.gz", "")),
    ],
)
def test_only_a_number_at_the_end_is_a_channel(path, expected):
    assert file_and_channel(path) == expected


@pytest.mark.parametrize("orientation", ["", "RAS", "LPI", "SRA"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_new_source_is_cut_along_the_slices_of_the_task(tmp_path, orientation, axis):
    path = write_blobs(tmp_path, shape=(8, 8, 8))
    for image in (tmp_path / "data").rglob("*.nii.gz"):
        old = nib.load(image)
        stored = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # PSR
        nib.save(nib.Nifti1Image(np.asarray(old.dataobj), stored), image)
    text = path.read_text().replace("axis = 2", f"axis = {axis}")
    path.write_text(f'{text}orientation = "{orientation}"\n' if orientation else text)
    source = tr.pretrain(tr.load_task(path), width=2, depth=2, iterations=1)
    made = source.preprocessing
    assert made.orientation == (orientation or "PSR")
    same = {"L": "R", "P": "A", "I": "S"}
    cut = made.orientation[made.axis]
    assert same.get(cut, cut) == "ASR"[axis]


def test_ranking_leaves_a_network_in_its_mode(tmp_path):
    task, source = tr.load_task(write_blobs(tmp_path)), make_source()
    source.network.train()
    source.network.encoder.eval()
    before = [m.training for m in source.network.modules()]
    assert tr.rank_sources([source], task).by == "probe_dice"
    assert [m.training for m in source.network.modules()] == before and any(before)
    assert not all(before)


def test_no_case_is_said(tmp_path):
    task = tr.load_task(write_blobs(tmp_path))
    with pytest.raises(ValueError, match="no case was given"):
        tr.score(make_source(), task, cases=[])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"labels": {', '"label": {', "needs the key 'labels'"),
        (
            '"channel_names": {"0": "T1"}',
            '"channel_names": 3',
            "is not as the layout nnunet has it",
        ),
    ],
)
def test_a_dataset_json_that_lacks_something_is_named(tmp_path, old, new, words):
    path = write_blobs(tmp_path)
    file = tmp_path / "data" / "Dataset001_Blobs" / "dataset.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    for said in (
        run("tasks", tmp_path / "data", "--out", tmp_path / "t"),
        run("score", path, path),
    ):
        assert said.exit_code == 1 and f"dataset.json: {words}" in said.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"labels": {"a": (1, 2), "b": (2,)}}, "2"),
        ({"labels": {"a": (1,), "b": (2,)}, "ignore": (2,)}, "2"),
        ({"background": (0, 1)}, "1"),
        ({"background": (0, 9), "ignore": (9,)}, "9"),
    ],
)
def test_a_raw_value_has_one_meaning(options, value):
    with pytest.raises(ValueError, match=f"one meaning; {value} has several"):
        tr.Task("t", ("background", "a", "b"), ("T1",), (), **options)
    tr.Task("t", ("background", "a"), ("T1",), (), ignore=(0,))  # unlabelled


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"labels": {"a": (1,), "b": ("2",)}}, r"labels\.b must be .* got \('2',\)"),
        ({"labels": {"a": (), "b": (2,)}}, r"labels\.a must be .*, at least one, .* got \(\)"),
        ({"labels": {"a": (1.5,), "b": (2,)}}, r"labels\.a must be .* got \(1\.5,\)"),
        ({"labels": {"a": (True,), "b": (2,)}}, r"labels\.a must be .* got \(True,\)"),
        ({"labels": {"a": 1, "b": (2,)}}, r"labels\.a must be .* got 1"),
        ({"labels": {"a": [1], "b": (2,)}}, r"labels\.a must be a tuple .* got \[1\]"),
        ({"ignore": ("7",)}, r"ignore must be a tuple of whole numbers, as .* got \('7',\)"),
        ({"ignore": 255}, "ignore must be .* got 255"),
        ({"background": ("7",)}, r"background must be .* got \('7',\)"),
    ],
)
def test_raw_values_are_whole_numbers(options, words):
    with pytest.raises(ValueError, match=words):
        tr.Task("t", ("background", "a", "b"), ("T1",), (), **options)
    numpy = np.array([1, 2, 7])
    tr.Task(
        "t", ("background", "a"), ("T1",), (), labels={"a": tuple(numpy[:2])}, ignore=(numpy[2],)
    )


VALUES = "a list of whole numbers without quotes"
NAMES = "a list of names in quotes"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("ignore", '["2"]', f"ignore must be {VALUES}, such as [1, 2]; got ['2']"),
        ("ignore", "255", f"ignore must be {VALUES}, such as [1, 2]; got 255"),
        ("background", '["7"]', f"background must be {VALUES}, such as [1, 2]; got ['7']"),
        ("a", '["1"]', f"labels.a must be {VALUES}, at least one, such as [1, 2]; got ['1']"),
        ("a", "[]", f"labels.a must be {VALUES}, at least one, such as [1, 2]; got []"),
        ("a", "[1.5]", f"labels.a must be {VALUES}, at least one, such as [1, 2]; got [1.5]"),
        ("a", "[true]", f"labels.a must be {VALUES}, at least one, such as [1, 2]; got [True]"),
        ("a", "[[1]]", f"labels.a must be {VALUES}, at least one, such as [1, 2]; got [[1]]"),
        ("a", "1", f"labels.a must be {VALUES}, at least one, such as [1, 2]; got 1"),
        ("test", '"c0"', f'split.test must be {NAMES}, such as ["a", "b"]; got \'c0\''),
        ("test", "[0]", f'split.test must be {NAMES}, such as ["a", "b"]; got [0]'),
        ("cases", '"c0"', f'split.cases must be {NAMES}, such as ["a", "b"]; got \'c0\''),
        ("group", "1", "split.group must be text in quotes; got 1"),
        ("slices", '"nonzero"', "slices must be a table; got 'nonzero'"),
        ("split", "3", "split must be a table; got 3"),
        ("labels", "[1]", "labels must be a table; got [1]"),
        ("training", '"zscore"', "training must be a table; got 'zscore'"),
        ("root", "5", "root must be text in quotes; got 5"),
        ("layout", "5", "layout must be text in quotes; got 5"),
        ("name", "5", "name must be text in quotes; got 5"),
        ("channels", "[]", "channels must name at least one; got none"),
        ("channels", '"T1"', f'channels must be {NAMES}, such as ["a", "b"]; got \'T1\''),
        ("classes", "[0, 1]", f'classes must be {NAMES}, such as ["a", "b"]; got [0, 1]'),
    ],
)
def test_a_value_of_another_kind_is_named(tmp_path, key, value, words):
    path = write_blobs(tmp_path)
    table = tomllib.loads(path.read_text())
    place = {"a": table["labels"], **dict.fromkeys(("test", "cases", "group"), table["split"])}
    place.get(key, table)[key] = tomllib.loads(f"value = {value}")["value"]
    path.write_text(tomli_w.dumps(table))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {words}") + "$"):
        tr.load_task(path)
    (found,) = tr.diagnose(path)
    assert found.severity == "error"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": "ab"}, "classes must be a tuple of texts in quotes; got 'ab'"),
        ({"channels": (1,)}, r"channels must be a tuple of texts in quotes; got \(1,\)"),
        ({"channels": ()}, "channels must name at least one; got none"),
        ({"test": "c0"}, r"split\.test must be a tuple of texts in quotes; got 'c0'"),
        ({"test": (0,)}, r"split\.test must be a tuple of texts in quotes; got \(0,\)"),
    ],
)
def test_names_are_texts(options, words):
    given = {"classes": ("background", "a"), "channels": ("T1",), "cases": ()} | options
    with pytest.raises(ValueError, match=words):
        tr.Task(name="t", **given)
