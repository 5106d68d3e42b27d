"""Quantities of a run: between which bounds each lies, in which unit it is, and to how many digits it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from transfer_risk.evaluation import Measure
from transfer_risk.intervals import LOGARITHM, SHARE

MEASURES = tuple(f.name for f in fields(Measure) if f.name not in ("case", "name"))
"""Those of the segmentation, in the order of `Measure`; all others are of the maps."""
POSITIVE = (0.0, math.inf)


@dataclass(frozen=True)
class Quantity:
    """One quantity.

    Args:
        bounds: Least and largest value that it can have.
        unit: Empty for shares and counts.
        digits: Behind the point.
    """

    bounds: tuple[float, float] = SHARE
    unit: str = ""
    digits: int = 3


QUANTITIES = {
    **dict.fromkeys(("dice", "recall", "precision", "area", "risk_mass"), Quantity()),
    "hd95": Quantity(POSITIVE, "mm", 2),
    "transferability": Quantity(LOGARITHM, "nats"),
    "components": Quantity(POSITIVE, digits=1),
    "component_size": Quantity(POSITIVE, "mm3", 0),
    "distance": Quantity(POSITIVE, "mm", 2),
}


def quantity_of(name: str) -> Quantity:
    """The quantity that a name means: `hd95[et]` is an hd95, `area_50` an area, `distance_source` a distance.

    >>> quantity_of("distance_source").unit
    'mm'
    """
    kind = name.partition("[")[0]
    return QUANTITIES.get(kind) or QUANTITIES[kind.partition("_")[0]]
