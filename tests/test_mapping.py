"""Maps as files: one case as among all, what an older map leaves, large bases, images in 2D."""

import math
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from blob_folder import SHAPE, save
from command_line import run

import transfer_risk as tr
from transfer_risk.mapping import lone_note, write_maps


def test_one_case_is_mapped_as_among_all(folder, tmp_path):
    path = folder / "tasks" / "blobs.toml"
    ids = [c.id for c in tr.load_task(path).split("train")]
    common = ("map", path, folder / "s0", "--split", "train", "--out")
    assert run(*common, tmp_path / "all").exit_code == 0
    assert run(*common, tmp_path / "one", "--case", ids[1]).exit_code == 0
    written = sorted((tmp_path / "one").iterdir())
    assert [p.name.startswith(f"{ids[1]}_") for p in written] == [True, True]
    for made in written:
        assert made.read_bytes() == (tmp_path / "all" / made.name).read_bytes()
    refused = run("map", path, folder / "s0", "--case", ids[1], "--out", tmp_path / "test")
    words = " ".join(refused.stderr.replace("│", " ").split())
    assert refused.exit_code == 2 and f"has no test case {ids[1]}" in words and "--split" in words


def test_hardness_of_an_earlier_map_does_not_stand_beside_a_new_one(folder, tmp_path):
    words = ("map", folder / "tasks" / "blobs.toml", folder / "s0", "--out", tmp_path)
    assert run(*words, "--hardness").exit_code == 0
    older = list(tmp_path.glob("*_hardness.nii.gz"))
    assert older and run(*words).exit_code == 0
    assert not any(p.exists() for p in older)
    save(older[0], np.zeros(SHAPE, np.uint8))
    assert run(*words).exit_code == 0 and older[0].is_file()


@pytest.mark.parametrize("base", [10.0, 300.0, 1e6])
def test_risk_is_as_exact_on_a_large_base(folder, tmp_path, base):
    task, source = tr.load_task(folder / "tasks" / "blobs.toml"), tr.load_source(folder / "s0")
    write_maps(source, task, tmp_path, base=base)
    for case, made in tr.risk_maps(source, task, base=base).items():
        expected = made.risk[0].numpy()
        found = nib.load(tmp_path / f"{case}_risk.nii.gz").get_fdata()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0.01)
        assert found[expected > 0].min() >= 1 - 1e-6
    for bad in (math.inf, math.nan, 1e7):
        with pytest.raises(ValueError, match=r"base must be from 1 to 1e\+06; got"):
            write_maps(source, task, tmp_path, base=bad)


def test_maps_of_2d_images_have_their_stored_shape(folder, tmp_path):
    for part in ("imagesTr", "labelsTr"):
        for path in (folder / "data" / "Dataset001_Blobs" / part).iterdir():
            image = nib.load(path)
            data = np.asarray(image.dataobj)[..., 2]
            nib.save(nib.Nifti1Image(data, image.affine), path)
    path = folder / "tasks" / "blobs.toml"
    small = ("--iterations", 1, "--batch", 1)
    made = run("finetune", path, folder / "s0", "--out", tmp_path / "r", *small)
    assert made.exit_code == 0, made.output
    assert run("map", path, folder / "s0", "--out", tmp_path / "maps").exit_code == 0
    maps = [*(tmp_path / "maps").iterdir(), *(tmp_path / "r" / "maps").rglob("*.nii.gz")]
    assert {nib.load(p).shape for p in maps} == {SHAPE[:2]}
    assert run("compare", tmp_path / "r").exit_code == 0


def test_maps_that_no_other_patient_made_are_told_of(folder, tmp_path):
    path = folder / "tasks" / "blobs.toml"
    kept = f'test = [\n    "{tr.load_task(path).test[0]}",\n]'
    lone, told = path.with_name("lone.toml"), []
    lone.write_text(re.sub(r"test = \[[^]]*\]", kept, path.read_text()))
    for number, task in enumerate((path, lone)):
        made = run("map", task, folder / "s0", "--out", tmp_path / f"maps{number}")
        assert made.exit_code == 0, made.output
        told.append("no other patient: the maps are in-sample" in made.stderr)
        risk = nib.load(next((tmp_path / f"maps{number}").glob("*_risk.nii.gz")))
        assert ("in-sample" in risk.header["descrip"].item().decode()) == told[-1]
    assert told == [False, True]


def test_patients_that_cannot_be_predicted_are_no_other_patients(folder, tmp_path):
    path = folder / "tasks" / "blobs.toml"
    task = tr.load_task(path)
    for case in task.cases:
        if case.id in task.test[1:]:
            Path(case.images[0]).write_bytes(b"no image")
    made = run("map", path, folder / "s0", "--out", tmp_path / "maps")
    assert made.exit_code == 1 and f"{task.test[0]}: there is no other patient" in made.stderr
    assert len(task.test) > 1


def test_two_scans_of_one_patient_are_no_other_patient():
    cases = [tr.Case(name, ("i",), group="p") for name in "ab"]
    assert lone_note(cases).startswith("a, b: there is no other patient")
    assert not lone_note([*cases, tr.Case("c", ("i",))])
