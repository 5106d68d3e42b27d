"""Files of a folder that nnU-Net v2 trained into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transfer_risk.adapters.pickles import numpy_names
from transfer_risk.adapters.weights import unpickled
from transfer_risk.files import read_json

NEEDED = ("network_weights", "init_args", "trainer_name")
KEPT = (*NEEDED, "inference_allowed_mirroring_axes")  # not the optimiser's state, which is larger


def is_fold(path: Path) -> bool:
    """Whether the folder is one fold of a trained model."""
    return path.name.startswith("fold_") and any(path.glob("checkpoint_*.pth"))


def checkpoints(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Checkpoint of each fold that is asked for, else of each that has one; fold_all only where it is alone."""
    name = options.get("checkpoint", "checkpoint_final.pth")
    if is_fold(path):
        return [path / name]
    if "folds" in options:
        return [path / f"fold_{fold}" / name for fold in options["folds"]]
    found = sorted(path.glob(f"fold_*/{name}"))
    numbered = [p for p in found if p.parent.name != "fold_all"]
    if not found:
        others = sorted({p.name for p in path.glob("fold_*/*.pth")})
        raise ValueError(
            f"{path}: has no fold with {name}; found {', '.join(others)}. Name one as checkpoint in [network]"
        )
    return numbered or found


def folds(path: Path) -> Iterator[Path]:
    """Fold folders that a folder has."""
    return filter(is_fold, path.glob("fold_*"))


def checkpoint(file: Path, trust: bool) -> dict[str, Any]:
    """What a model needs of a checkpoint: tensors, plain containers and numpy numbers; anything else only with `trust`.

    Raises:
        ValueError: naming the file, if it is missing, damaged, refused, or no checkpoint of nnU-Net v2.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; correct folds or checkpoint in [network]")
    content = unpickled(file, trust=trust, admitted=numpy_names())
    missing = [key for key in NEEDED if key not in content] if isinstance(content, dict) else NEEDED
    if missing:
        raise ValueError(f"{file}: is no nnU-Net v2 checkpoint; it has no {', '.join(missing)}")
    return {key: content[key] for key in KEPT if key in content}


def json_table(path: Path) -> dict[str, Any]:
    """Table of plans.json or dataset.json.

    Raises:
        ValueError: naming the file, if it is missing or no table.
    """
    table = read_json(path, remedy="copy it from the folder that nnU-Net trained into")
    if not isinstance(table, dict):
        raise ValueError(f"{path}: must hold a table; holds a {type(table).__name__}")
    return table
