"""Imports point down only, and nothing heavy is imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "transfer_risk"
LEVELS = [  # modules of one level never import each other
    {
        "files",
        "intervals",
        "significance",
        "sizes",
        "programs",
        "textrows",
        "tomlfiles",
        "usertables",
        "datasetjson",
        "checks",
        "methods",
        "callbacks",
        "options",
    },
    {"studies", "imagefiles"},
    {"transferability", "tables", "verdicts", "scoretables", "reached", "transfertables"},
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
    {"plotting", "paper", "cohorts", "charts"},
    {"pages", "transfers", "results"},
    {"galleries", "protocols"},
    {"demo"},
    {"cli"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}
HEAVY = ("torch", "monai", "matplotlib", "pandas", "scipy", "nibabel")


def imported(path):
    """Modules of the package that a file imports, also inside functions, but not for type checking."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(n)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for n in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in hidden and node.module:
            parts = node.module.split(".")
            if parts[0] == "transfer_risk" and len(parts) > 1:
                yield parts[1]


def module_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    own = module_of(path)
    if own == "__init__":
        assert not list(imported(path))
        return
    for other in imported(path):
        assert other == own or LEVEL[other] < LEVEL[own], f"{own} imports {other}"


@pytest.mark.parametrize("code", ["import transfer_risk", "import transfer_risk.cli"])
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


def test_every_public_name_is_there():
    import transfer_risk as tr

    for name in tr.__all__:
        assert getattr(tr, name) is not None
