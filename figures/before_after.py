"""Risk maps before and after fine-tuning on test slices (the paper's Fig. 2), on both cohorts.

Writes figures/before_after_tissue.png (grey matter on T1 from a model of CSF on T1) and figures/before_after_tumour.png
(four classes on FLAIR from a model of another simulated institution on T2), both fine-tuned with the risk-weighted loss.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
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
    tissue = anatomy == "tissue"
    cohort = tr.write_tissue_cohort if tissue else tr.write_tumour_cohort
    for role, number in (("Source", 1), ("Target", 0)):
        cohort(
            folder,
            cases=cases,
            seed=number,
            template=template,
            institution=number,
            name=f"Dataset00{number + 1}_{role}",
            prefix=role.lower(),
        )
    names = ("source-csf-t1", "target-gm-t1") if tissue else ("source-t2", "target-flair")
    first, target = (_task(folder, name, tissue=tissue) for name in names)
    print(f"pretraining {first.name}", file=sys.stderr)
    made = tr.pretrain(first, width=8, depth=4, iterations=pretraining)
    source = tr.load_source(tr.save_source(made, folder / "source"))
    print(f"fine-tuning on {target.name}", file=sys.stderr)
    recipe = tr.Recipe(method="risk-map", iterations=iterations, lr=1e-3)
    tr.finetune(source, target, recipe, out=folder / "run")
    return tr.plot_change(tr.load_run(folder / "run"))


def _task(folder: Path, name: str, *, tissue: bool) -> tr.Task:
    """Task file of one class on one channel, or of all classes on one channel."""
    out = folder / "tasks"
    paths = {p.stem: p for p in tr.write_tasks(folder, out, binary=tissue)}
    if tissue:
        return tr.load_task(paths[name])
    role, channel = name.split("-")
    text = paths[role].read_text()
    channels = tr.load_task(paths[role]).channels
    listed = "".join(f'    "{c}",\n' for c in channels)
    chosen = next(c for c in channels if c.lower() == channel)
    path = out / f"{name}.toml"
    path.write_text(text.replace(listed, f'    "{chosen}",\n'))
    return replace(tr.load_task(path), name=name)


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
