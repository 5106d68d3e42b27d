"""Model folders and files as sources, recognised by what is on disk.

Each family is a module with `matches(path, description)`, which looks at names and the description alone, and
`read_source(path, description, trust)`. The first that matches reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer_risk.adapters import (
    bundle,
    exported,
    factory,
    monai,
    native,
    nnunet,
    probabilities,
)
from transfer_risk.adapters.description import Description
from transfer_risk.adapters.native import refuse_unsavable, save_source, source_files
from transfer_risk.sources import Source

__all__ = ["load_source", "refuse_unsavable", "save_source", "source_files"]

FAMILIES: tuple[Any, ...] = (native, nnunet, factory, monai, bundle, exported, probabilities)


def load_source(
    path: str | Path, *, config: str | Path | None = None, trust: bool = False
) -> Source:
    """Source of a model folder or file, of its source.toml, or of a run folder's `model`.

    Args:
        path: What is on disk.
        config: A source.toml elsewhere, instead of `<stem>.source.toml` or `source.toml` beside the model.
        trust: Run code that the model's files hold or name; without it such files are refused.

    Raises:
        ValueError: naming the file, if nothing is there, it is no source, or it is damaged, refused or contradictory.
    """
    place = Path(path)
    if not place.exists():
        raise ValueError(f"{place}: no such source")
    for candidate in (place, place / "model"):
        description = Description.of(candidate, config)
        for family in FAMILIES:
            if family.matches(candidate, description):
                source: Source = family.read_source(candidate, description, trust)
                return replace(source, path=str(path))
    description = Description.of(place, config)
    if description.table:
        raise ValueError(
            f"{description.file}: needs [network] with a target that says what the network is"
        )
    raise ValueError(
        f"{place}: is no source; a source is a folder with source.toml and model.safetensors, an exported network (.ts, "
        ".pt, .pt2), a bundle of MONAI, a folder that nnU-Net v2 trained into, a folder of saved probabilities, or a "
        "source.toml whose [network] target says how to build the network"
    )
