"""Imports point down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "transfer_risk"
LEVELS = [  # modules of one level never import each other
    {
        "files",
        "lazy",
        "colours",
        "intervals",
        "significance",
        "textrows",
        "tomlfiles",
        "usertables",
        "datasetjson",
        "checks",
        "methods",
        "callbacks",
        "options",
    },
    {"imagefiles", "drawers"},
    {"outfolders"},
    {"transferability", "tables", "verdicts", "scoretables", "reached"},
    {"riskmap", "overlaps"},
    {"losses", "recipes", "outputs", "mapstats", "scales", "outcomes"},
    {"tasks"},
    {"classes"},
    {"sources", "volumes"},
    {"grids", "lineage", "channels", "networks", "encoders", "views", "windows"},
    {"layouts", "adapters"},
    {"prediction"},
    {"evaluation", "examinations"},
    {"passes", "quantities"},
    {"transfermaps"},
    {"counting", "mapping", "samples", "decisions", "subsets", "loadreport", "runtables"},
    {"scoring"},
    {"runs", "auditing", "objectives", "heads", "features", "collecting", "harm"},
    {"fitting", "runstats", "runfolder", "probes"},
    {"probing", "measuring"},
    {"ranking"},
    {"reports", "training", "pretraining", "comparison", "doctor"},
    {"finetuning", "changes"},
    {"phantom", "overlays", "summaries"},
    {"plotting", "paper"},
    {"pages"},
    {"galleries", "study"},
    {"demo"},
    {"cli"},
]
STUDY = [  # the same within transfer_risk.study
    {"programs", "jobs", "sizes", "methods", "cohorts", "charts"},
    {"tables", "transfers", "results"},
    {"protocols"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
STUDY_LEVEL = {name: number for number, names in enumerate(STUDY) for name in names}
HEAVY = ("torch", "monai", "matplotlib", "pandas", "scipy", "nibabel")


def imported(path, package="transfer_risk"):
    """Modules of a package that a file imports, also inside functions, but not for type checking."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(n)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for n in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden:
            inside, _, module = (node.module or "").partition(f"{package}.")
            if module and not inside:
                yield module.split(".")[0]


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    own = module_of(path)
    if own == "__init__":
        assert set(imported(path)) <= {"lazy"}
        return
    for other in imported(path):
        assert other == own or LEVEL[other] < LEVEL[own], f"{own} imports {other}"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "study").glob("[a-z]*.py")), ids=lambda p: p.stem
)
def test_imports_within_the_study_package_point_down(path):
    for other in imported(path, "transfer_risk.study"):
        assert STUDY_LEVEL[other] < STUDY_LEVEL[path.stem], f"{path.stem} imports {other}"


@pytest.mark.parametrize(
    "code",
    ["import transfer_risk", "import transfer_risk.cli", "from transfer_risk import study"],
)
def test_importing_loads_nothing_heavy(code):
    check = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom transfer_risk.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"assert not [m for m in {HEAVY} if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.parametrize("package", ["transfer_risk", "transfer_risk.study"])
def test_every_public_name_is_there(package):
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_what_studies_alone_need_is_no_name_of_the_library():
    import transfer_risk as tr
    from transfer_risk import study

    assert not set(tr.__all__) & set(study.__all__)
