"""A published network on a real image: deepbet's brain extraction, scored for two targets on the MNI T1 template.

Fetches the wheel of deepbet (MIT) with pip into a temporary folder and unpacks it; nothing of it is installed or run but
its two TorchScript networks. Writes <out>/deepbet.ts and deepbet-box.ts with a source.toml each, which the command line
takes too, prints the rankings, and draws <out>/deepbet.png. docs/deepbet.md says what is approximated and what it means.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import transfer_risk as tr

SLICE = 75
DESCRIPTION = """format = 1
name = "{name}"
licence = "MIT"
spatial_dims = 3
channels = ["T1"]
classes = ["background", "brain"]
activation = "none"                        # the networks return probabilities
[preprocessing]
normalise = "none"                         # in the program: it depends on the box
orientation = "RAS"
"""


def normalised(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Intensities as deepbet's networks want them."""
    x = ((x - low) / (high - low)).clamp(0, 1)
    return 0.226 * (x - x.mean()) / x.std() + 0.449


class Box(nn.Module):
    """deepbet's first network, which looks for the brain on 128 x 128 x 128 voxels."""

    def __init__(self, find: nn.Module) -> None:
        super().__init__()
        self.find = find

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (1, 2, *S) of images (1, 1, *S)."""
        small = interpolate(images, (128, 128, 128), mode="nearest-exact")
        theta = self.find(normalised(small, small.quantile(0.005), small.quantile(0.995)))
        shape = [images.shape[2], images.shape[3], images.shape[4]]
        return interpolate(theta, shape, mode="nearest-exact")


class Brain(nn.Module):
    """Both networks: the second one looks at the box around what the first one found, on 256 x 256 x 256 voxels."""

    def __init__(self, find: nn.Module, extract: nn.Module) -> None:
        super().__init__()
        self.find = find
        self.extract = extract

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities (1, 2, *S) of images (1, 1, *S); background outside the box."""
        small = interpolate(images, (128, 128, 128), mode="nearest-exact")
        low, high = small.quantile(0.005), small.quantile(0.995)
        found = (self.find(normalised(small, low, high))[0, 1] > 0.5).float()
        starts, ends = [0], [0]
        for axis in range(3):
            profile = found.movedim(axis, 0).flatten(1).mean(1)
            inside = torch.where(profile > 0.02)[0]
            if inside.numel() == 0:
                raise RuntimeError("finds no brain")
            scale = float(images.shape[axis + 2]) / 128
            first, last = int(inside.min()), int(inside.max()) + 1
            centre = float(round(scale * (first + last) / 2))
            size = float(round(scale * (last - first) * 1.2))
            starts.append(max(0, int(centre - size / 2)))
            ends.append(min(images.shape[axis + 2], int(centre + size / 2)))
        a, b, c = starts[1], starts[2], starts[3]
        d, e, f = ends[1], ends[2], ends[3]
        cut = interpolate(images[:, :, a:d, b:e, c:f], (256, 256, 256), mode="nearest-exact")
        theta = self.extract(normalised(cut, low, high))
        result = torch.zeros_like(images).repeat(1, 2, 1, 1, 1)
        result[:, 0] = 1.0
        result[:, :, a:d, b:e, c:f] = interpolate(
            theta, [d - a, e - b, f - c], mode="nearest-exact"
        )
        return result


def write_sources(wheel: Path, out: Path) -> list[tr.Source]:
    """Both programs as TorchScript with their source.toml in `out`; the sources that they are."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if n.endswith(("/model.pt", "/bbox_model.pt"))]
            archive.extractall(folder, names)
        files = {Path(name).name: Path(folder) / name for name in names}
        config = Path(folder) / "source.toml"
        config.write_text(DESCRIPTION.format(name="part"))
        find, extract = (  # read as any source: refused if their code touches files
            tr.load_source(files[name], config=config).network
            for name in ("bbox_model.pt", "model.pt")
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, program in (("deepbet", Brain(find, extract)), ("deepbet-box", Box(find))):
        with warnings.catch_warnings():  # torch 2.13 deprecates TorchScript
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(program.eval()).save(str(out / f"{name}.ts"))
        (out / f"{name}.source.toml").write_text(DESCRIPTION.format(name=name))
    return [tr.load_source(out / f"{name}.ts") for name in ("deepbet", "deepbet-box")]


def write_tasks(out: Path) -> dict[str, tr.Task]:
    """The T1 template (skull-stripped) that nilearn's wheel carries, with three targets."""
    found = importlib.util.find_spec("nilearn")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("nilearn is not installed; run pip install -e '.[demo]' in the clone")
    data = Path(next(iter(found.submodule_search_locations))) / "datasets" / "data"
    t1, gm = (data / f"mni_icbm152_{m}_tal_nlin_sym_09a_converted.nii.gz" for m in ("t1", "gm"))
    image = nib.load(t1)
    masks = {
        "brain": np.asarray(image.dataobj) > 0,
        "gm": np.asarray(nib.load(gm).dataobj) > 127,  # fraction above one half
    }
    for name, mask in masks.items():
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), out / f"{name}.nii.gz")
    whole = {
        name: tr.Task(
            name,
            ("background", name),
            ("T1",),
            (tr.Case("mni152", (str(t1),), str(out / f"{name}.nii.gz")),),
            region=region,
        )
        for name, region in (("brain", "all"), ("gm", "all"))
    }
    inside = tr.Task("gm", ("background", "gm"), ("T1",), whole["gm"].cases, region="nonzero")
    return {
        "brain": whole["brain"],
        "grey matter": whole["gm"],
        "grey matter, voxels of the brain alone": inside,
    }


def report(title: str, rows: list[dict[str, Any]]) -> None:
    """Print the rows of one ranking."""
    print(f"{title}: {rows[0]['pixels']:,} voxels")
    for row in rows:
        dice = "-" if row["dice"] is None else f"{row['dice']:.3f}"
        print(
            f"  {row['rank']} {row['source']:<12} LEEP {row['leep']:.4f} (floor {row['leep_floor']:.4f}), "
            f"{row['leep_normalised']:.3f} of the floor gained; Dice {dice}"
        )


def draw(source: tr.Source, tasks: dict[str, tr.Task], out: Path) -> None:
    """Risk of deepbet for the first two targets, on one span that leaves the lowest 1 % of the voxels out."""
    maps, volumes = {}, []
    for name, task in list(tasks.items())[:2]:
        (case,) = task.cases
        values = tr.risk_maps(source, task, cases=task.cases)[case.id].transferability
        maps[f"target {name} (contour)"] = tr.RiskMap(values, tr.Span.of(values, clip=1))
        volumes.append(tr.read(case, task))
    axes = tr.plot_risks(maps, volumes, index=SLICE)
    axes[0].figure.suptitle("Risk of deepbet on the MNI152 T1, one span", fontsize=10)
    tr.save_figure(axes[0].figure, out / "deepbet.png", dpi=200)


def fetched(folder: Path) -> Path:
    """The wheel, without what it depends on."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(folder), "deepbet==1.0.2"], check=True)
    return next(folder.glob("deepbet-*.whl"))


def main() -> None:
    """Score and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path, help="Wheel of deepbet; fetched where not given.")
    parser.add_argument("--out", type=Path, default=Path("deepbet"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = write_sources(options.wheel or fetched(Path(folder)), options.out)
    tasks = write_tasks(options.out)
    for title, task in tasks.items():
        report(title, tr.rank_sources(sources, task).rows())
    draw(sources[0], tasks, options.out)


if __name__ == "__main__":
    main()
