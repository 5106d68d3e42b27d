"""Each defect that a user's data or model can have is found, once, with its place and a remedy."""

import json
import shutil
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from blob_folder import save
from click.testing import CliRunner

import transfer_risk as tr
from transfer_risk.cli import main
from transfer_risk.doctor import findings_text
from transfer_risk.doctor.finding import from_error
from transfer_risk.imagefiles import load
from transfer_risk.textrows import listed

SHAPE = (12, 10, 8)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def voxels(path):
    return np.asarray(nib.load(path).dataobj).copy()


@pytest.fixture
def data(tmp_path):
    """Seven cases, two channels, three classes; every voxel counts."""
    root, rng = tmp_path / "Dataset001_X", np.random.default_rng(0)
    for k in range(7):
        label = rng.choice(3, SHAPE, p=[0.7, 0.2, 0.1]).astype(np.uint8)
        save(root / "labelsTr" / f"c_{k}.nii.gz", label)
        for channel in range(2):
            image = 100 + 20 * label + rng.normal(scale=5, size=SHAPE)
            save(root / "imagesTr" / f"c_{k}_{channel:04d}.nii.gz", image.astype(np.int16))
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 7,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    tr.write_tasks(root, tmp_path)
    return root


@pytest.fixture
def task_file(data):
    return data.parent / "x.toml"


def make_source(name="source", channels=("T1", "T2"), classes=("background", "a", "b"), **options):
    torch.manual_seed(0)
    network = tr.UNet(len(channels), len(classes), width=2, depth=2).eval()
    architecture = {"target": "unet", "width": 2, "depth": 2}
    trained = {"trained": {"dataset": "elsewhere", "cases": ["p1"]}} | options
    return tr.Source(name, network, classes, channels, architecture=architecture, **trained)


def serious(findings):
    return [f for f in findings if f.severity != "note"]


def only(findings, check):
    """The one error or warning there is, of this check."""
    (finding,) = serious(findings)
    assert finding.check == check and finding.remedy, finding
    return finding


def image(data, case, channel=0):
    return data / "imagesTr" / f"{case}_{channel:04d}.nii.gz"


def label(data, case):
    return data / "labelsTr" / f"{case}.nii.gz"


def part(task_file, name, number=0):
    return tr.load_task(task_file).split(name)[number].id


def test_good_data_has_notes_only(task_file, data):
    findings = tr.diagnose(task_file, [make_source()])
    assert not serious(findings)
    notes = {f.check: f.found for f in findings}
    assert set(notes) == {
        "labels",
        "classes",
        "intensity",
        "geometry",
        "source",
        "parameters",
        "memory",
    }
    task = tr.load_task(task_file)
    raw = {c.id: voxels(c.label) for c in task.cases}
    ones = sum(int((r == 1).sum()) for r in raw.values())
    assert f"1 = a ({ones:,} voxels, 7 cases)" in notes["labels"]
    train = np.concatenate([raw[c.id].ravel() for c in task.split("train")])
    share = np.bincount(train) / train.size
    assert f"-H(Y) = {(share * np.log(share)).sum():.4f} nats" in notes["classes"]
    assert f"b {(train == 2).sum():,} ({100 * share[2]:.2f} %)" in notes["classes"]
    assert notes["geometry"] == "voxels of 1 x 1 x 2 mm"
    mib = np.prod(SHAPE) * 3 * 4 / 2**20
    assert f"largest case {mib:.1f} MiB" in notes["memory"]


def test_each_volume_is_read_once(task_file, monkeypatch):
    from transfer_risk.doctor import examination

    read, original = Counter(), examination.load
    monkeypatch.setattr(examination, "load", lambda p: (read.update([p]), original(p))[1])
    told = []
    tr.diagnose(task_file, progress=told.append)
    task = tr.load_task(task_file)
    assert read == Counter([p for c in task.cases for p in (*c.images, c.label)])
    assert told == [c.id for c in task.cases]


def test_an_undeclared_label_value(task_file, data):
    for case in ("c_1", "c_2"):
        raw = voxels(label(data, case))
        raw[0, 0, :3] = 77
        save(label(data, case), raw)
    finding = only(tr.diagnose(task_file), "labels")
    assert finding.severity == "error" and finding.where.endswith("c_1.nii.gz")
    assert finding.found == "label value 77 (6 voxels in 2 of 7 cases) is declared nowhere"
    assert finding.remedy == "declare it in [labels], background or ignore of the task"


@pytest.mark.parametrize(
    ("where", "kept", "severity", "words"),
    [
        ("train", 0, "error", "class b is in none of the 5 train cases"),
        ("train", 1, "warning", "class b is in only one of the 5 train cases"),
        ("test", 0, "warning", "class b is in none of the 2 test cases"),
    ],
)
def test_a_rare_class(task_file, data, where, kept, severity, words):
    for case in tr.load_task(task_file).split(where)[kept:]:
        raw = voxels(case.label)
        raw[raw == 2] = 1
        save(label(data, case.id), raw)
    finding = only(tr.diagnose(task_file), "classes")
    assert (finding.severity, finding.found, finding.where) == (severity, words, "labels.b")


def test_a_raw_value_that_never_occurs(task_file, data):
    task_file.write_text(task_file.read_text().replace("b = [\n    2,\n]", "b = [2, 3]"))
    finding = only(tr.diagnose(task_file), "labels")
    assert finding.found == "value 3 of class b is in no label file"


def test_no_voxel_that_counts(task_file, data):
    task_file.write_text(
        task_file.read_text().replace('region = "all"', 'region = "all"\nbackground = [9]')
    )
    save(label(data, "c_3"), np.full(SHAPE, 7, np.uint8))
    task = replace(tr.load_task(task_file), ignore=(7,))
    finding = next(f for f in tr.diagnose(task) if f.found == "no voxel counts")
    assert finding.severity == "warning" and finding.where.endswith("c_3.nii.gz")


@pytest.mark.parametrize(
    ("damage", "check", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:80]), "reading", "cannot be read as an image"),
        (lambda p: p.write_bytes(b""), "reading", "cannot be read as an image"),
        (lambda p: save(p, voxels(p)[:-1]), "geometry", "has shape (11, 10, 8)"),
        (lambda p: save(p, voxels(p), np.diag([1, 1, 3, 1])), "geometry", "has spacing [1. 1. 3.]"),
        (
            lambda p: save(p, voxels(p), AFFINE + np.eye(4, k=3) * 5),
            "geometry",
            "has its origin at [5. 0. 0.]",
        ),
    ],
)
@pytest.mark.parametrize("file", [lambda d: image(d, "c_4", 1), lambda d: label(d, "c_4")])
def test_a_broken_or_displaced_file(task_file, data, file, damage, check, words):
    damage(file(data))
    finding = only(tr.diagnose(task_file), check)
    assert finding.severity == "error" and words in finding.found
    assert finding.where == str(file(data))


def rgb(path):
    data = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    save(path, data)
    return "must hold one number per voxel"


def flat(path):
    image = nib.load(path)
    image.header["srow_x"] = image.header["srow_y"]
    header, data = image.header.copy(), voxels(path)
    header["sform_code"] = 1
    nib.save(nib.Nifti1Image(data, None, header), path)
    return "has an affine without three directions"


@pytest.mark.parametrize("damage", [rgb, flat])
def test_an_image_that_is_none_here(task_file, data, damage):
    words = damage(image(data, "c_4"))
    assert words in only(tr.diagnose(task_file), "reading").found
    with pytest.raises(ValueError, match=words):
        load(str(image(data, "c_4")))


def test_damaged_headers_never_raise(task_file, data):
    rng = np.random.default_rng(0)
    for k in range(7):  # uncompressed, so that a byte of the header is a byte of the file
        path = label(data, f"c_{k}")
        save(path.with_suffix(""), voxels(path))
        path.unlink()
    task = tr.load_task(task_file)
    target = type(data)(task.cases[0].label)
    whole, found = target.read_bytes(), 0
    task = replace(task, cases=task.cases[:3], test=())
    for _ in range(60):
        broken = bytearray(whole)
        for place in rng.integers(0, 352, 4):
            broken[place] = rng.integers(0, 256)
        target.write_bytes(bytes(broken))
        found += any(f.severity == "error" for f in tr.diagnose(task))
    assert found > 5


def test_nan_voxels_are_counted(task_file, data):
    broken = voxels(image(data, "c_0")).astype(np.float32)
    broken[0, 0, :4] = [np.nan, np.inf, np.nan, 5]
    save(image(data, "c_0"), broken)
    finding = only(tr.diagnose(task_file), "intensity")
    assert finding.found == f"3 of {broken.size} voxels are NaN or infinite"


def test_a_constant_channel(task_file, data):
    save(image(data, "c_0"), np.full(SHAPE, 3, np.int16))
    findings = serious(tr.diagnose(task_file))
    assert "every voxel is 3" in {f.found for f in findings}


@pytest.mark.parametrize("factor", [100, 0.01])
def test_a_case_in_another_unit(task_file, data, factor):
    scaled = (voxels(image(data, "c_2", 1)) * factor).astype(np.float32)
    save(image(data, "c_2", 1), scaled)
    finding = only(tr.diagnose(task_file), "intensity")
    level = np.median(scaled)
    assert finding.found.startswith(f"median intensity of T2 is {level:g}, that of the other cases")


def test_intensities_below_0_where_0_is_taken_for_background(task_file, data):
    for case in ("c_1", "c_5"):
        save(image(data, case), voxels(image(data, case)) - 1000)
    source = make_source()  # by default zscore-nonzero, as the task
    own = [f for f in serious(tr.diagnose(task_file, [source])) if "zscore-nonzero" in f.found]
    places = ["training.normalise", "source: preprocessing.normalise"]
    assert [(f.severity, f.check, f.where) for f in own] == [
        ("warning", "intensity", place) for place in places
    ]
    low = min(voxels(image(data, case)).min() for case in ("c_1", "c_5"))
    words = f"takes voxels of 0 for background, but T1 goes below 0 in 2 of 7 cases (to {low})"
    assert all(f.found.endswith(words) for f in own)
    task_file.write_text(task_file.read_text().replace("zscore-nonzero", "zscore"))
    quiet = [
        replace(source, name="a", preprocessing=tr.Preprocessing("zscore")),
        replace(source, name="b", stored=lambda _: np.zeros(1)),
    ]
    assert not [f for f in tr.diagnose(task_file, quiet) if "zscore-nonzero" in f.found]


def test_clipped_integers(task_file, data):
    rng = np.random.default_rng(0)
    for case in ("c_1", "c_5"):
        bright = rng.normal(150, 60, SHAPE)
        save(image(data, case), np.clip(bright, 1, 255).astype(np.uint8))
    save(
        image(data, "c_6"), rng.uniform(1, 255, SHAPE).astype(np.uint8)
    )  # a full range is no spike
    finding = only(tr.diagnose(task_file), "intensity")
    assert "integers of T1 are clipped in 2 of 7 cases" in finding.found
    assert "exactly 255" in finding.found


def test_the_same_voxels_on_both_sides(task_file, data):
    train, test = part(task_file, "train"), part(task_file, "test")
    original = nib.load(image(data, train))
    copy = np.asarray(original.dataobj).astype(np.float64)  # another type, the same numbers
    save(image(data, test), copy)
    finding = only(tr.diagnose(task_file), "duplicates")
    assert (
        finding.severity == "error" and "one is a training, the other a test case" in finding.found
    )
    assert train in finding.where + finding.found and test in finding.where + finding.found


def test_the_same_label_on_one_side_and_the_same_channel_twice(task_file, data):
    first, second = part(task_file, "train"), part(task_file, "train", 1)
    shutil.copy(label(data, first), label(data, second))
    finding = only(tr.diagnose(task_file), "duplicates")
    assert finding.severity == "warning" and finding.found.startswith(
        "label has the same voxels as"
    )
    shutil.copy(image(data, "c_0", 0), image(data, "c_0", 1))
    remedies = {f.remedy for f in serious(tr.diagnose(task_file))}
    assert "two channels are one image; copy the right file" in remedies


def test_groups_on_both_sides(task_file):
    task = tr.load_task(task_file)
    cases = tuple(replace(c, group="g" if k in (0, 1) else "") for k, c in enumerate(task.cases))
    findings = tr.diagnose(replace(task, cases=cases, test=("c_1", "c_2")))
    finding = only(findings, "split")
    assert finding.found == "group g is in training and test (c_0, c_1)"
    twice = (*task.cases, replace(task.cases[0], images=task.cases[1].images))
    with pytest.raises(
        ValueError, match="ids of cases must be unique; c_0 is there more than once"
    ):
        replace(task, cases=twice)


def test_splits_without_a_side(task_file):
    task = tr.load_task(task_file)
    ids = tuple(c.id for c in task.cases)
    for test, severity, words in (
        (ids, "error", "0 training and 7 test cases"),
        (ids[1:], "warning", "1 training and 6 test cases; one training case or patient"),
        (ids[:1], "warning", "6 training and 1 test cases; one test case or patient"),
        ((), "warning", "7 training and 0 test cases"),
    ):
        findings = tr.diagnose(replace(task, test=test))
        assert (severity, words) in {(f.severity, f.found) for f in findings if f.check == "split"}


def test_slices_in_different_planes_and_analyze(task_file, data):
    turned = AFFINE[:, [2, 1, 0, 3]]
    for path in (image(data, "c_1", 0), image(data, "c_1", 1), label(data, "c_1")):
        save(path, voxels(path), turned)
    finding = only(tr.diagnose(task_file), "geometry")
    assert "(IS: c_0, c_2, c_3 and 3 more; LR: c_1)" in finding.found
    nib.save(nib.Spm99AnalyzeImage(voxels(image(data, "c_2")), None), data / "a.img")
    task = tr.load_task(task_file)
    case = tr.Case("c_2", (str(data / "a.img"), str(data / "a.img")), None)
    findings = tr.diagnose(replace(task, cases=(*task.cases[3:], case), test=()))
    assert any("1 cases are in Analyze format" in f.found for f in findings)
    assert any(f.found == "has no label file" and f.where == "c_2" for f in findings)


def test_channels_of_a_source(task_file):
    three = make_source("three", channels=("T1", "T2", "FLAIR"))
    finding = only(tr.diagnose(task_file, [three]), "channels")
    assert (
        finding.severity == "error" and "wants the channels ['T1', 'T2', 'FLAIR']" in finding.found
    )
    assert "stand in for missing channels" in finding.remedy or "choose a source" in finding.remedy
    filled = replace(three, missing_channels="zero", notes=("was repaired",))
    findings = tr.diagnose(task_file, [filled])
    assert "was given zeros for the channels ['FLAIR']" in only(findings, "channels").found
    assert "was repaired" in {f.found for f in findings if f.where == "three"}
    other = make_source("other", channels=("PD", "DWI"))
    finding = only(tr.diagnose(task_file, [other]), "channels")
    assert finding.severity == "warning"
    assert (
        "reads the channels ['PD', 'DWI']; it was given ['T1', 'T2'] by position" in finding.found
    )
    turned = make_source("turned", channels=("T2", "T1"))
    assert not serious(tr.diagnose(task_file, [turned]))


def test_classes_and_parameters_of_a_source(task_file):
    source = make_source(classes=("background", "b", "tumour", "c"))
    found = {f.where: f.found for f in tr.diagnose(task_file, [source])}
    assert found["source: classes"].startswith("names that source and task share: b;")
    sizes = {n: p.numel() for n, p in source.network.named_parameters()}
    total, frozen = (
        sum(sizes.values()),
        sum(n for k, n in sizes.items() if k.startswith("encoder.")),
    )
    assert f"{total:,} parameters load" in found["source: encoder"]
    assert f"freezes {frozen:,} ({100 * frozen / total:.1f} %)" in found["source: encoder"]
    assert found["source: encoder"].endswith("head new")
    none = make_source(classes=("background", "x"))
    assert any("no name agrees (x against a, b)" in f.found for f in tr.diagnose(task_file, [none]))


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("^backbone", "encoder = '^backbone' matches no parameter (top level: encoder, up,"),
        (".", "(100.0 %) in fine-tuning; head kept"),
        ("(", "encoder = '(' is no regular expression"),
    ],
)
def test_an_encoder_expression_that_does_not_fit(task_file, encoder, words):
    finding = only(tr.diagnose(task_file, [make_source(encoder=encoder)]), "parameters")
    assert finding.severity == "warning" and words in finding.found


def test_a_network_that_does_not_say_which_part_is_its_encoder(task_file):
    plain = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1))
    source = tr.Source(
        "plain", plain, ("background", "a", "b"), ("T1", "T2"), trained={"cases": ["p"]}
    )
    finding = only(tr.diagnose(task_file, [source]), "parameters")
    assert finding.found.startswith("9 parameters load; network Sequential does not say which part")


def test_weights_with_nan_and_sources_without_network_or_with_one_name(task_file):
    broken = make_source("broken")
    with torch.no_grad():
        broken.network.head.bias[0] = torch.nan
    finding = only(tr.diagnose(task_file, [broken]), "parameters")
    assert finding.found == "weights with NaN or infinity: head.bias"
    stored = replace(make_source("stored"), stored=lambda _: np.zeros(1))
    notes = [f.found for f in tr.diagnose(task_file, [stored]) if f.check == "parameters"]
    assert notes == ["saved probabilities without a network: scored and mapped, not fine-tuned"]
    twins = tr.diagnose(task_file, [make_source("one"), make_source("one")])
    found = "2 sources bear this name; a ranking calls them by their paths"
    assert not serious(twins) and found in [f.found for f in twins]


def test_a_source_that_has_seen_the_task(task_file):
    train, test = part(task_file, "train"), part(task_file, "test")
    seen = {"dataset": "Dataset001_X", "cases": [train, test]}
    findings = serious(tr.diagnose(task_file, [make_source(trained=seen)]))
    assert [(f.severity, f.found) for f in findings] == [
        ("error", f"was trained on 1 test cases of the task ({test})"),
        ("warning", f"was trained on 1 training cases of the task ({train})"),
    ]
    other = {"dataset": "Dataset002_Y", "cases": [train]}
    notes = [
        f
        for f in tr.diagnose(task_file, [make_source(trained=other)])
        if f.check == "training data"
    ]
    assert "from the data set Dataset002_Y, not Dataset001_X" in notes[0].found
    (note,) = [
        f for f in tr.diagnose(task_file, [make_source(trained={})]) if f.check == "training data"
    ]
    assert note.severity == "note" and note.found == "does not say which cases it was trained on"
    tuned = {
        "dataset": "Dataset002_Y",
        "cases": ["elsewhere"],
        "ancestors": [seen, {"name": "old"}],
    }
    findings = tr.diagnose(task_file, [make_source(trained=tuned)])
    assert [f.found for f in findings if f.check == "training data"] == [
        f"was trained on 1 test cases of the task ({test})",
        f"was trained on 1 training cases of the task ({train})",
        "does not say which cases it, or what it was fine-tuned from, was trained on",
    ]


def test_memory_beyond_the_cache(task_file, monkeypatch):
    (fits,) = [f for f in tr.diagnose(task_file, [make_source()]) if f.check == "memory"]
    one = int(np.prod(SHAPE)) * (3 * 4 + 2)
    assert f"scoring wants {5 * one / 2**20:.1f} MiB" in fits.found and not fits.remedy
    monkeypatch.setattr("transfer_risk.doctor.fit.CACHE", 4 * one)
    (note,) = [f for f in tr.diagnose(task_file, [make_source()]) if f.check == "memory"]
    assert note.found == fits.found and note.remedy.startswith("--cache 0.1 gives it")


def test_the_space_that_doctor_names_is_what_scoring_needs(task_file):
    from transfer_risk.passes import Predictions

    task, source = tr.load_task(task_file), make_source()
    one = int(np.prod(SHAPE)) * (3 * 4 + 2)
    for budget, again in ((5 * one, 0), (5 * one - 1, 1)):
        told = []
        predictions = Predictions(source, task, task.split("train"), budget, told.append)
        list(predictions), list(predictions)
        assert len(told) == 5 + again


def test_broken_task_and_source_files_are_findings(task_file, data, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "source.toml").write_text("format = 1\nname = ")
    odd = 'format = 1\nchannels = ["T1"]\nclasses = ["background", "a"]\nnetwork = 3\n'
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "source.toml").write_text(odd)
    places = [tmp_path / name for name in ("half", "odd", "nowhere")]
    findings = tr.diagnose(task_file, places)
    assert [(f.check, f.where) for f in serious(findings)] == [("source", str(p)) for p in places]
    for text in ("[]", '{"channel_names": [], "labels": []}', "{", '{"labels": {"a": 1}}'):
        (data / "dataset.json").write_text(text)
        finding = only(tr.diagnose(task_file), "reading")
        assert finding.where == str(task_file)
    task_file.write_text("format = 2")
    assert "format must be 1" in only(tr.diagnose(task_file, [make_source()]), "reading").found


def test_doctor_on_the_command_line(task_file, data, tmp_path):
    tr.save_source(make_source(), tmp_path / "source")
    call = ["doctor", str(task_file), str(tmp_path / "source")]
    good = CliRunner().invoke(main, call)
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith("0 errors, 0 warnings, 8 notes\nnote     [labels]: label values:")
    image(data, "c_0").write_bytes(b"no image")
    bad = CliRunner().invoke(main, [*call, "--format", "json"])
    assert bad.exit_code == 1
    first = json.loads(bad.stdout)["findings"][0]
    assert set(first) == {"severity", "check", "where", "found", "remedy"}
    assert first["where"].endswith("c_0_0000.nii.gz") and first["severity"] == "error"
    assert CliRunner().invoke(main, ["doctor", str(tmp_path / "no.toml")]).exit_code == 2
    assert CliRunner().invoke(main, [*call, "--trust", "another"]).exit_code == 2


def test_the_table_shows_the_first_of_many(task_file, data):
    for k in range(7):
        image(data, f"c_{k}").unlink()
        image(data, f"c_{k}").write_bytes(b"")
    text = findings_text(tr.diagnose(task_file), "table")
    assert text.count("cannot be read as an image") == 5
    assert "error    reading: 2 more; --format json lists them all\n" in text
    assert "\n         -> copy it again from where it came\n" in text


def test_sentences():
    assert listed(["a", "b"]) == "a, b" and listed(list("abcde")) == "a, b, c and 2 more"
    assert from_error(ValueError("f: is odd; turn it"), "x", "f").remedy == "turn it"
    assert from_error(ValueError("is odd"), "x", "f").remedy == "correct or replace it"
    assert from_error(KeyError("a"), "x", "f").found == "KeyError: 'a'"


def test_an_exported_program_is_not_fine_tuned_into_a_run(task_file, tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.Conv2d(2, 2, 1))
    program = torch.export.export(network.eval(), (torch.zeros(1, 1, 16, 12),))
    torch.export.save(program, tmp_path / "net.pt2")
    words = 'format = 1\nchannels = ["T1"]\nclasses = ["background", "a"]\nencoder = "^none"\n'
    (tmp_path / "net.source.toml").write_text(words)
    findings = [
        f for f in tr.diagnose(task_file, [tmp_path / "net.pt2"]) if f.check == "parameters"
    ]
    assert [f.severity for f in findings] == ["note"]
    assert (
        "cannot be built again: scored and mapped, not fine-tuned into a run" in findings[0].found
    )
