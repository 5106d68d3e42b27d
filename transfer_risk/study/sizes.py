"""How large a study of transfers is: for a test, a first look, two cores, or the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PROBE_STEPS = 30
"""Steps that a probe head costs, about: vanilla is measured that much later too, to be matched in time."""


@dataclass(frozen=True)
class Size:
    """How large a study of transfers is.

    Args:
        spacing: Voxel size of the embedded cohort in mm.
        cases: Of each of its cohorts.
        width: Features of the first level of the U-Nets.
        depth: Their levels.
        pretraining: Iterations of pretraining.
        stops: Iterations of fine-tuning after which it is measured; the last one ends it.
        lr: Learning rate of fine-tuning.
        seeds: Number of seeds: other subjects, other weights.
        every: One in how many ordered pairs of tasks is studied.
        long: As `stops`, of a run of its own: what the programs call long.
    """

    spacing: float
    cases: int
    width: int
    depth: int
    pretraining: int
    stops: tuple[int, ...]
    lr: float
    seeds: int
    every: int = 1
    long: tuple[int, ...] = ()


SIZES = {
    "smoke": Size(8.0, 4, 4, 3, 3, (1, 2), 1e-3, 1, every=15),
    "quick": Size(3.0, 7, 8, 4, 200, (50, 100), 1e-3, 1, every=6),
    "full": Size(3.0, 10, 8, 4, 400, (50, 200), 1e-3, 1, long=(1_000,)),
    "paper": Size(1.0, 20, 32, 5, 5_000, (5_000,), 1e-4, 3),
}
"""`full` is what two cores can do; `paper` is the paper's protocol, with three seeds."""


LESIONS: dict[str, Any] = {"cases": 16, "pretraining": 1_000, "stops": (50, 200, 400)}
"""What `full` has instead for `partitions`: lesions are small, and need more cases and iterations."""

PREPARED = ("spacing", "cases", "width", "depth", "pretraining")
"""What of a size determines cohorts and sources."""
