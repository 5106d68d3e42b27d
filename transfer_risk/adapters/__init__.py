"""Model folders and files as sources, recognised by what is on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transfer_risk.adapters import native
from transfer_risk.adapters.native import save_source
from transfer_risk.tasks import Source

__all__ = ["load_source", "save_source"]


def load_source(path: str | Path) -> Source:
    """Source of a folder, or of a run folder's `model`.

    Raises:
        ValueError: naming the path, if nothing is there or it is no source.
    """
    folder = Path(path)
    if not folder.exists():
        raise ValueError(f"{folder}: no such source")
    for candidate in (folder, folder / "model"):
        if native.matches(candidate):
            return replace(native.read_source(candidate), path=str(path))
    raise ValueError(
        f"{folder}: is no source; a native source is a folder with source.toml and model.safetensors"
    )
