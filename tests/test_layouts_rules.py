"""What the rules of a task are where a data folder and a task file meet: background, regions, folds, patients, CT."""

import json
import re
import tomllib

import pytest
import tomli_w
from blob_folder import write_dataset
from folders import LABELS, decathlon, nnunet, refused, save, tasks

import transfer_risk as tr
from transfer_risk.layouts import folders


def edited(path, old, new):
    """The task file with one thing replaced."""
    text = path.read_text()
    assert re.search(old, text, flags=re.S)
    path.write_text(re.sub(old, new, text, count=1, flags=re.S))
    return path


@pytest.mark.parametrize("labels", [r"(\[labels\].*?)\[slices\]", "()"])
def test_a_task_file_without_background_is_refused(tmp_path, labels):
    (path,) = tr.write_tasks(nnunet(tmp_path / "data"), tmp_path / "t")
    edited(path, r'    "background",\n', "")
    edited(path, labels, "[slices]" if "slices" in labels else "")
    words = (
        f"{path}: classes must have background first; got ['x', 'y'], of which 'x' is a class of {tmp_path}/data or of "
        '[labels]; write classes = ["background", "x", "y"]'
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        tr.load_task(path)


def test_a_task_file_whose_first_class_has_a_name_of_its_own_is_read(tmp_path):
    (path,) = tr.write_tasks(nnunet(tmp_path / "data"), tmp_path / "t")
    assert tr.load_task(edited(path, "background", "rest")).classes == ("rest", "x", "y")


@pytest.mark.parametrize("name", ["Background", "BACKGROUND", "air"])
def test_a_class_of_nnunet_that_is_0_is_background(tmp_path, name):
    root = nnunet(tmp_path / "data", more={"labels": {name: 0, "x": 1, "y": 2}})
    (path,) = tr.write_tasks(root, tmp_path / "t")
    task = tr.load_task(path)
    assert task.classes == ("background", "x", "y") and task.labels == {"x": (1,), "y": (2,)}


def test_a_class_that_has_background_too_is_refused(tmp_path):
    (path,) = tr.write_tasks(nnunet(tmp_path / "data"), tmp_path / "t")
    edited(path, r"x = \[\n    1", "x = [\n    0, 1")
    words = (
        r"one meaning; 0 has several \(it is background unless a class is 0 alone or 0 is ignored"
    )
    with pytest.raises(ValueError, match=words):
        tr.load_task(path)
    labels = {"background": 0, "whole": [0, 1, 2], "core": [2]}
    said = refused(nnunet(tmp_path / "regions", more={"labels": labels}), tmp_path / "u")
    assert re.search(words, said)


@pytest.mark.parametrize(
    ("labels", "options"),
    [({"a": (0,)}, {}), ({"a": (0, 2)}, {"background": (1,)}), ({"a": (1,)}, {"ignore": (0,)})],
)
def test_0_is_what_a_task_says_it_is(labels, options):
    task = tr.Task("t", ("background", "a"), ("T1",), (), labels=labels, **options)
    assert task.labels == labels


REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": [3]}


def test_a_binary_task_of_a_region_has_all_its_values(tmp_path):
    more = {"labels": REGIONS, "regions_class_order": [1, 2, 3]}
    root = nnunet(tmp_path / "data", more=more)
    paths = tr.write_tasks(root, tmp_path / "t", binary=True)
    values = {"whole-tumor": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert [p.name for p in paths] == [f"data-{name}-t1.toml" for name in values]
    for path, own in zip(paths, values.values(), strict=True):
        task = tr.load_task(path)
        assert list(task.labels.values()) == [own]
        assert set(task.background) == {0, 1, 2, 3} - set(own)
        assert (
            tr.load_task(edited(path, r"\[labels\].*\[slices\]", "[slices]")).labels == task.labels
        )
    (joint,) = tr.write_tasks(root, tmp_path / "u")
    assert list(tr.load_task(joint).labels.values()) == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["whole tumor", "enhancing"], {"whole tumor": (1, 2), "enhancing": (3,)}),
        (["core", "whole tumor"], {"core": (2, 3), "whole tumor": (1,)}),
    ],
)
def test_regions_overwrite_those_of_the_same_task(tmp_path, classes, expected):
    (path,) = tr.write_tasks(nnunet(tmp_path / "data", more={"labels": REGIONS}), tmp_path / "t")
    edited(path, r"\[labels\].*\[slices\]", "[slices]")
    edited(path, r"classes = \[.*?\]", f"classes = {json.dumps(['background', *classes])}")
    assert tr.load_task(path).labels == expected


def test_the_value_that_is_written_comes_first(tmp_path):
    more = {"labels": REGIONS, "regions_class_order": [1, 3, 2]}
    paths = tr.write_tasks(nnunet(tmp_path / "data", more=more), tmp_path / "t", binary=True)
    assert tr.load_task(paths[1]).labels == {"core": (3, 2)}


def with_folds(root, *tests):
    """An nnU-Net folder of c0, c1 and c2 with these folds in splits_final.json."""
    nnunet(root)
    folds = [{"train": [], "val": list(ids)} for ids in tests]
    (root / "splits_final.json").write_text(json.dumps(folds))
    return root


@pytest.mark.parametrize(
    ("options", "test"),
    [((), "c2"), (("--fold", "0/3"), "c2"), (("--fold", "1/3"), "c0"), (("--fold", "2/3"), "c1")],
)
def test_a_fold_is_that_of_the_data_set(tmp_path, options, test):
    root = with_folds(tmp_path / "data", ["c2"], ["c0"], ["c1"])
    assert tasks(root, tmp_path / "t", *options).exit_code == 0
    assert tr.load_task(tmp_path / "t" / "data.toml").test == (test,)


@pytest.mark.parametrize("fold", ["0/2", "0/5", "3/3", "0/1"])
def test_another_number_of_folds_than_the_data_set_has_is_refused(tmp_path, fold):
    root = with_folds(tmp_path / "data", ["c2"], ["c0"], ["c1"])
    said = refused(root, tmp_path / "t", "--fold", fold)
    assert (
        f"task data: fold must be k/n with 0 <= k < n = 3, as splits_final.json has 3 folds; got {fold}; move that file "
        "away for folds of transfer-risk's own" in said
    )


def test_a_fold_of_the_data_set_is_that_of_the_cases_that_are_used(tmp_path):
    root = with_folds(tmp_path / "data", ["c2", "c0"], ["c1"])
    tasks(root, tmp_path / "t")
    path = tmp_path / "t" / "data.toml"
    table = tomllib.loads(path.read_text())
    for cases, test in ((["c0", "c1"], ("c0",)), (["c1", "c2"], ("c2",))):
        path.write_text(tomli_w.dumps({**table, "split": {"cases": cases}}))
        assert tr.load_task(path).test == test


@pytest.mark.parametrize("fold", ["0/1", "2/2", "0/4"])
def test_a_fold_leaves_cases_for_training(tmp_path, fold):
    said = refused(nnunet(tmp_path / "data"), tmp_path / "t", "--fold", fold)
    assert f"fold must be k/n with 0 <= k < n, n from 2 to the 3 groups; got {fold}" in said


def visits(root):
    """File pairs: four patients with three visits each."""
    for k in range(12):
        for part in ("images", "labels"):
            save(root / part / f"patient{k // 3:02d}_visit{k % 3}.nii.gz", LABELS)
    return root


@pytest.mark.parametrize("expression", [r"^(patient\d+)_", r"^patient\d+", r"\d+"])
@pytest.mark.parametrize("fold", [(), ("--fold", "0/4"), ("--fold", "3/4")])
def test_no_patient_is_divided_by_the_split(tmp_path, expression, fold):
    root, out = visits(tmp_path / "data"), tmp_path / "t"
    assert tasks(root, out, "--group", expression, *fold).exit_code == 0
    path = out / "data.toml"
    task = tr.load_task(path)
    assert len({c.unit for c in task.cases}) == 4
    assert {c.unit for c in task.split("test")}.isdisjoint(c.unit for c in task.split("train"))
    if fold:
        assert len(task.test) == 3
    else:
        without = edited(path, r"test = \[.*?\]\n", "")
        assert tr.load_task(without).test == task.test


def test_test_cases_that_divide_a_patient_are_a_finding_of_doctor(tmp_path):
    (path,) = tr.write_tasks(visits(tmp_path / "data"), tmp_path / "t", group="^(patient\\d+)_")
    edited(path, r"test = \[.*?\]", 'test = ["patient01_visit1"]')
    assert tr.load_task(path).test == ("patient01_visit1",)
    (found,) = [f for f in tr.diagnose(path) if (f.severity, f.check) == ("error", "split")]
    assert found.found.startswith("group patient01 is in training and")


@pytest.mark.parametrize("expression", ["^(patient1)", "^(other)?patient0", ""])
def test_an_expression_that_finds_no_patient_is_named(tmp_path, expression):
    said = refused(visits(tmp_path / "data"), tmp_path / "t", "--group", expression)
    assert (
        f"{tmp_path}/data: group must be a regular expression that finds the patient in each"
        in said
    )
    assert re.search(
        rf"id; {re.escape(repr(expression))} finds none in 'patient0\d_visit\d'; widen", said
    )


def test_what_is_no_regular_expression_is_a_usage_error(tmp_path):
    root = visits(tmp_path / "data")
    result = tasks(root, tmp_path / "t", "--group", "(")
    assert result.exit_code == 2 and "must be a regular expression, such as" in result.stderr
    (path,) = tr.write_tasks(root, tmp_path / "t", group="patient..")
    edited(path, r"patient\.\.", "(")
    with pytest.raises(ValueError, match=r"data\.toml: group = '\(' is no regular expression"):
        tr.load_task(path)


@pytest.mark.parametrize(
    ("channels", "options", "expected"),
    [
        (["CT"], (), ["zscore"]),
        (["ct"], (), ["zscore"]),
        (["T1"], (), ["zscore-nonzero"]),
        (["CT", "PET"], (), ["zscore"]),
        (["CT", "PET"], ("--binary",), ["zscore", "zscore-nonzero"]),
    ],
)
def test_0_is_no_background_on_ct(tmp_path, channels, options, expected):
    root = nnunet(tmp_path / "data", labels=("x",))
    for k in range(3 * (len(channels) - 1)):
        save(root / "imagesTr" / f"c{k}_0001.nii.gz", LABELS)
    description = json.loads((root / "dataset.json").read_text())
    description["channel_names"] = dict(enumerate(channels))
    (root / "dataset.json").write_text(json.dumps(description))
    result = tasks(root, tmp_path / "t", *options)
    made = [tr.load_task(path).training.normalise for path in result.stdout.split()]
    assert made == expected
    said = (
        f"note: {root}: CT is normalised by zscore, as 0 HU is no background; or write normalise ="
    )
    assert result.stderr.count(said) == ("zscore" in expected)


def test_0_is_no_background_on_ct_of_the_decathlon(tmp_path):
    root = decathlon(tmp_path / "Task09_X")
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text.replace('"T1"', '"CT"'))
    (path,) = tr.write_tasks(root, tmp_path / "t")
    assert tr.load_task(path).training.normalise == "zscore"


def test_a_folder_beside_the_data_that_may_not_be_read_is_passed_over(tmp_path, monkeypatch):
    write_dataset(tmp_path / "Dataset001_Blobs")
    (tmp_path / "lost+found").mkdir()
    known = folders.recognised

    def recognised(folder):
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder / "dataset.json"))
        return known(folder)

    monkeypatch.setattr(folders, "recognised", recognised)
    told = []
    assert len(tr.write_tasks(tmp_path, tmp_path / "tasks", note=told.append)) == 1
    assert told == [f"passed over: {tmp_path / 'lost+found'}: may not be read"]
