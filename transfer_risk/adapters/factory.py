"""Networks that a Python class or function builds: `[network] target = "package.module:name"`, with a file of weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.adapters.description import Description, folder_of
from transfer_risk.adapters.order import order_entry
from transfer_risk.adapters.weights import load_weights
from transfer_risk.networks import with_outputs
from transfer_risk.sources import Source


def matches(path: Path, description: Description) -> bool:
    """Whether the description names something to import."""
    return ":" in description.target


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a class of networks, or with `trust` of any callable that returns one.

    With `[network] weights = false` the callable brings the weights.

    Raises:
        ValueError: naming the file, if the target cannot be imported, is refused, or does not fit the weights.
    """
    build = _imported(description, trust)
    given = arguments(description)
    network = described(build, given, description)
    head = fit_head(network, description)
    order = order_entry(description)
    own = description.network.get("weights") is False
    notes = () if own else load_weights(network, weights_file(path, description), trust=trust)
    return description.source(
        network.eval(),
        path,
        found={},
        architecture={
            "target": description.target,
            "arguments": given,
            **head,
            **order,
        },
        notes=notes,
    )


def weights_file(path: Path, description: Description) -> Path:
    """The file of weights: the source itself, what `[network] weights` names, or model.safetensors beside source.toml."""
    if path.is_file() and path.suffix != ".toml":
        return path
    beside = description.file.parent if path.suffix == ".toml" else folder_of(path)
    return beside / str(description.network.get("weights", "model.safetensors"))


def arguments(description: Description) -> dict[str, Any]:
    """The table `[network.arguments]`, and None for the names in `[network] none` (TOML has no word for it).

    Raises:
        ValueError: naming the file, if `[network]` has other keys than target, weights, arguments, none, head and
            order.
    """
    table = description.network
    given, nothing = table.get("arguments", {}), table.get("none", [])
    known = {"target", "weights", "arguments", "none", "head", "order"}
    if set(table) - known or not isinstance(given, Mapping) or not isinstance(nothing, list):
        raise ValueError(
            f"{description.file}: [network] may have target, weights, none (a list of arguments that are None), head, order "
            f"and a table [network.arguments]; got {dict(table)}"
        )
    return {**given, **dict.fromkeys(nothing)}


def built(build: Any, given: Mapping[str, Any], *, called: str, table: str) -> nn.Module:
    """The network that a class or function returns for the arguments.

    Args:
        build: Is called with them.
        given: Arguments.
        called: File and target, for errors.
        table: Of the file, where the arguments stand, for errors.

    Raises:
        ValueError: beginning with `called`, if it fails, or returns no network.
    """
    try:
        network = build(**given)
    except ImportError as error:
        reason = (str(error).strip().splitlines() or ["unknown"])[0]
        raise ValueError(
            f"{called} needs a package that is missing ({reason}); install it"
        ) from error
    except (TypeError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise ValueError(f"{called} does not take the arguments of {table}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{called} must return a torch.nn.Module; got a {type(network).__name__}")
    return network


def described(build: Any, given: Mapping[str, Any], description: Description) -> nn.Module:
    """The network that a class or function returns for `[network.arguments]`; ValueError naming the file."""
    called = f"{description.file}: {description.target}"
    return built(build, given, called=called, table="[network.arguments]")


def fit_head(network: nn.Module, description: Description) -> dict[str, str]:
    """Give the layer that `[network] head` names as many outputs as there are classes; that entry, or an empty table.

    Fine-tuning to another number of classes replaces the layer, and writes its name there.

    Raises:
        ValueError: naming the file, if there is no such layer.
    """
    name = str(description.network.get("head", ""))
    if not name:
        return {}
    try:
        with_outputs(network, name, len(description.names("classes")))
    except ValueError as error:
        raise ValueError(f"{description.file}: [network] {error}") from None
    return {"head": name}


def _imported(description: Description, trust: bool) -> Any:
    module, _, name = description.target.partition(":")
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{description.file}: cannot import {description.target} ({error}); install the package, or set PYTHONPATH"
        ) from None
    if not trust and not (isinstance(target, type) and issubclass(target, nn.Module)):
        raise ValueError(
            f"{description.file}: target {description.target} is no class of networks (torch.nn.Module) but a "
            f"{type(target).__name__}, which could do anything, so it was not called; check it and give --trust"
        )
    return target
