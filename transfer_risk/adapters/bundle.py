"""Bundles of MONAI: a folder with configs/inference.json or .yaml and models/model.pt, read as data and never run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from transfer_risk.adapters.description import Description
from transfer_risk.adapters.factory import built
from transfer_risk.adapters.monai import network_class, offline, spatial_dims
from transfer_risk.adapters.order import order_of
from transfer_risk.adapters.references import expressions, resolved
from transfer_risk.adapters.transforms import activation, blending, preprocessing
from transfer_risk.adapters.weights import load_weights
from transfer_risk.files import explained
from transfer_risk.sources import Source
from transfer_risk.tomlfiles import refuse_unknown

CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
WEIGHTS = ("model.safetensors", "model.pt")


def matches(path: Path, description: Description) -> bool:
    """Whether it is a folder with a configuration for inference, and no description says what the network is."""
    return not description.target and any((path / "configs" / name).is_file() for name in CONFIGS)


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a bundle; what its files do not say plainly comes from source.toml.

    Raises:
        ValueError: naming the file, if what is needed is an expression, a target outside monai.networks.nets, a transform
            that has no equal here, or if the weights do not fit.
    """
    file = next(p for name in CONFIGS if (p := path / "configs" / name).is_file())
    config = _read(file)
    network, given = _network(config, file)
    models = [path / "models" / name for name in WEIGHTS]
    weights = next((p for p in models if p.is_file()), models[-1])
    notes = load_weights(network, weights, trust=trust)
    with explained(path / "configs" / "metadata.json"):
        found = _metadata(path / "configs" / "metadata.json")
    found["spatial_dims"] = spatial_dims(type(network), given)
    found["activation"] = (
        description.table.get("activation") or activation(config, file) or "softmax"
    )
    order, more = _order(found, description, file)
    notes += more
    if "preprocessing" not in description.table:
        channels = given.get("in_channels")
        with explained(file):
            found["preprocessing"] = preprocessing(config, file, found["spatial_dims"], channels)
            notes += blending(config, file)
    if number := sum(1 for _ in expressions(config)):
        notes += (f"{file}: {number} expressions ($...) outside of what is needed were not run",)
    target = f"monai.networks.nets.{type(network).__name__}"
    architecture = {"target": target, "arguments": given} | ({"order": order} if order else {})
    return description.source(network, path, found=found, architecture=architecture, notes=notes)


def _order(
    found: dict[str, Any], description: Description, file: Path
) -> tuple[list[int], tuple[str, ...]]:
    """Order of a bundle's overlapping channels, and a sentence where nothing says it; puts `found["classes"]` in order.

    Raises:
        ValueError: naming the file, if `[network]` has anything but an order of such channels.
    """
    where, how = f"{description.file}: [network] of a bundle", found["activation"]
    refuse_unknown(description.network, ("order",), where)
    if how not in ("sigmoid", "regions"):
        if "order" in description.network:
            raise ValueError(
                f'{where} may have order where channels overlap, with activation "sigmoid" or "regions"; it is "{how}"'
            )
        return [], ()
    names = list(found.get("classes", ()))
    names = names[1:] if names and names[0].casefold() == "background" else names
    if names:
        found["classes"] = ["background", *names]
    number = len(description.names("classes", {**found, **description.table})) - 1
    order = order_of(description, number, names)
    if order and names:
        found["classes"] = ["background", *(names[k] for k in order)]
    guessed = not order and how == "sigmoid" and number > 1
    return order, (_guess(names or list(range(number)), description, file),) if guessed else ()


def _guess(channels: Sequence[object], description: Description, file: Path) -> str:
    """What a reader should know of the order in which overlapping channels were taken."""
    return (
        f"{file}: the channels {', '.join(map(str, channels))} may overlap, and the bundle does not say which overwrites "
        "which; each was taken to overwrite those before it. If that is wrong, say the order, outermost first, in "
        f"{description.file}: [network] order = {json.dumps(channels, ensure_ascii=False)}"
    )


def _network(config: Mapping[str, Any], file: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network that network_def describes, without its weights, and its arguments."""
    tables = [config[k] for k in ("network_def", "network") if isinstance(config.get(k), Mapping)]
    if not tables:
        raise ValueError(
            f"{file}: must have network_def with a _target_; got {', '.join(config) or 'nothing'}"
        )
    table = resolved(tables[0], config, f"{file}: network_def")
    target = str(table.pop("_target_", ""))
    build = network_class(target, f"{file}: network_def")
    given = offline({k: v for k, v in table.items() if not k.startswith("_")})
    network = built(build, given, called=f"{file}: {target}", table="network_def")
    return network.eval(), given


def _read(file: Path) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    try:
        if file.suffix == ".json":
            config = json.loads(text)
        else:
            try:
                import yaml
            except ImportError:
                raise ValueError("reading it needs PyYAML: pip install pyyaml") from None
            config = yaml.safe_load(text)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    except Exception as error:  # of PyYAML, which may not be installed
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{file}: is no plain YAML ({reason})") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file}: must be a table; got a {type(config).__name__}")
    return config


def _metadata(file: Path) -> dict[str, Any]:
    """Channels, classes and licence as far as metadata.json says them."""
    if not file.is_file():
        return {}
    table = _read(file)
    formats = table.get("network_data_format", {})
    found: dict[str, Any] = {}
    for key, kind in (("channels", "inputs"), ("classes", "outputs")):
        for entry in list(formats.get(kind, {}).values())[:1]:
            names = entry.get("channel_def", {})
            if names:
                found[key] = [str(names[k]) for k in sorted(names, key=int)]
    return found | ({"licence": str(table["license"])} if table.get("license") else {})
