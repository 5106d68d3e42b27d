"""Transfers as jobs of a study: the same numbers as fine-tuning by hand, done once, with or without real data."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from folders import iseg

import transfer_risk as tr
from transfer_risk import study
from transfer_risk.study import protocols, transfers
from transfer_risk.study.cohorts import write_cohorts

PAIR = ("csf-t1", "gm-t1")
SIZE = replace(study.SIZES["smoke"], stops=(1, 3))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    plan = study.TransferStudy(tmp_path_factory.mktemp("study"), "tissue", SIZE)
    own = plan.prepare([PAIR])
    return plan, own


def test_preparing_gives_the_sources_dice_on_their_own_task(prepared):
    plan, own = prepared
    place = plan.place(0)
    source = tr.load_source(place / "sources" / PAIR[0])
    measures = tr.evaluate(source, study.cohort_task(place, "source", PAIR[0]), distances=False)
    assert own["source"].tolist() == [PAIR[0]] and own["seed"].tolist() == [0]
    assert own["own_dice"][0] == pytest.approx(np.nanmean([m.dice for m in measures]), abs=1e-5)


def test_a_folder_with_cohorts_of_another_size_is_refused(prepared):
    plan, _ = prepared
    other = replace(plan, size=replace(SIZE, cases=7, pretraining=9, stops=(5,), lr=1e-4))
    with pytest.raises(ValueError, match=r"\(cases 4, not 7, pretraining 3, not 9\); give another"):
        other.prepare([PAIR])


def test_each_stop_is_a_fine_tuning_of_its_own(prepared):
    plan, _ = prepared
    (job,) = plan.jobs([PAIR], {"risk": {"method": "risk-map"}})
    rows = transfers.transfer(job)
    assert [(r["iterations"], r["decision"]) for r in rows] == [
        (1, "argmax"),
        (3, "argmax"),
        (3, "tuned"),
    ]
    task, source = transfers.tasks_of(job)
    for row in rows:
        recipe = tr.Recipe(
            method="risk-map", iterations=row["iterations"], lr=1e-3, decision=row["decision"]
        )
        measures = tr.evaluate(tr.finetune(source, task, recipe), task, distances=False)
        for name in ("dice", "recall", "precision"):
            values = [getattr(m, name) for m in measures]
            if not all(math.isnan(v) for v in values):
                assert row[name] == pytest.approx(100 * np.nanmean(values), abs=1e-9)


def test_a_transfer_is_done_once_whatever_its_labels(prepared, monkeypatch):
    plan, _ = prepared
    (job,) = plan.jobs([PAIR], {"vanilla": study.RECIPES["vanilla"]}, stops=[2])
    rows = transfers.transfer(job)
    assert [r["iterations"] for r in rows] == [2, 2, 32]  # vanilla is measured later too
    model = tr.load_source(transfers.model_path(job))
    assert model.trained["iterations"] == 2
    kept = [m.dice for m in tr.evaluate(model, transfers.tasks_of(job)[0], distances=False)]
    assert 100 * np.nanmean(kept) == pytest.approx(rows[0]["dice"], abs=1e-9)
    monkeypatch.setattr(transfers, "begin", None)  # nothing is trained again
    (same,) = plan.jobs(
        [PAIR], {"other": study.RECIPES["vanilla"]}, stops=[2], labels={"group": "a"}
    )
    (other,) = plan.jobs([PAIR], {"other": study.RECIPES["vanilla"]}, stops=[3])
    assert next(iter(same)) == "group" and same["stops"] == "2"
    assert transfers.model_path(same | {"stops": "2 32"}) == transfers.model_path(job)
    assert transfers.model_path(other) != transfers.model_path(job)
    (plain,) = plan.jobs([PAIR], {"other": study.RECIPES["vanilla"]}, stops=[2], tuned="none")
    assert plain["tuned"] == "" and transfers.model_path(plain) != transfers.model_path(job)
    assert plan.jobs([PAIR], {"other": study.RECIPES["vanilla"]}, stops=plan.size.long) == []
    again = transfers.transfer(same | {"stops": "2 32"})
    assert json.dumps(again) == json.dumps(rows)


def test_decisions_are_tuned_at_the_stops_that_are_asked_for():
    plan = study.TransferStudy(Path("there"), "tissue", SIZE)
    recipes = {name: study.RECIPES[name] for name in ("vanilla", "risk-map")}
    asked = {t: plan.jobs([PAIR], recipes, tuned=t) for t in ("last", "every", "none")}
    stops = ["1 3 31 33", "1 3"]  # vanilla is measured later too
    assert [job["stops"] for job in asked["last"]] == stops
    assert [job["tuned"] for job in asked["last"]] == ["3", "3"]
    assert [job["tuned"] for job in asked["every"]] == stops
    assert [job["tuned"] for job in asked["none"]] == ["", ""]


def test_a_model_keeps_its_name():
    """Or what was trained for days is trained again."""
    plan = study.TransferStudy(Path("there"), "tissue", study.SIZES["full"], first_seed=10)
    (job,) = plan.jobs([PAIR], {"risk-map": study.RECIPES["risk-map"]}, labels={"slices": 0})
    assert study.model_path(job) == Path("there/tissue-10/transfers/004ebf06ee658621")


def test_institutions_have_their_own_subjects_and_share_them_among_modalities(tmp_path):
    write_cohorts(tmp_path, anatomy="partitions", seed=0, spacing=9.0, cases=3)
    tasks = {name: study.cohort_task(tmp_path, "source", name) for name in study.PARTITION_TASKS}
    assert [t.channels for t in tasks.values()] == [(n.split("-")[1].upper(),) for n in tasks]
    assert all(t.classes == ("background", "ncr", "ed", "et") for t in tasks.values())
    labels = {name: task.cases[0].label for name, task in tasks.items()}
    assert labels["14-t1"] == labels["14-t2"] == labels["14-flair"]
    arrays = {name: nib.load(path).get_fdata() for name, path in labels.items()}
    assert not np.array_equal(arrays["13-t1"], arrays["14-t1"])
    before = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz"))
    write_cohorts(tmp_path, anatomy="partitions", seed=0, spacing=9.0, cases=3)
    assert sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.nii.gz")) == before


def test_real_data_are_source_and_target_alike(tmp_path, capsys):
    root = iseg(tmp_path / "iseg")
    plan = study.TransferStudy(tmp_path / "work", "tissue", SIZE, data=root)
    plan.prepare([PAIR])
    assert plan.place(0).name == "tissue-real-0" and not list(plan.place(0).glob("Dataset*"))
    source, target = (
        study.cohort_task(plan.place(0), role, PAIR[1]) for role in ("source", "target")
    )
    assert source.cases == target.cases and len(target.cases) == 10
    (job,) = plan.jobs([PAIR], {"risk": {"method": "risk-map"}})
    assert len(plan.run([job], "rows")) == 3
    (root / "subject-4-T2.nii.gz").unlink()
    with pytest.raises(RuntimeError, match=r"subject-4-T2.*--allow-missing"):
        replace(plan, folder=tmp_path / "some").prepare([PAIR])
    capsys.readouterr()
    some = replace(plan, folder=tmp_path / "some", allow_missing=True)  # as the error says
    some.prepare([PAIR])
    kept = study.cohort_task(some.place(0), "target", PAIR[1]).cases
    assert len(kept) == 9 and not any(c.id.startswith("subject-4-") for c in kept)
    with pytest.raises(RuntimeError, match=r"subject-4-T2.*--allow-missing"):
        replace(some, allow_missing=False).prepare([PAIR])  # that it was allowed once is no answer
    assert "subject-4" in capsys.readouterr().err
    words = (
        r"tasks: must hold a task 13-t1 or target-13-t1; it holds csf-t1, csf-t2, gm-t1, .*wm-t2"
    )
    with pytest.raises(ValueError, match=words):
        study.cohort_task(plan.place(0), "target", "13-t1")


def test_a_work_folder_is_of_one_study_and_one_version(tmp_path, monkeypatch):
    root = iseg(tmp_path / "iseg")
    plan = study.TransferStudy(tmp_path / "work", "tissue", SIZE, data=root)
    (tmp_path / "wrong").mkdir()
    with pytest.raises(RuntimeError, match="wrong"):
        replace(plan, data=tmp_path / "wrong").prepare([PAIR])
    plan.prepare([PAIR])  # a mistyped folder claims nothing
    monkeypatch.chdir(tmp_path)
    replace(plan, data=Path("iseg")).prepare([PAIR])
    monkeypatch.setattr(protocols, "version", lambda _: "9.9")
    with pytest.raises(ValueError, match=r"another study \(version .*, not 9\.9\); give another"):
        plan.prepare([PAIR])


def test_a_mistake_of_the_user_is_one_sentence(tmp_path):
    program = Path(__file__).parents[1] / "analysis" / "table1.py"
    command = [sys.executable, str(program), "--smoke", "--data", str(tmp_path / "nowhere")]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert result.stderr.strip().endswith(f"a folder; there is none at {tmp_path}/nowhere")


def test_the_summary_leaves_out_the_later_stops_and_is_relative_to_vanilla(tmp_path, capsys):
    rows = [
        {
            "source": s,
            "target": "t",
            "recipe": r,
            "iterations": i,
            "decision": "argmax",
            "dice": d,
            "recall": 1.0,
            "precision": 1.0,
        }
        for s, gain in (("a", 1.0), ("b", 3.0))
        for r, i, d in (("vanilla", 50, 40.0), ("vanilla", 80, 99.0), ("risk-map", 50, 40.0 + gain))
    ]
    made = study.write_transfer_table(
        pd.DataFrame(rows), tmp_path / "t.csv", paper={"risk-map": 1.89}
    ).set_index("recipe")
    assert made.loc["vanilla", "dice"] == 40 and set(made["iterations"]) == {50}
    assert made.loc["risk-map", "difference"] == pytest.approx(2)
    assert made.loc["risk-map", "relative"] == pytest.approx(5)
    assert made.loc["risk-map", "paper"] == 1.89 and math.isnan(made.loc["vanilla", "paper"])
    assert len(pd.read_csv(tmp_path / "t.csv")) == 6
    assert set(study.regular(pd.DataFrame(rows))["iterations"]) == {50}
    assert pd.read_csv(tmp_path / "t_summary.csv")["difference"].tolist() == [0, 2]
    assert "risk-map" in capsys.readouterr().out


def test_a_brain_that_is_not_there_is_named_before_anything_is_done(tmp_path):
    program = Path(__file__).parents[1] / "analysis" / "recipes.py"
    command = [sys.executable, str(program), "--smoke", "--t1", str(tmp_path / "no.nii.gz")]
    command += ["--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    wanted = (
        f"--t1 must be a NIfTI file, a T1 without skull; there is none at {tmp_path}/no.nii.gz\n"
    )
    assert (result.returncode, result.stderr) == (1, wanted)
    assert not list((tmp_path / "out").iterdir())


def test_the_options_of_a_study(monkeypatch, tmp_path):
    (there := tmp_path / "there").mkdir()
    (csv := tmp_path / "them.csv").touch()
    command = ["table2.py", "--seeds", "2", "--out", str(tmp_path / "new"), "--data", str(there)]
    command += ["--partitions", str(csv)]
    monkeypatch.setattr(sys, "argv", command)
    options = study.job_options("A study.", study.TRANSFER_OPTIONS)
    plan = study.transfer_study(options, "partitions")
    assert options.size == "full" and (tmp_path / "new").is_dir()
    assert plan.size.cases == protocols.LESIONS["cases"] and list(plan.seeds) == [10, 11]
    assert plan.data == there and plan.folder == tmp_path / "new" / "work" / "full"
    for given, it, lack in (
        ("--data", there, "--partitions"),
        ("--partitions", csv, "--data"),
    ):
        monkeypatch.setattr(sys, "argv", ["table2.py", given, str(it), "--out", str(tmp_path)])
        asked = study.job_options("A study.", study.TRANSFER_OPTIONS)
        with pytest.raises(ValueError, match=rf"{given} needs {lack}, the .* of FeTS .*; got none"):
            study.transfer_study(asked, "partitions")
    (tmp_path / "data" / "TrainingData" / "FeTS21_Training_001").mkdir(parents=True)
    for folder in (tmp_path / "data", tmp_path / "data" / "TrainingData"):
        monkeypatch.setattr(
            sys, "argv", ["tuned.py", "--data", str(folder), "--out", str(tmp_path)]
        )
        with pytest.raises(ValueError, match=r"--data needs --partitions"):
            study.transfer_studies(study.job_options("A study.", study.TRANSFER_OPTIONS))
    seeded = {**study.DATA_OPTIONS, "--seed": {"type": int}}
    for given, words in (
        (
            ["--data", there, "--seed", 13],
            r"--seed is of other simulated subjects .* without --data",
        ),
        (["--seed", 10], r"--seed must be another than 10 and 11, .*; got 10"),
        (["--data", tmp_path / "no"], r"--data must be a folder; there is none at .*no$"),
        (["--data", there, "--partitions", there], r"--partitions must be a csv file; there is no"),
    ):
        monkeypatch.setattr(sys, "argv", ["p.py", *map(str, given), "--out", str(tmp_path)])
        with pytest.raises(ValueError, match=words):
            study.transfer_study(study.job_options("A study.", seeded), "tissue")
    for option in ("--seeds", "--processes"):
        monkeypatch.setattr(sys, "argv", ["p.py", option, "0", "--out", str(tmp_path)])
        with pytest.raises(SystemExit) as end:
            study.job_options("A study.", seeded)
        assert end.value.code == 2
    for seed, place in ((None, "results"), (12, "results"), (14, "results/seed-14")):
        given = [] if seed is None else ["--seed", str(seed)]
        monkeypatch.setattr(sys, "argv", [str(tmp_path / "p.py"), *given])
        assert study.job_options("", seeded, seeds=(None, 12)).out == tmp_path / place
    monkeypatch.setattr(sys, "argv", ["table1.py", "--allow-missing", "--out", str(tmp_path)])
    asked = study.job_options("A study.", study.TRANSFER_OPTIONS)
    with pytest.raises(ValueError, match=r"--allow-missing needs --data, .*; got none"):
        study.transfer_study(asked, "tissue")
    monkeypatch.setattr(sys, "argv", ["table1.py", "--paper", "--out", str(tmp_path)])
    paper = study.transfer_study(
        study.job_options("A study.", study.TRANSFER_OPTIONS), "tissue"
    ).size
    assert (paper.width, paper.stops, paper.lr) == (32, (5_000,), 1e-4)


@pytest.mark.parametrize("size", ["smoke", "quick", "full"])
def test_small_runs_do_not_replace_what_is_published(monkeypatch, tmp_path, size):
    words = [f"--{size}"] if size != "full" else []
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "table1.py"), *words])
    own = tmp_path / "results" if size == "full" else tmp_path / "results" / size
    assert study.job_options("A study.").out == study.program_options("A program.").out == own
    drawn = study.program_options("A figure.", out=".", published=("full", "quick")).out
    assert drawn == (tmp_path / "smoke" if size == "smoke" else tmp_path)
    monkeypatch.setattr(sys, "argv", ["table1.py", *words, "--out", str(tmp_path)])
    assert study.program_options("A program.").out == tmp_path
    command = [str(tmp_path / "table1.py"), *words, "--data", "there"]
    monkeypatch.setattr(sys, "argv", command)
    assert study.job_options("A study.", study.DATA_OPTIONS).out == own / "real"


def test_there_is_a_job_for_each_pair_seed_and_recipe(tmp_path):
    size = replace(study.SIZES["smoke"], seeds=3)
    plan = study.TransferStudy(tmp_path, "tissue", size, first_seed=10)
    recipes = {name: study.RECIPES[name] for name in ("vanilla", "risk-map")}
    jobs = plan.jobs(plan.pairs, recipes)
    told = [(j["source"], j["target"], j["seed"], j["recipe"]) for j in jobs]
    assert len(set(told)) == len(told) == 3 * 2 * len(plan.pairs)
    assert {job["seed"] for job in jobs} == {10, 11, 12}
    assert plan.jobs(plan.pairs, recipes, stops=[]) == []
