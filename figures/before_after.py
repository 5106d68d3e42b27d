"""Risk maps before and after fine-tuning on test slices (the paper's Fig. 2), on both cohorts.

Writes figures/before_after_tissue.png (grey matter on T1 from a model of CSF on T1) and figures/before_after_tumour.png
(four classes from a model of another simulated institution), both fine-tuned with the risk-weighted loss, tumours with its
divisor at 5 % of the pixels or more, and beside it with plain cross-entropy; the predictions are those of the risk-weighted
loss, of decisions tuned on the training cases.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

import transfer_risk as tr
from transfer_risk import study

SIZES = {  # mm, cases, steps of pretraining and of fine-tuning
    "smoke": dict.fromkeys(("tissue", "tumour"), (8.0, 6, 3, 2)),
    "quick": {"tissue": (3.0, 8, 200, 400), "tumour": (3.0, 16, 1_000, 400)},
    "full": {"tissue": (2.0, 10, 600, 500), "tumour": (2.0, 16, 2_000, 1_000)},
}
MIN_FOREGROUND = {"tissue": 0.0, "tumour": 0.05}  # of the loss: lesions are rare


def draw(folder: Path, anatomy: str, size: str) -> Figure:
    """Rows are the riskiest test cases; columns are image, label, prediction, risk before and after either loss."""
    spacing, cases, pretraining, iterations = SIZES[size][anatomy]
    template = tr.load_template(spacing=spacing)
    tr.write_source_and_target(folder, anatomy=anatomy, cases=cases, template=template)
    tissue = anatomy == "tissue"
    paths = {p.stem: p for p in tr.write_tasks(folder, folder / "tasks", binary=tissue)}
    names = ("source-csf-t1", "target-gm-t1") if tissue else ("source", "target")
    first, target = (tr.load_task(paths[name]) for name in names)
    print(f"pretraining {first.name}", file=sys.stderr)
    made = tr.pretrain(first, width=8, depth=4, iterations=pretraining)
    source = tr.load_source(tr.save_source(made, folder / "source"))
    common = {"iterations": iterations, "lr": 1e-3, "decision": "tuned"}
    runs = []
    for method, options in (
        ("risk-map", {"min_foreground": MIN_FOREGROUND[anatomy]}),
        ("vanilla", {}),
    ):
        print(f"fine-tuning on {target.name}: {method}", file=sys.stderr)
        recipe = tr.Recipe(method=method, **common, **options)
        tr.finetune(source, target, recipe, out=folder / method)
        runs.append(tr.load_run(folder / method))
    figure: Figure = tr.plot_change(*runs)
    return figure


def main() -> None:
    """Run at the asked size and write the figures."""
    options = study.program_options(__doc__, out=".", published=("full", "quick"))
    for anatomy in ("tissue", "tumour"):
        with tempfile.TemporaryDirectory() as folder:
            figure = draw(Path(folder), anatomy, options.size)
            tr.save_figure(figure, options.out / f"before_after_{anatomy}.png")


if __name__ == "__main__":
    study.run_program(main)
