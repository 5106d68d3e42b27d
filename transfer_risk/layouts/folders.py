"""Which data sets there are in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from transfer_risk.callbacks import Tell
from transfer_risk.layouts.dataset import Dataset
from transfer_risk.layouts.reading import LAYOUTS, no_case, read_dataset, recognised


def labelled(
    root: Path, layout: str | None, *, allow_missing: bool, tell: Tell
) -> list[tuple[Path, str, Dataset]]:
    """Data sets with a labelled case at or right below root, each with its folder and the name of its layout.

    Raises:
        ValueError: if none has such a case, or, without `allow_missing`, if one has none: else `tell` is called for it.
    """
    found = [
        (folder, name, read_dataset(folder, name, unlabelled=True))
        for folder, name in _datasets(root, layout, tell)
    ]
    usable = [(folder, name, dataset) for folder, name, dataset in found if dataset.cases]
    for folder, name, dataset in found:
        if dataset.cases:
            continue
        problem = no_case(dataset, folder, name)
        if not usable:
            raise ValueError(problem)
        if not allow_missing:
            raise ValueError(
                f"{problem}; give the folder with labels alone ({usable[0][0]}), or go on without the other with "
                "allow_missing (--allow-missing)"
            )
        tell(f"left out: {problem}")
    return usable


def _datasets(root: Path, layout: str | None, tell: Tell) -> Iterator[tuple[Path, str]]:
    """Data folders at or right below root, each with the name of its layout."""
    if not root.is_dir():
        raise ValueError(f"{root}: no such data folder")
    if layout is not None:
        yield root, layout
        return
    found = []
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
        try:
            name = recognised(folder)
        except PermissionError:
            if folder == root:
                raise
            tell(f"passed over: {folder}: may not be read")
            continue
        if name is not None:
            found.append((folder, name))
    if not found:
        raise ValueError(
            f"{root}: neither it nor a folder in it fits a layout ({', '.join(LAYOUTS)}); nnunet and msd want a "
            "dataset.json, pairs want the folders images and labels"
        )
    yield from found
