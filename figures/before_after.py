"""Risk maps before and after fine-tuning on test slices (the paper's Fig. 2), on both cohorts.

Writes figures/before_after_tissue.png (grey matter on T1 from a model of CSF on T1) and figures/before_after_tumour.png
(four classes from a model of another simulated institution), both fine-tuned with the risk-weighted loss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import transfer_risk as tr
from transfer_risk.plotting import save_figure

SIZES = {  # mm, cases, steps of pretraining and of fine-tuning
    "smoke": (8.0, 6, 3, 2),
    "quick": (3.0, 8, 200, 100),
    "full": (2.0, 10, 600, 300),
}


def draw(folder: Path, anatomy: str, size: str) -> Figure:
    """Rows are the riskiest test cases; columns are image, label, prediction, risk before and after."""
    spacing, cases, pretraining, iterations = SIZES[size]
    template = tr.load_template(spacing=spacing)
    tr.write_source_and_target(folder, anatomy=anatomy, cases=cases, template=template)
    tissue = anatomy == "tissue"
    paths = {p.stem: p for p in tr.write_tasks(folder, folder / "tasks", binary=tissue)}
    names = ("source-csf-t1", "target-gm-t1") if tissue else ("source", "target")
    first, target = (tr.load_task(paths[name]) for name in names)
    print(f"pretraining {first.name}", file=sys.stderr)
    made = tr.pretrain(first, width=8, depth=4, iterations=pretraining)
    source = tr.load_source(tr.save_source(made, folder / "source"))
    print(f"fine-tuning on {target.name}", file=sys.stderr)
    recipe = tr.Recipe(method="risk-map", iterations=iterations, lr=1e-3)
    tr.finetune(source, target, recipe, out=folder / "run")
    return tr.plot_change(tr.load_run(folder / "run"))


def main() -> None:
    """Run at the asked size and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", dest="size", action="store_const", const="smoke")
    parser.add_argument("--quick", dest="size", action="store_const", const="quick")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    for anatomy in ("tissue", "tumour"):
        with tempfile.TemporaryDirectory() as folder:
            figure = draw(Path(folder), anatomy, options.size or "full")
            save_figure(figure, options.out / f"before_after_{anatomy}.png")


if __name__ == "__main__":
    main()
