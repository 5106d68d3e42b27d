"""Studies and figures are tests too: each program runs at its smallest size."""

import ast
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import iseg

ROOT = Path(__file__).parents[1]
FOLDERS = ("analysis", "figures", "docs/examples")
ELSEWHERE = {"deepbet.py", "nnunet_trainer.py"}  # want a wheel of others, and nnunetv2
BESIDE = sorted(Path("docs/examples") / name for name in ELSEWHERE)
PROGRAMS = sorted(
    p.relative_to(ROOT)
    for folder in FOLDERS
    for p in (ROOT / folder).glob("*.py")
    if p.name not in ELSEWHERE
)
PUBLIC = {"transfer_risk", "transfer_risk.study"}
INSIDE = {  # what they reach behind the public names
    "analysis/benchmark_resources.py": {"passes", "cli"},  # times the passes alone, starts --help
    "analysis/benchmark_training.py": {"features", "fitting", "heads", "objectives", "samples"},
    "analysis/interval_coverage.py": {"tables"},  # simulates sums of a pass, not pixels
    "figures/overview.py": {"overlays", "pages", "prediction", "views"},  # draws layer by layer
    "docs/examples/nnunet_trainer.py": {"prediction"},  # patches, of which there is no case
}
STUDIES = [p for p in PROGRAMS if p.name != "tables.py"]


def smoke(program, folder):
    """The program at smoke size, with one thread."""
    command = [sys.executable, str(ROOT / program), "--smoke", "--out", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


@pytest.fixture(scope="module")
def begun(request, tmp_path_factory):
    """Folder and result to come of each program that is tested; as many run at once as there are cores."""
    tested = [i for i in request.session.items if "begun" in getattr(i, "fixturenames", ())]
    folders = {i.callspec.params["program"]: tmp_path_factory.mktemp("smoke") for i in tested}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield {p: (folder, pool.submit(smoke, p, folder)) for p, folder in folders.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("program", STUDIES, ids=str)
def test_the_program_runs_at_smoke_size_and_writes_its_result(program, begun):
    folder, running = begun[program]
    result = running.result()
    assert result.returncode == 0, result.stderr
    assert [p for p in folder.iterdir() if p.suffix in (".csv", ".png") and p.stat().st_size > 0]
    assert all(len(pd.read_csv(p)) for p in folder.glob("*.csv"))


def imports(program):
    """Module and names of each import of a program."""
    for node in ast.walk(ast.parse((ROOT / program).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.module, [alias.name for alias in node.names]


@pytest.mark.parametrize("program", [*PROGRAMS, *BESIDE], ids=str)
def test_programs_import_public_names_alone_and_never_each_other(program):
    siblings = {p.stem for p in PROGRAMS}
    reached = set()
    for module, names in imports(program):
        assert module not in siblings
        if module in PUBLIC:
            public = import_module(module)
            assert set(names) <= {*public.__all__, "study"}, f"from {module} import {names}"
        elif module.partition(".")[0] == "transfer_risk":
            reached.add(module.split(".")[1])
    assert reached == INSIDE.get(str(program), set())


def test_the_tables_of_the_documents_are_those_of_the_results():
    command = [sys.executable, str(ROOT / "analysis" / "tables.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"run python analysis/tables.py: {result.stdout}{result.stderr}"


@pytest.mark.parametrize(
    "program",
    ["before_after", "negative_transfer", "ranking", "ablation", "recipes", "schedule", "tuned"],
)
def test_studies_take_the_data_of_the_user(tmp_path, program):
    command = [sys.executable, str(ROOT / "analysis" / f"{program}.py"), "--smoke"]
    command += ["--data", str(iseg(tmp_path / "iseg")), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "out" / f"{program}.csv")
    assert set(table["anatomy"]) == {"tissue"}
    assert list((tmp_path / "out" / "work" / "smoke").glob("tissue-real-*/sources/*"))
    if program == "ranking":
        summary = pd.read_csv(tmp_path / "out" / "ranking_summary.csv")
        assert set(summary["anatomy"]) == {"tissue"}


NUMBER = r"[+-]?\d*\.?\d+"
QUOTED = re.compile(rf"({NUMBER})(?: Dice)?(?: points)? \[({NUMBER}), ({NUMBER})\]")


def quoted(path):
    """Values with their intervals in the sentences of a document, as words."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    return QUOTED.findall(re.sub(r"(?m)^\|.*$", "", text).replace("\n", " "))


def measured():
    """Values with their intervals in the results."""
    for path in (ROOT / "analysis" / "results").glob("*_summary.csv"):
        table = pd.read_csv(path)
        own = [
            (name, f"{name}_low{end}", f"{name}_high{end}")
            for name in table
            for end in ("", "_shared")
        ]
        own += [(name, "low", "high") for name in ("difference", "value", "auroc")]
        own.append(("difference", "low_shared", "high_shared"))
        for columns in (c for c in own if set(c) <= set(table)):
            yield from table[list(columns)].dropna().to_numpy()


@pytest.mark.parametrize(("name", "least"), [("README.md", 10), ("docs/results.md", 5)])
def test_each_interval_in_a_sentence_is_one_of_the_results(name, least):
    there = np.stack(list(measured()))
    found = quoted(ROOT / name)
    assert len(found) >= least
    for words in found:
        steps = np.array([0.5 * 10.0 ** -len(w.partition(".")[2]) for w in words])
        near = np.abs(there - np.array(words, dtype=float)) <= steps + 1e-9
        assert near.all(axis=1).any(), f"{name}: {' '.join(words)} is in no results/*_summary.csv"


@pytest.mark.parametrize("program", ["recipes", "ranking"])
def test_recipes_and_ranking_are_confirmed_on_the_seed_that_is_given(tmp_path, program):
    command = [sys.executable, str(ROOT / "analysis" / f"{program}.py"), "--smoke", "--seed", "12"]
    result = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / f"{program}_confirmed.csv")
    assert set(table["seed"]) == {12} and set(table["anatomy"]) == {"tissue", "partitions"}
    summary = pd.read_csv(tmp_path / f"{program}_confirmed_summary.csv")
    assert {"CE + Dice", "probe + adaptive-risk + Dice"} < set(summary["recipe"])
    if program == "recipes":
        assert "vanilla, longer" in set(summary["recipe"])
    else:
        tuned = {name for name in summary["recipe"] if name.endswith(", tuned")}
        recipe = "probe + adaptive-risk + Dice"
        unfrozen = {f"{name}, nothing frozen, tuned" for name in (recipe, "CE + Dice")}
        assert tuned == {f"{recipe}, tuned"} | unfrozen


def audit(out, seed):
    """Summary of ranking.py on the models that another study of this seed left in its folder."""
    command = [sys.executable, str(ROOT / "analysis" / "ranking.py"), "--smoke", "--seed", seed]
    result = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return pd.read_csv(out / "ranking_unfrozen_summary.csv")


def test_what_was_decided_after_the_tuned_runs_is_confirmed_on_another_seed(tmp_path):
    command = [sys.executable, str(ROOT / "analysis" / "tuned.py"), "--smoke", "--seed", "13"]
    result = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tmp_path / "tuned_confirmed.csv")
    assert set(table["seed"]) == {13} and not (tmp_path / "tuned.csv").exists()
    both = {"argmax", "tuned"}
    assert set(zip(table["anatomy"], table["decision"], strict=True)) == {
        (anatomy, decision) for anatomy in ("tissue", "partitions") for decision in both
    }
    unfrozen = {"vanilla, nothing frozen", "CE + Dice, nothing frozen"}
    scratch = {"scratch", "scratch, CE + Dice"}
    recipe = {"probe + adaptive-risk + Dice"}
    assert set(table["recipe"]) == {"vanilla", "vanilla, longer"} | unfrozen | scratch | recipe
    assert set(audit(tmp_path, "13")["recipe"]) == unfrozen | {"vanilla"} | recipe
    for end, reference in {"": "vanilla, longer", "_unfrozen": "vanilla, nothing frozen"}.items():
        summary = pd.read_csv(tmp_path / f"tuned_confirmed{end}_summary.csv")
        assert set(summary["recipe"]) == set(table["recipe"])
        assert (summary.loc[summary["recipe"] == reference, "difference"] == 0).all()
