"""Native sources: a folder with source.toml and model.safetensors."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_model

from transfer_risk.adapters.description import Description
from transfer_risk.adapters.weights import load_weights
from transfer_risk.files import write_text, written
from transfer_risk.networks import UNet
from transfer_risk.sources import Source


def matches(path: Path, description: Description) -> bool:
    """Whether the description says that it is this package's U-Net."""
    return description.target == "unet" and (path.is_dir() or path.suffix in ("", ".toml"))


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a folder; `trust` changes nothing, weights are always safetensors.

    Raises:
        ValueError: naming the file, if it is missing, damaged, a pickle, or does not fit the network.
    """
    sizes = len(description.names("channels")), len(description.names("classes"))
    try:
        network = _network(description.network, *sizes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{description.file}: {error}") from None
    source = description.source(network, path, found={}, architecture=dict(description.network))
    load_weights(network, description.file.parent / "model.safetensors")
    return source


def save_source(source: Source, folder: str | Path) -> Path:
    """Write a source as a folder that `load_source` reads; its path.

    The weights are written before source.toml, so that a folder with source.toml is whole.

    Raises:
        ValueError: if there is no way to build the source's network again.
    """
    refuse_unsavable(source)
    weights, description = source_files(source, folder)
    with written(weights) as temporary:
        if _scripted(source):
            Path(temporary).write_bytes(source.network.save_to_buffer())  # type: ignore[operator]
        else:
            try:
                save_model(source.network, temporary)
            except (
                SafetensorError
            ) as error:  # a full disk, most likely; it does not say so by its type
                raise OSError(errno.EIO, str(error)) from None
    write_text(description, _toml(source))
    return Path(folder)


def refuse_unsavable(source: Source) -> None:
    """Raise ValueError for a source whose network could not be built again from what a source.toml can say."""
    if not source.architecture:
        raise ValueError(
            f"source {source.name} has no [network] table, as programs of torch.export and pickled networks have none; only "
            "networks that were built from a table or loaded from TorchScript can be saved"
        )
    for name, value in source.architecture.get("arguments", {}).items():
        if value is not None and _holds_none(value):
            raise ValueError(
                f"source {source.name} has a null in its network's argument {name} = {value!r}, which a source.toml "
                "cannot say; leave it out there"
            )


def _holds_none(value: object) -> bool:
    """Whether it is None, or a list or table with None in it."""
    parts = value.values() if isinstance(value, Mapping) else value
    return value is None or (
        isinstance(parts, Iterable) and not isinstance(parts, str) and any(map(_holds_none, parts))
    )


def source_files(source: Source, folder: str | Path) -> tuple[Path, Path]:
    """The weights and the description that `save_source` writes of a source."""
    weights = "model.ts" if _scripted(source) else "model.safetensors"
    return Path(folder) / weights, Path(folder) / "source.toml"


def _scripted(source: Source) -> bool:
    return bool(source.architecture.get("target") == "torchscript")


def _network(table: Mapping[str, Any], channels: int, classes: int) -> UNet:
    options = {k: v for k, v in table.items() if k != "target"}
    if set(options) - {"width", "depth"}:
        raise ValueError(f'network must be target = "unet" with width and depth; got {dict(table)}')
    return UNet(channels, classes, **options).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _network_table(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The `[network]` table; arguments that are None stand in `none`."""
    given = architecture.get("arguments", {})
    nothing = [name for name, value in given.items() if value is None]
    if not nothing:
        return dict(architecture)
    kept = {name: value for name, value in given.items() if value is not None}
    return {**architecture, "arguments": kept, "none": nothing}


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
        "missing_channels": source.missing_channels,
        "labels": dict(source.labels),
        "network": _network_table(source.architecture),
        "preprocessing": asdict(source.preprocessing),
        "decision": asdict(source.decision),
        "trained": dict(source.trained),
    }
    return tomli_w.dumps({key: value for key, value in table.items() if value != ""})
