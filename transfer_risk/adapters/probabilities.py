"""Saved probability maps without any network: a folder of .npz, .npy or NIfTI files whose names are case ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from transfer_risk.adapters.description import Description
from transfer_risk.adapters.maps import Map, NiftiMap, find_maps
from transfer_risk.adapters.nnunet.plans import labels_of
from transfer_risk.files import read_json
from transfer_risk.sources import Source
from transfer_risk.tomlfiles import refuse_unknown

Array = NDArray[Any]
TOLERANCE = 0.02  # how far probabilities may be from summing to 1, for half precision and rounding


class NoNetwork(nn.Module):
    """Stands where saved maps have no network."""

    def forward(self, images: Tensor) -> Tensor:
        """Raise ValueError: there is nothing to run."""
        raise ValueError(
            "a source of saved probabilities has no network; it can be scored and mapped on its own cases alone"
        )


def matches(path: Path, description: Description) -> bool:
    """Whether the description says so, or the folder has files that can only be saved probabilities."""
    if description.target or not path.is_dir():
        return description.target == "probabilities"
    endings = ("*.npz", "*.npy", "*_probabilities.nii.gz", "*_probabilities.nii")
    return any(any(path.glob(ending)) for ending in endings)


def read_source(path: Path, description: Description, trust: bool) -> Source:
    """Source of a folder of maps; no map is read yet, and `trust` changes nothing.

    Classes are those of the description; else of nnU-Net's dataset.json beside the maps; else background, class1, class2
    and so on by the number of channels of the first map. `regions = true` in [network] says that the channels are
    overlapping regions without background, later ones over earlier ones.

    Raises:
        ValueError: naming the folder, if it has no map, or its classes cannot be known.
    """
    folder = path if path.is_dir() else path.parent
    where = f"{description.file}: [network] of saved probabilities"
    refuse_unknown(description.network, ("target", "regions"), where)
    labels, regions = _labels(folder)
    notes: tuple[str, ...] = ()
    if "classes" in description.table:
        labels = {name: k for k, name in enumerate(description.names("classes")) if k}
        regions = bool(description.network.get("regions", False))
    maps = find_maps(folder, ("background", *labels) if labels else (), regions)
    if not labels:
        number = next(iter(maps.values())).channels
        labels = {f"class{k}": k for k in range(1, number)}
        notes = (
            f"{folder}: {number} channels taken for background, {', '.join(labels)}; name them with classes = [...] in "
            f"{description.file.name}",
        )
    found = {
        "channels": (),
        "classes": ("background", *labels),
        "labels": labels,
        "activation": "sigmoid" if regions else "none",
        "spatial_dims": 3,
    }
    source = description.source(NoNetwork(), path, found=found, architecture={}, notes=notes)
    stored = partial(_stored, folder, maps, len(labels) + 1, regions)
    return replace(source, stored=stored, stored_affine=partial(_affine, maps))


def _labels(path: Path) -> tuple[dict[str, int], bool]:
    """Classes and whether they are regions, of the dataset.json that nnU-Net leaves beside its predictions."""
    file = path / "dataset.json"
    if not file.is_file():
        return {}, False
    try:
        return labels_of(read_json(file), file)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{file}: is no dataset.json of nnU-Net ({error!r})") from None


def _stored(
    path: Path, maps: Mapping[str, Map], num_classes: int, regions: bool, case: str
) -> Array:
    """Probabilities (Z, X, Y, Z') of a case, summing to 1.

    Raises:
        ValueError: naming the file, if the case has none or they are no probabilities of the classes.
    """
    if case not in maps:
        raise ValueError(
            f"{path}: has no probabilities of case {case}; it has {len(maps)} cases such as {next(iter(maps))}"
        )
    stored, wanted = maps[case], num_classes - regions
    if stored.channels != wanted:
        raise ValueError(
            f"{stored.path}: must have {wanted} channels for {num_classes} classes; has {stored.channels}; correct "
            "classes (or regions) in source.toml"
        )
    theta = stored.read()
    if not np.isfinite(theta).all() or theta.min() < -TOLERANCE or theta.max() > 1 + TOLERANCE:
        raise ValueError(
            f"{stored.path}: must hold probabilities in [0, 1]; values lie in [{theta.min():g}, {theta.max():g}]"
        )
    np.clip(theta, 0, 1, out=theta)
    if regions:
        return _exclusive(theta)
    sums = theta.sum(0)
    if np.abs(sums - 1).max() > TOLERANCE:
        raise ValueError(
            f"{stored.path}: probabilities must sum to 1 over the classes; they sum to [{sums.min():g}, {sums.max():g}]; "
            "for overlapping regions write regions = true in [network] of source.toml"
        )
    theta /= sums
    return theta


def _exclusive(p: Array) -> Array:
    """Exclusive classes of regions, later ones over earlier ones: p_k prod_{j>k} (1-p_j), background prod (1-p_j)."""
    result = np.empty((len(p) + 1, *p.shape[1:]), dtype=np.float32)
    free = np.ones(p.shape[1:], dtype=np.float32)
    for k in range(len(p), 0, -1):
        result[k] = p[k - 1] * free
        free *= 1 - p[k - 1]
    result[0] = free
    return result


def _affine(maps: Mapping[str, Map], case: str) -> NDArray[Any] | None:
    """Voxel to world of a case's maps, where their file says it."""
    own = maps[case]
    return own.affine if isinstance(own, NiftiMap) else None
