"""Studies and figures are tests too: each program runs at its smallest size."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("analysis", "figures", "docs/examples")
ELSEWHERE = {"deepbet.py", "nnunet_trainer.py"}  # want a wheel of others, and nnunetv2
PROGRAMS = sorted(
    p.relative_to(ROOT)
    for folder in FOLDERS
    for p in (ROOT / folder).glob("*.py")
    if p.name not in ELSEWHERE
)
STUDIES = [p for p in PROGRAMS if p.name != "tables.py"]


@pytest.mark.parametrize("program", STUDIES, ids=str)
def test_the_program_runs_at_smoke_size_and_writes_its_result(program, tmp_path):
    command = [sys.executable, str(ROOT / program), "--smoke", "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert [p for p in tmp_path.iterdir() if p.suffix in (".csv", ".png") and p.stat().st_size > 0]


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_programs_import_the_library_alone_and_never_each_other(program):
    names = {p.stem for p in PROGRAMS}
    for node in ast.walk(ast.parse((ROOT / program).read_text())):
        if isinstance(node, ast.Import):
            assert not names & {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module not in names


def test_the_tables_of_the_documents_are_those_of_the_results():
    command = [sys.executable, str(ROOT / "analysis" / "tables.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"run python analysis/tables.py: {result.stdout}{result.stderr}"
