"""iSeg-2019 and FeTS folders, made from the embedded cohort with the names and quirks of the real ones."""

import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import transfer_risk as tr
from transfer_risk.cli import main
from transfer_risk.imagefiles import load
from transfer_risk.layouts import LAYOUTS
from transfer_risk.layouts.dataset import natural
from transfer_risk.layouts.fets import read_partitions
from transfer_risk.volumes import read

ISEG_VALUES = np.array([0, 10, 150, 250], dtype=np.uint8)
FETS_VALUES = np.array([0, 1, 2, 4], dtype=np.uint8)
ORDERS = {"2021": "Subject_ID,Partition_ID", "2022": "Partition_ID,Subject_ID"}


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    return tr.write_tissue_cohort(tmp_path_factory.mktemp("tissue"), cases=11, spacing=8.0)


@pytest.fixture(scope="module")
def tumour(tmp_path_factory):
    return tr.write_tumour_cohort(tmp_path_factory.mktemp("tumour"), cases=8, spacing=8.0)


def voxels(path):
    return np.asarray(nib.load(path).dataobj)


def write_analyze(path, data, spacing, origin):
    """Analyze .hdr/.img with a trailing axis of length 1 and an origin that means nothing."""
    image = nib.Spm99AnalyzeImage(data[..., None], None)
    image.header.set_zooms((*spacing, 1))
    image.header["origin"][:3] = origin
    nib.save(image, path)
    path.with_suffix(".mat").unlink(missing_ok=True)


@pytest.fixture
def iseg(tissue, tmp_path):
    """Ten training subjects, the last one smaller, and an unlabelled one of the validation set."""
    root = tmp_path / "iSeg-2019-Training"
    root.mkdir()
    for k in range(11):
        cut = slice(None, -2 if k == 9 else None)
        images = [voxels(tissue / "imagesTr" / f"tissue_{k:03d}_{c:04d}.nii.gz") for c in (0, 1)]
        label = ISEG_VALUES[voxels(tissue / "labelsTr" / f"tissue_{k:03d}.nii.gz")]
        parts = {"T1": images[0], "T2": images[1]} | ({"label": label} if k < 10 else {})
        for number, (part, data) in enumerate(parts.items()):
            path = root / f"subject-{k + 1}-{part}.img"
            write_analyze(path, data[cut], (8, 8, 8), (k, number, 77 * number))
    return root


def fets_names(year):
    return (
        [f"FeTS21_Training_{k:03d}" for k in range(1, 9)]
        if year == "2021"
        else [f"FeTS2022_{k:05d}" for k in range(1338, 1346)]
    )


@pytest.fixture(params=["2021", "2022"])
def fets(request, tumour, tmp_path):
    """Eight subjects of one release, three partitions; one subject in upper case, one as .nii; (root, csv, names)."""
    root = tmp_path / f"MICCAI_FeTS{request.param}_TrainingData"
    names = fets_names(request.param)
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for part, channel in {"t1": 0, "t1ce": 0, "t2": 1, "flair": 2}.items():
            original = tumour / "imagesTr" / f"tumour_{k:03d}_{channel:04d}.nii.gz"
            write_fets(root / name, part, nib.load(original), k)
        label = nib.load(tumour / "labelsTr" / f"tumour_{k:03d}.nii.gz")
        raw = nib.Nifti1Image(FETS_VALUES[voxels(label.get_filename())], label.affine)
        write_fets(root / name, "seg", raw, k)
    numbers = [1, 1, 1, 13, 13, 13, 2, 2]
    style = "{:02d}" if request.param == "2021" else "{}"
    ids = [style.format(n) for n in numbers]
    pairs = zip(names, ids, strict=True)
    lines = [f"{s},{p}" if request.param == "2021" else f"{p},{s}" for s, p in pairs]
    csv = root / "partitioning_2.csv"
    csv.write_text("\n".join([ORDERS[request.param], *lines, ""]))
    return root, csv, names


def write_fets(folder, part, image, k):
    part = part.upper() if k == 1 else part
    nib.save(image, folder / f"{folder.name}_{part}{'.nii' if k == 2 else '.nii.gz'}")


def run(*words):
    return CliRunner().invoke(main, ["tasks", *map(str, words)])


def written(result):
    assert result.exit_code == 0, result.output
    return {path.name: path for path in map(Path, result.stdout.split())}


def test_iseg_gives_the_six_binary_tasks(iseg, tmp_path):
    paths = written(run(iseg, "--layout", "iseg2019", "--out", tmp_path / "tasks"))
    assert list(paths) == [f"{c}-{m}.toml" for c in ("csf", "gm", "wm") for m in ("t1", "t2")]
    task = tr.load_task(paths["gm-t2.toml"])
    assert task.name == "gm-t2" and task.channels == ("T2",)
    assert task.classes == ("background", "gm")
    assert task.labels == {"gm": (150,)} and set(task.background) == {0, 10, 250}
    assert [c.id for c in task.cases] == [f"subject-{k}" for k in range(1, 11)]  # 2 before 10
    assert len(task.test) == 3 and "cases" not in paths["gm-t2.toml"].read_text()


def test_iseg_is_recognised_and_read_on_one_grid(iseg, tissue, tmp_path):
    (path,) = [p for p in tr.write_tasks(iseg.parent, tmp_path / "t") if p.name == "wm-t1.toml"]
    task = tr.load_task(path)
    for k, case in enumerate(task.cases):
        volume = read(case, task, every_slice=True)
        label = voxels(tissue / "labelsTr" / f"tissue_{k:03d}.nii.gz")
        assert volume.labels.shape == (label.shape[0] - 2 * (k == 9), *label.shape[1:])
        np.testing.assert_array_equal(volume.labels, label[: volume.labels.shape[0]] == 3)
        assert volume.spacing == (8, 8, 8)
        np.testing.assert_array_equal(volume.affine, load(case.label)[1])  # no garbage origin


def test_a_converted_channel_lies_on_the_grid_of_its_analyze_label(iseg, tmp_path):
    """Bias correction writes NIfTI with axes of its own; which way Analyze runs nobody knows."""
    paths = tr.write_tasks(iseg, tmp_path / "t", layout="iseg2019")
    task = tr.load_task(paths[0])
    case = task.cases[0]
    data, affine = load(case.images[0])
    turned = np.diag([-1, -1, 1, 1]) @ affine
    nib.save(nib.Nifti1Image(data, turned), tmp_path / "t1.nii.gz")
    mixed = tr.Case(case.id, (str(tmp_path / "t1.nii.gz"),), case.label)
    np.testing.assert_array_equal(read(mixed, task).labels, read(case, task).labels)
    nib.save(nib.Nifti1Image(data, 2 * turned), tmp_path / "t1.nii.gz")
    with pytest.raises(ValueError, match=r"label\.img: has spacing"):
        read(mixed, task)


def test_a_network_learns_and_scores_on_analyze_files(iseg, tmp_path):
    paths = tr.write_tasks(iseg, tmp_path / "t", layout="iseg2019")
    task = tr.load_task(paths[2])
    source = tr.pretrain(task, iterations=2, width=2, depth=2)
    assert set(source.trained["cases"]) == {c.id for c in task.split("train")}
    assert np.isfinite(tr.score(source, task).estimates["leep"].value)
    assert source.predict(torch.zeros(1, 1, 8, 8)).shape == (1, 2, 8, 8)


def test_doctor_on_analyze_files(iseg, tmp_path):
    paths = tr.write_tasks(iseg, tmp_path / "t", layout="iseg2019")
    findings = tr.diagnose(paths[0])
    assert {f.severity for f in findings} == {"note"}
    (note,) = [f for f in findings if "Analyze" in f.found]
    assert note.found.startswith("10 cases are in Analyze format, which stores no orientation")


def remove(root, name):
    (root / name).unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda r: remove(r, "subject-3-T2.img"), r"has no subject-3-T2\.img with its \.hdr"),
        (lambda r: remove(r, "subject-3-label.hdr"), r"label\.img: has no subject-3-label\.hdr"),
        (
            lambda r: [remove(r, f"subject-3-{p}.img") for p in ("T1", "T2", "label")],
            "has no subject-3; the training set of iSeg-2019 is subject-1 to subject-10",
        ),
    ],
)
def test_an_incomplete_iseg_folder(iseg, tmp_path, damage, words):
    whole = tr.write_tasks(iseg, tmp_path / "whole", layout="iseg2019")
    damage(iseg)
    refused = run(iseg, "--layout", "iseg2019", "--out", tmp_path / "t")
    assert refused.exit_code == 1 and re.search(words, refused.stderr)
    assert "--allow-missing" in refused.stderr and not (tmp_path / "t").exists()
    allowed = run(iseg, "--layout", "iseg2019", "--out", tmp_path / "t", "--allow-missing")
    assert re.search(f"note: left out: .*{words}", allowed.stderr.replace("\n", " "))
    task = tr.load_task(written(allowed)["csf-t1.toml"])
    assert [c.id for c in task.cases] == [f"subject-{k}" for k in (1, 2, *range(4, 11))]
    with pytest.raises(ValueError, match=f"{words}.*; complete the folder, or list the cases"):
        tr.load_task(whole[0])


def test_a_file_of_another_case_is_the_same_again(iseg, fets, tmp_path):
    shutil.copy(iseg / "subject-3-T2.img", iseg / "Subject-3-t2.img")
    with pytest.raises(
        ValueError, match=r"T2\.img: must be the only .* Subject-3-t2\.img is there"
    ):
        tr.write_tasks(iseg, tmp_path / "t")
    folder = next(p for p in fets[0].iterdir() if p.is_dir())
    image = next(folder.glob("*[tT]2.nii*"))
    image.with_name(image.name.swapcase()).write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be the only image of its name; .* is there too"):
        tr.write_tasks(fets[0], tmp_path / "t")


def test_a_listed_case_that_has_lost_a_file(iseg, tmp_path):
    remove(iseg, "subject-3-T2.img")
    paths = tr.write_tasks(iseg, tmp_path / "t", layout="iseg2019", allow_missing=True)
    remove(iseg, "subject-4-T1.img")
    with pytest.raises(ValueError, match=r"lists 'subject-4'; .* has no subject-4-T1\.img"):
        tr.load_task(paths[0])
    for path in iseg.glob("*label*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"no labelled case in the layout iseg2019; .*-label\.img"):
        tr.write_tasks(iseg, tmp_path / "u", layout="iseg2019", allow_missing=True)


def test_fets_gives_the_partition_modality_tasks(fets, tmp_path):
    root, csv, names = fets
    out = tmp_path / "tasks"
    paths = written(run(root, "--layout", "fets", "--partitions", csv, "--out", out))
    assert list(paths) == [f"{p}-{m}.toml" for p in (1, 2, 13) for m in ("t1", "t2", "flair")]
    task = tr.load_task(paths["13-flair.toml"])
    assert task.name == "13-flair" and task.channels == ("FLAIR",)
    assert task.classes == ("background", "ncr", "ed", "et")
    assert task.labels == {"ncr": (1,), "ed": (2,), "et": (4,)}
    assert [c.id for c in task.cases] == names[3:6] and len(task.test) == 2
    assert [c.id for c in tr.load_task(paths["1-t1.toml"]).cases] == names[:3]


def test_fets_volumes_are_those_of_the_cohort(fets, tumour, tmp_path):
    root, csv, _ = fets
    paths = tr.write_tasks(root, tmp_path / "t", partitions=csv)
    task = tr.load_task(next(p for p in paths if p.name == "1-t2.toml"))
    for k, case in enumerate(task.cases):  # lower case, upper case, .nii
        volume = read(case, task, every_slice=True)
        np.testing.assert_array_equal(
            volume.labels, voxels(tumour / "labelsTr" / f"tumour_{k:03d}.nii.gz")
        )
        np.testing.assert_array_equal(
            volume.image[0], voxels(tumour / "imagesTr" / f"tumour_{k:03d}_0001.nii.gz")
        )


def test_fets_without_partitions_is_one_task(fets, tmp_path):
    root, _, names = fets
    (path,) = tr.write_tasks(root, tmp_path / "t")
    task = tr.load_task(path)
    assert task.channels == ("T1", "T1ce", "T2", "FLAIR") and len(task.cases) == len(names)


def edit(csv, old, new):
    text = csv.read_text()
    assert re.search(old, text)
    csv.write_text(re.sub(old, new, text, count=1))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda r, c, n: shutil.rmtree(r / n[4]),
            r"has no folder FeTS\w+, which .*partitioning_2\.csv lists",
        ),
        (
            lambda r, c, n: next((r / n[4]).glob("*flair*")).unlink(),
            r"has no FeTS\w+_flair\.nii\.gz \(nor \.nii, nor in upper case\)",
        ),
        (
            lambda r, c, n: edit(c, f".*{n[4]}.*\n", ""),
            r"partitioning_2\.csv: does not list FeTS\w+, whose folder is in",
        ),
    ],
)
def test_an_incomplete_fets_folder(fets, tmp_path, damage, words):
    root, csv, names = fets
    damage(*fets)
    call = (root, "--layout", "fets", "--partitions", csv, "--out", tmp_path / "t")
    refused = run(*call)
    assert refused.exit_code == 1 and re.search(words, refused.stderr)
    assert "--allow-missing" in refused.stderr
    allowed = run(*call, "--allow-missing")
    assert re.search(f"note: left out: .*{words}", allowed.stderr)
    task = tr.load_task(written(allowed)["13-t1.toml"])
    assert [c.id for c in task.cases] == [names[3], names[5]]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "Partition_ID",
            "Site",
            r"must have the columns Subject_ID and Partition_ID; Partition_ID",
        ),
        (r"FeTS\w+_(\d+)", r"BraTS_\1", "names the subject 'BraTS_"),
        (r"(?s)\n.*", "\n", "must list subjects below its header"),
        (r"\n(.*)\n", r"\n\1\n\1\n", r"line 3 lists FeTS\w+ a second time, after line 2; remove"),
        (
            r"\n(.*)FeTS(.*)\n",
            r"\n\1FeTS\2\n\n\1fets\2\n",
            r"partitioning_2\.csv: line 4 lists fets\w+ a second time, after line 2; remove one",
        ),
        (r",\w+\n$", ",\n", "line 9 must have a subject and a partition"),
    ],
)
def test_a_strange_csv_is_refused_even_with_allow_missing(fets, tmp_path, old, new, words):
    root, csv, _ = fets
    edit(csv, old, new)
    for more in ((), ("--allow-missing",)):
        result = run(root, "--layout", "fets", "--partitions", csv, "--out", tmp_path / "t", *more)
        assert result.exit_code == 1 and re.search(words, result.stderr), result.output


@pytest.mark.parametrize("partition", ["14/15", "../../x", "-1", "1.5", "1e1", "A", "\u0662"])
def test_a_partition_is_a_whole_number(tmp_path, partition):
    path = tmp_path / "p.csv"
    path.write_text(f"Subject_ID,Partition_ID\nFeTS2022_00001,1\n\nFeTS2022_00002,{partition}\n")
    words = (
        f"{path}: line 4 must have a whole number from 0 as Partition_ID; got {partition!r}; cor"
    )
    with pytest.raises(ValueError, match=re.escape(words)):
        read_partitions(path)


def test_partitions_of_a_spreadsheet(tmp_path):
    path = tmp_path / "p.csv"
    ids = {"0": "0", "00": "0", "01": "1", "1": "1", "14.0": "14", "014.00": "14"}
    lines = [f"FeTS2022_{k:05d},{text}" for k, text in enumerate(ids)]
    path.write_text("\n".join(["Subject_ID,Partition_ID", *lines]))
    assert list(read_partitions(path).values()) == list(ids.values())


def test_releases_are_not_mixed(fets, tmp_path):
    root, csv, names = fets
    other = fets_names("2022" if names[0].startswith("FeTS21") else "2021")
    text = csv.read_text()
    for own, new in zip(names, other, strict=True):
        text = text.replace(own, new)
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(ValueError, match=r"other\.csv: lists subjects of FeTS 20\d\d, .* take the"):
        tr.write_tasks(root, tmp_path / "t", partitions=tmp_path / "other.csv")
    (tmp_path / "other.csv").write_text(csv.read_text().replace(names[0], other[0]))
    with pytest.raises(
        ValueError, match=r"other\.csv: mixes FeTS releases \(FeTS21_Training_00\d of"
    ):
        tr.write_tasks(root, tmp_path / "t", partitions=tmp_path / "other.csv")
    (root / other[0]).mkdir()
    with pytest.raises(ValueError, match=r"mixes FeTS releases .*; keep one of them"):
        tr.write_tasks(root, tmp_path / "t", partitions=csv)


def test_an_unlabelled_folder_of_iseg_beside_the_labelled_one(iseg, tmp_path):
    other = iseg.parent / "iSeg-2019-Validation"
    other.mkdir()
    for path in iseg.glob("subject-11-*"):
        path.rename(other / path.name)
    refused_beside(iseg, other, tmp_path / "t", "iseg2019")
    allowed = run(iseg.parent, "--out", tmp_path / "t", "--allow-missing")
    assert len(written(allowed)) == 6
    assert f"note: left out: {other}: holds no labelled case" in allowed.stderr
    assert "cases" not in (tmp_path / "t" / "gm-t1.toml").read_text()


def test_an_unlabelled_folder_of_fets_beside_the_labelled_one(fets, tmp_path):
    root, csv, _ = fets
    other = root.parent / root.name.replace("Training", "Validation")
    shutil.copytree(root, other)
    for path in [p for p in other.rglob("*") if "seg" in p.name.lower()]:
        path.unlink()
    refused_beside(root, other, tmp_path / "t", "fets")
    allowed = run(root.parent, "--out", tmp_path / "t", "--allow-missing", "--partitions", csv)
    assert len(written(allowed)) == 9 and f"left out: {other}: holds no" in allowed.stderr
    shutil.rmtree(root)
    alone = run(other.parent, "--out", tmp_path / "u", "--allow-missing")
    assert alone.exit_code == 1 and f"error: {other}: holds no labelled case" in alone.stderr


def refused_beside(labelled, other, out, layout):
    refused = run(labelled.parent, "--out", out)
    assert refused.exit_code == 1 and not out.exists()
    assert f"{other}: holds no labelled case in the layout {layout}; {other}" in refused.stderr
    assert (
        f"give the folder with labels alone ({labelled}), or go on without the other with allow_missing (--allow-missing)"
        in refused.stderr
    )


def test_partitions_with_fewer_subjects_than_folds_are_named(fets, tmp_path):
    root, csv, _ = fets
    result = run(root, "--partitions", csv, "--out", tmp_path / "t", "--fold", "1/3")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {csv}: partition 2 must have at least 3 subjects for as many folds; it has 2 in {root}; give fewer folds "
        "(--fold)\n"
    )
    made = [Path(line) for line in result.stdout.split()]
    assert [p.name for p in made] == [
        f"{p}-{m}.toml" for p in (1, 13) for m in ("t1", "t2", "flair")
    ]
    assert all(len(tr.load_task(path).test) == 1 for path in made)
    with pytest.raises(ValueError, match="partition 2 must have at least 3 subjects"):
        tr.write_tasks(root, tmp_path / "u", partitions=csv, fold=(1, 3))
    none = run(root, "--partitions", csv, "--out", tmp_path / "u", "--fold", "0/4")
    assert none.exit_code == 1 and none.stderr.count("must have at least 4 subjects") == 3
    bad = run(root, "--partitions", csv, "--out", tmp_path / "u", "--fold", "0/1")
    assert bad.exit_code == 1 and "fold must be k/n with 0 <= k < n, n from 2 to" in bad.stderr
    assert not (tmp_path / "u").exists()


def test_partition_tasks_are_not_binary(fets, tmp_path):
    with pytest.raises(ValueError, match="binary must be off with partitions"):
        tr.write_tasks(fets[0], tmp_path / "t", partitions=fets[1], binary=True)


def test_partitions_belong_to_fets(iseg, tmp_path):
    (tmp_path / "p.csv").write_text("Subject_ID,Partition_ID\nFeTS2022_00001,1\n")
    with pytest.raises(
        ValueError, match=r"partitions belong to the layout fets; .* is read as iseg"
    ):
        tr.write_tasks(iseg, tmp_path / "t", partitions=tmp_path / "p.csv")
    (tmp_path / "q.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"q\.csv: is no readable csv"):
        read_partitions(tmp_path / "q.csv")


def test_the_command_line_offers_every_layout():
    (option,) = [o for o in main.commands["tasks"].params if o.name == "layout"]
    assert set(option.type.choices) == set(LAYOUTS)
    with pytest.raises(
        ValueError, match="layout must be one of nnunet, msd, iseg2019, fets, pairs"
    ):
        tr.write_tasks(".", ".", layout="dicom")


def test_natural_order():
    assert sorted(["s-10", "S-2", "s-1", "a3b", "a3"], key=natural) == [
        "a3",
        "a3b",
        "s-1",
        "S-2",
        "s-10",
    ]
