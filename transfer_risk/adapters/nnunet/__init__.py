"""nnU-Net v2: a trained-model folder with plans.json, dataset.json and fold_k/checkpoint_final.pth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.adapters.description import Description, folder_of
from transfer_risk.adapters.nnunet.folder import (
    checkpoint,
    checkpoints,
    folds,
    is_fold,
    json_table,
)
from transfer_risk.adapters.nnunet.network import Folds, build, drop_other_heads
from transfer_risk.adapters.nnunet.plans import (
    channels_of,
    configuration_of,
    labels_of,
    recipe_of,
    windows_of,
)
from transfer_risk.adapters.nnunet.preprocessing import prepared
from transfer_risk.adapters.weights import load_weights, put_weights
from transfer_risk.files import explained
from transfer_risk.grids import Prepared
from transfer_risk.sources import Source
from transfer_risk.tomlfiles import refuse_unknown
from transfer_risk.volumes import Volume

OPTIONS = {
    "target": '"nnunet"',
    "folds": 'a list of folds, such as [0, 1] or ["all"]',
    "checkpoint": 'a file name, such as "checkpoint_best.pth"',
    "mirror": "true or false",
}
"""Keys of `[network]` and what they must be."""
WINDOWS = ("size", "overlap", "tiling")
"""Keys of `[preprocessing]` that may differ from nnU-Net's: all else is done as its plans say."""


def matches(path: Path, description: Description) -> bool:
    """Whether it is a trained-model folder, one fold of it, or a source that was made from one."""
    place = folder_of(path)
    known = description.target in ("", "nnunet") and (path.is_dir() or path.suffix in ("", ".toml"))
    return known and (_is_saved(description) or is_fold(place) or any(folds(place)))


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a trained-model folder (mean of its folds' outputs, as nnU-Net's), or of one of its fold folders.

    `[network]` of a source.toml may have folds, checkpoint and mirror; name, classes and the like are nnU-Net's own where
    the description does not say otherwise.

    Raises:
        ValueError: naming the file, what it must be, what it is, and what to do.
    """
    if _is_saved(description):
        return _read_saved(path, description)
    place, options = folder_of(path), _options(description)
    _check_preprocessing(description, {})
    folder = place.parent if is_fold(place) else place
    plans, dataset = json_table(folder / "plans.json"), json_table(folder / "dataset.json")
    files = checkpoints(place, options)
    loaded = [checkpoint(file, trust) for file in files]
    name = loaded[0]["init_args"]["configuration"]
    with explained(file := folder / "dataset.json"):
        channels, (labels, regions) = channels_of(dataset, file), labels_of(dataset, file)
    mirrored = loaded[0].get("inference_allowed_mirroring_axes") or ()
    with explained(folder / "plans.json"):
        architecture = {
            "target": "nnunet",
            "configuration": json.dumps(configuration_of(plans, name)),
            "folds": len(files),
            "mirror": list(mirrored) if options.get("mirror") else [],
            "resampled": description.table.get("activation", "sigmoid" if regions else "softmax"),
        }
        network = network_of(architecture, len(channels), len(labels) + (not regions))
        seen = _seen(architecture)
        data = plans["dataset_name"]
    trained = {
        "dataset": data,
        "configuration": name,
        "trainer": loaded[0]["trainer_name"],
        "folds": [file.parent.name.removeprefix("fold_") for file in files],
    }
    found = seen | {
        "name": f"{data}-{name}",
        "channels": channels,
        "classes": ("background", *labels),
        "labels": labels,
        "trained": trained,
    }
    notes = _fill(network, files, loaded)
    drop_other_heads(network)
    source = description.source(network, path, found=found, architecture=architecture, notes=notes)
    return replace(source, prepare=_prepare(architecture))


def _seen(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What the plans say of a source's fields."""
    windows = windows_of(json.loads(architecture["configuration"]))
    _prepare(architecture)  # a plan that cannot be followed is an error here already
    return {
        "activation": architecture["resampled"],
        "spatial_dims": len(windows.size),
        "preprocessing": asdict(windows),
        "encoder": r"^(folds\.\d+\.)?encoder\.",
    }


def _read_saved(path: Path, description: Description) -> Source:
    """A source that was written after fine-tuning: source.toml with the plans in [network], model.safetensors."""
    file, architecture = description.file, description.network
    with explained(file):
        own = asdict(windows_of(json.loads(architecture["configuration"])))
    _check_preprocessing(description, own)
    activation = description.table.get("activation", "softmax")
    outputs = len(description.names("classes")) - (activation == "sigmoid")
    with explained(file):
        network = network_of(architecture, len(description.names("channels")), outputs)
        prepare = _prepare(architecture)
    drop_other_heads(network)
    load_weights(network, file.parent / "model.safetensors")
    source = description.source(network, path, found={}, architecture=dict(architecture))
    return replace(source, prepare=prepare)


def network_of(architecture: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """The network of a source's `[network]` table, with random weights."""
    configuration = json.loads(architecture["configuration"])
    count, mirror = architecture["folds"], architecture["mirror"]
    networks = [build(configuration, channels, outputs) for _ in range(count)]
    return Folds(networks, mirror).eval() if count > 1 or mirror else networks[0]


def _prepare(architecture: Mapping[str, Any]) -> Callable[[Volume], Prepared]:
    """nnU-Net's own preprocessing, of a source's `[network]` table.

    `resampled` is the activation before which outputs are resampled; it stays that of the folder where fine-tuning gives the
    network another head.
    """
    configuration = json.loads(architecture["configuration"])
    return partial(prepared, recipe=recipe_of(configuration, architecture["resampled"]))


def _options(description: Description) -> Mapping[str, Any]:
    refuse_unknown(
        description.network, OPTIONS, f"{description.file}: [network] of an nnU-Net folder"
    )
    options = description.network
    chosen = options.get("folds", ["all"])
    right = {
        "folds": isinstance(chosen, list) and chosen and all(type(f) in (int, str) for f in chosen),
        "checkpoint": isinstance(options.get("checkpoint", ""), str),
        "mirror": isinstance(options.get("mirror", False), bool),
    }
    if wrong := [name for name, good in right.items() if not good]:
        raise ValueError(
            f"{description.file}: [network] {wrong[0]} must be {OPTIONS[wrong[0]]}; got {options[wrong[0]]!r}"
        )
    return options


def _check_preprocessing(description: Description, own: Mapping[str, Any]) -> None:
    """Raise ValueError where `[preprocessing]` has more than windows and what a saved source's own table has."""
    given = description.table.get("preprocessing", {})
    for key in given if isinstance(given, Mapping) else ():
        value = tuple(given[key]) if isinstance(given[key], list) else given[key]
        if key not in WINDOWS and (key not in own or value != own[key]):
            raise ValueError(
                f"{description.file}: [preprocessing] of an nnU-Net source may change {', '.join(WINDOWS)}; all else is as "
                f"nnU-Net's plans say. Remove {key} = {given[key]!r}"
            )


def _fill(
    network: nn.Module, files: Sequence[Path], loaded: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    """Put each fold's weights into its network; sentences on repaired names."""
    notes: tuple[str, ...] = ()
    members = network.folds if isinstance(network, Folds) else [network]
    for file, member, content in zip(files, members, loaded, strict=True):
        try:
            notes += put_weights(member, content["network_weights"], file)
        except ValueError as error:
            raise ValueError(
                f"{error}; the network is that of plans.json and dataset.json, the trainer was {content['trainer_name']}"
            ) from None
    return notes


def _is_saved(description: Description) -> bool:
    return description.target == "nnunet" and "configuration" in description.network
