"""nnU-Net v2: a trained-model folder with plans.json, dataset.json and fold_k/checkpoint_final.pth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.adapters.nnunet.network import Folds, build, fill
from transfer_risk.adapters.nnunet.plans import (
    channels_of,
    configuration_of,
    labels_of,
    recipe_of,
    windows_of,
)
from transfer_risk.adapters.nnunet.preprocessing import prepared
from transfer_risk.adapters.pickles import load_checkpoint
from transfer_risk.tasks import Preprocessing, Source
from transfer_risk.volumes import Prepared, Volume

OPTIONS = {"target", "folds", "checkpoint", "mirror"}
NEEDED = ("network_weights", "init_args", "trainer_name")


def matches(path: Path) -> bool:
    """Whether the folder is a trained-model folder, or one fold of it."""
    return _is_fold(path) or any(_is_fold(p) for p in path.glob("fold_*"))


def read_source(
    path: Path, table: Mapping[str, Any] | None = None, *, trust: bool = False
) -> Source:
    """Source of a trained-model folder (mean of its folds' outputs, as nnU-Net's), or of one of its fold folders.

    Args:
        path: Folder.
        table: Content of a source.toml: name, licence, and [network] with folds, checkpoint and mirror.
        trust: Load checkpoints that want more than tensors, plain containers and numpy numbers.

    Raises:
        ValueError: naming the file, what it must be, what it is, and what to do.
    """
    given = dict(table or {})
    options = _options(path, given)
    folder = path.parent if _is_fold(path) else path
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    files = _checkpoints(path, options)
    loaded = [_checkpoint(file, trust) for file in files]
    name = loaded[0]["init_args"]["configuration"]
    with _explained(folder / "dataset.json"):
        channels, (labels, regions) = channels_of(dataset), labels_of(dataset)
    mirrored = loaded[0].get("inference_allowed_mirroring_axes") or ()
    with _explained(folder / "plans.json"):
        architecture = {
            "target": "nnunet",
            "configuration": json.dumps(configuration_of(plans, name)),
            "folds": len(files),
            "mirror": list(mirrored) if options.get("mirror") else [],
        }
        network = network_of(architecture, len(channels), len(labels) + (not regions))
        activation = "sigmoid" if regions else "softmax"
        preprocessing, prepare = preprocessing_of(architecture, activation)
    _fill(network, files, loaded)
    return Source(
        name=given.get("name", f"{plans['dataset_name']}-{name}"),
        network=network,
        classes=("background", *labels),
        channels=channels,
        labels=labels,
        activation=activation,
        spatial_dims=len(preprocessing.size),
        preprocessing=preprocessing,
        encoder=r"^(folds\.\d+\.)?encoder\.",
        licence=given.get("licence", ""),
        trained={
            "dataset": plans["dataset_name"],
            "configuration": name,
            "trainer": loaded[0]["trainer_name"],
            "folds": [file.parent.name.removeprefix("fold_") for file in files],
        },
        architecture=architecture,
        prepare=prepare,
    )


def network_of(architecture: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """The network of a source's `[network]` table, with random weights."""
    configuration = json.loads(architecture["configuration"])
    count, mirror = architecture["folds"], architecture["mirror"]
    networks = [build(configuration, channels, outputs) for _ in range(count)]
    return Folds(networks, mirror).eval() if count > 1 or mirror else networks[0]


def preprocessing_of(
    architecture: Mapping[str, Any], activation: str
) -> tuple[Preprocessing, Callable[[Volume], Prepared]]:
    """Patch and windows, and nnU-Net's own preprocessing, of a source's `[network]` table."""
    configuration = json.loads(architecture["configuration"])
    prepare = partial(prepared, recipe=recipe_of(configuration, activation))
    return windows_of(configuration), prepare


def _options(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(given.get("network", {}))
    if unknown := sorted(set(options) - OPTIONS):
        raise ValueError(
            f"{path}: [network] must have keys among {', '.join(sorted(OPTIONS))}; has {', '.join(unknown)}"
        )
    return options


def _fill(network: nn.Module, files: Sequence[Path], loaded: Sequence[Mapping[str, Any]]) -> None:
    members = network.folds if isinstance(network, Folds) else [network]
    for file, member, content in zip(files, members, loaded, strict=True):
        try:
            fill(member, content["network_weights"])
        except ValueError as error:
            raise ValueError(f"{file} (trainer {content['trainer_name']}): {error}") from None


def _is_fold(path: Path) -> bool:
    return path.name.startswith("fold_") and any(path.glob("checkpoint_*.pth"))


def _checkpoints(path: Path, options: Mapping[str, Any]) -> list[Path]:
    """Checkpoint of each fold that is asked for, else of each that has one; fold_all only where it is alone."""
    name = options.get("checkpoint", "checkpoint_final.pth")
    if _is_fold(path):
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


def _checkpoint(file: Path, trust: bool) -> dict[str, Any]:
    content = load_checkpoint(file, trust=trust)
    if missing := [key for key in NEEDED if key not in content]:
        raise ValueError(f"{file}: is no nnU-Net v2 checkpoint; it has no {', '.join(missing)}")
    return content


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such file; copy it from the folder that nnU-Net trained into"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: is no readable JSON ({error}); copy it again") from None
    if not isinstance(table, dict):
        raise ValueError(f"{path}: must hold a table; holds a {type(table).__name__}")
    return table


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Put the file's name before an error about its content."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: needs the key {error.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
