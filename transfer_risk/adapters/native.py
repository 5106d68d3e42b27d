"""Native sources: a folder with source.toml and model.safetensors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from transfer_risk.files import write_text, written
from transfer_risk.networks import UNet
from transfer_risk.tasks import Decision, Preprocessing, Source, read_toml


def matches(path: Path) -> bool:
    """Whether the folder is a native source."""
    return (path / "source.toml").is_file()


def read_source(path: Path) -> Source:
    """Source of a folder.

    Raises:
        ValueError: naming the file, if it is missing, damaged, a pickle, or does not fit the network.
    """
    table = read_toml(path / "source.toml")
    try:
        network = _network(table["network"], len(table["channels"]), len(table["classes"]))
        source = Source(
            name=table.get("name", path.name),
            network=network,
            classes=tuple(table["classes"]),
            channels=tuple(table["channels"]),
            labels=table.get("labels", {}),
            activation=table.get("activation", "softmax"),
            spatial_dims=table.get("spatial_dims", 2),
            preprocessing=Preprocessing.of(table.get("preprocessing", {})),
            encoder=table.get("encoder", ""),
            decision=_decision(table.get("decision", {})),
            licence=table.get("licence", ""),
            trained=table.get("trained", {}),
            architecture=table["network"],
        )
    except KeyError as error:
        raise ValueError(f"{path}/source.toml: needs the key {error.args[0]!r}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}/source.toml: {error}") from None
    _load_weights(network, path / "model.safetensors")
    return source


def save_source(source: Source, folder: str | Path) -> Path:
    """Write a native source; its folder.

    The weights are written before source.toml, so that a folder with source.toml is whole.

    Raises:
        ValueError: if the source's network is none of this package's.
    """
    if not source.architecture:
        raise ValueError(
            f"source {source.name} has no [network] table; only native networks can be saved"
        )
    path = Path(folder)
    tensors = {k: v.contiguous() for k, v in source.network.state_dict().items()}
    with written(path / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    write_text(path / "source.toml", _toml(source))
    return path


def _network(table: dict[str, Any], channels: int, classes: int) -> UNet:
    options = {k: v for k, v in table.items() if k != "target"}
    if table.get("target") != "unet" or set(options) - {"width", "depth"}:
        raise ValueError(f'network must be target = "unet" with width and depth; got {table}')
    return UNet(channels, classes, **options).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _load_weights(network: UNet, path: Path) -> None:
    if not path.is_file():
        others = [p.name for p in path.parent.glob("model.*")]
        hint = f"; found {', '.join(others)}" if others else ""
        raise ValueError(
            f"{path}: no such file{hint}. Weights must be safetensors (safetensors.torch.save_file); pickles are not loaded"
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: is no whole safetensors file ({error}); if it is a pickle (torch.save), convert it with "
            "safetensors.torch.save_file; else copy it again"
        ) from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: does not fit the network of source.toml: {reason}") from None


def _decision(table: dict[str, Any]) -> Decision:
    return Decision(table.get("kind", "argmax"), tuple(table.get("offsets", ())))


def _toml(source: Source) -> str:
    import tomli_w

    table = {
        "format": 1,
        "name": source.name,
        "licence": source.licence,
        "spatial_dims": source.spatial_dims,
        "channels": source.channels,
        "classes": source.classes,
        "activation": source.activation,
        "encoder": source.encoder,
        "labels": dict(source.labels),
        "network": dict(source.architecture),
        "preprocessing": asdict(source.preprocessing),
        "decision": asdict(source.decision),
        "trained": dict(source.trained),
    }
    return tomli_w.dumps(table)
