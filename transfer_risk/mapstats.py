"""What one transferability map of one case says in numbers: level, extent, fragmentation, position, composition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from transfer_risk.riskmap import RiskMap, Span

THRESHOLDS = (0.25, 0.5, 0.75)
HIGH = 0.5  # hardness above which a voxel is high-risk


def map_statistics(
    transferability: NDArray[Any],
    labels: NDArray[Any],
    *,
    span: Span,
    spacing: Sequence[float],
    classes: Sequence[str],
    distances: Mapping[str, NDArray[np.float64] | None],
    base: float = 10.0,
) -> dict[str, float]:
    """Statistics of one map by name; NaN where one has no meaning.

    Args:
        transferability: T (X, Y, Z) in nats, NaN where ignored.
        labels: Target classes (X, Y, Z).
        span: The scale that all compared maps share.
        spacing: Millimetres per voxel along each axis.
        classes: Target class names, background first.
        distances: Distance (X, Y, Z) in mm of each voxel to a boundary, by the boundary's name; None: no boundary.
        base: R = base ** H.

    Returns:
        `transferability`, the mean in nats; `area_25`, `area_50`, `area_75`, the share of the valid voxels with
        hardness above .25, .5, .75; `components`, the number of face-connected high-risk regions (hardness above .5),
        and `component_size`, their mean size in mm3; `distance_<name>`, the mean distance in mm of the high-risk
        voxels; `risk_mass[<class>]`, the class's share of the sum of R - 1 over the valid voxels.
    """
    scaled = RiskMap(torch.from_numpy(np.asarray(transferability))[None], span, base)
    valid = ~np.isnan(transferability)
    hardness = scaled.hardness[0].numpy()
    high = hardness > HIGH  # which NaN, where ignored, is not
    count = int(valid.sum())
    result = {"transferability": _ratio(float(transferability[valid].sum(dtype=np.float64)), count)}
    for threshold in THRESHOLDS:
        above = int((hardness[valid] > threshold).sum())
        result[f"area_{round(100 * threshold)}"] = _ratio(above, count)
    result |= _components(high, spacing)
    for name, distance in distances.items():
        result[f"distance_{name}"] = _mean(distance, high)
    mass = np.where(valid, scaled.risk[0].numpy().astype(np.float64) - 1, 0.0)
    for k, name in enumerate(classes):
        result[f"risk_mass[{name}]"] = _ratio(float(mass[labels == k].sum()), float(mass.sum()))
    return result


def boundary(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Voxels of a foreground class with a face neighbour of another class; ignored voxels (-1) are no neighbours."""
    result = np.zeros(classes.shape, dtype=bool)
    for axis in range(classes.ndim):
        one, other = (np.moveaxis(classes, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        differ = (one != other) & (one >= 0) & (other >= 0)
        edge = np.moveaxis(result, axis, 0)  # a view: writes into the result
        edge[:-1] |= differ & (one > 0)
        edge[1:] |= differ & (other > 0)
    return result


def distance_to_boundary(
    classes: NDArray[Any], spacing: Sequence[float]
) -> NDArray[np.float64] | None:
    """Distance (X, Y, Z) in mm of each voxel's centre to the nearest boundary voxel's; None without boundary."""
    from scipy.ndimage import distance_transform_edt

    edge = boundary(classes)
    if not edge.any():
        return None
    return np.asarray(distance_transform_edt(~edge, sampling=tuple(spacing)), dtype=np.float64)


def _components(high: NDArray[np.bool_], spacing: Sequence[float]) -> dict[str, float]:
    from scipy.ndimage import label

    number = int(label(high)[1])  # faces connect, edges and corners do not
    volume = int(high.sum()) * math.prod(spacing)
    return {"components": float(number), "component_size": _ratio(volume, number)}


def _mean(distance: NDArray[np.float64] | None, where: NDArray[np.bool_]) -> float:
    return math.nan if distance is None or not where.any() else float(distance[where].mean())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
