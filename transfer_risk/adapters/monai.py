"""Networks of monai.networks.nets by name, `[network] target = "SegResNet"`, with a file of weights."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.adapters.description import Description
from transfer_risk.adapters.factory import arguments, described, fit_head, weights_file
from transfer_risk.adapters.order import order_entry
from transfer_risk.adapters.weights import load_weights
from transfer_risk.sources import Source

HOME = "monai.networks.nets"


def matches(path: Path, description: Description) -> bool:
    """Whether the description names a network and nothing to import."""
    return (
        bool(description.target)
        and ":" not in description.target
        and description.target not in ("torchscript", "probabilities")
    )


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a network of MONAI.

    Raises:
        ValueError: naming the file, if MONAI has no such network, or it does not fit arguments or weights.
    """
    given = offline(arguments(description))
    build = network_class(description.target, str(description.file))
    network = described(build, given, description)
    head = fit_head(network, description)
    order = order_entry(description)
    notes = load_weights(network, weights_file(path, description), trust=trust)
    return description.source(
        network.eval(),
        path,
        found={"spatial_dims": spatial_dims(build, given)},
        architecture={"target": description.target, "arguments": given, **head, **order},
        notes=notes,
    )


def network_class(target: str, where: str) -> type[nn.Module]:
    """The class of monai.networks.nets that a target names.

    Raises:
        ValueError: beginning with `where`, if it is anything else.
    """
    from monai.networks import nets

    home, _, name = target.rpartition(".")
    found = getattr(nets, name, None) if home == HOME or target == name else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"{where}: the target {target!r} is no network of {HOME}, so it was not called; name one of those, or "
            "package.module:Class in a source.toml"
        )
    return found


def offline(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments without downloads: weights come from the source's file."""
    unloaded = {"pretrained": False, "pretrained_url": None}
    return {**given, **{k: v for k, v in unloaded.items() if k in given}}


def spatial_dims(build: type[nn.Module], given: dict[str, Any]) -> int:
    """2 or 3: the argument of that name, or its default."""
    parameter = inspect.signature(build).parameters.get("spatial_dims")
    default = parameter.default if parameter and isinstance(parameter.default, int) else 3
    return int(given.get("spatial_dims", default))
