"""From the sums of a scoring pass, case by case, to scores with influence values. Numpy only; no pixel here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transfer_risk.intervals import LOGARITHM, Estimate

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tables:
    """Sums over the pixels of each of n cases; Y target and Z source classes.

    Args:
        joint: Soft counts (n, Y, Z).
        hard: Counts by most probable source class (n, Y, Z).
        transferability: Sum of T by class (n, Y), on the joint of all cases.
        held_out: Sum of T by class (n, Y), on the smoothed joint of the other groups' cases.
        likelihood: G_yz over all cases (Y, Z), see `likelihood_table`.
        groups: Of the cases, such as their patients; each case is one of its own where it is empty.
    """

    joint: Floats
    hard: Floats
    transferability: Floats
    held_out: Floats
    likelihood: Floats
    groups: tuple[str, ...] = ()

    @property
    def units(self) -> int:
        """Number of groups; of cases where none are named."""
        return len(set(self.groups)) if self.groups else len(self.hard)

    @property
    def pixels(self) -> Floats:
        """Pixels by case and class, (n, Y)."""
        return np.asarray(self.hard.sum(2))


def leep_estimates(tables: Tables, classes: tuple[str, ...]) -> dict[str, Estimate]:
    """LEEP, its floor and its readings: class-wise, balanced, normalised, leave-one-group-out with floor, NCE."""
    pixels = tables.pixels
    counts, total = pixels.sum(0), pixels.sum()
    by_class, influence = _class_scores(tables)
    share = counts / total
    value = float(share @ by_class)
    case_means = (
        pixels - pixels.sum(1, keepdims=True) * share
    ) / total  # influence of each class's share
    leep = Estimate(value, influence @ share + case_means @ by_class)
    floor = _floor(pixels)
    present = counts > 0
    result = {
        "leep": leep,
        "leep_floor": floor,
        "leep_normalised": _ratio_to_floor(leep, floor),
        "leep_balanced": Estimate(float(by_class[present].mean()), influence[:, present].mean(1)),
        "leep_loo": _per_pixel(tables.held_out.sum(1), pixels),
        "leep_loo_floor": _per_pixel(_held_out_floor(pixels, tables.groups), pixels),
        "nce": _nce(tables.hard),
    }
    if tables.units < 2:
        unknown = Estimate(math.nan, np.full(len(pixels), math.nan))
        result |= {"leep_loo": unknown, "leep_loo_floor": unknown}
    for k, name in enumerate(classes):
        known = float(by_class[k]) if present[k] else math.nan
        result[f"leep[{name}]"] = Estimate(known, influence[:, k])
    within = {name: LOGARITHM for name in result} | {"leep_normalised": (-math.inf, 1.0)}
    return {
        n: replace(e, skewed=True, bounds=within[n], groups=tables.groups)
        for n, e in result.items()
    }


def _class_scores(tables: Tables) -> tuple[Floats, Floats]:
    """LEEP_y = S_y / n_y (Y,), and the influence of each case on it (n, Y).

    With dS_y / dJ_y'z = G_yz (1[y' = y] / J_z - J_yz / J_z^2), summed over y it is the formula for LEEP itself.
    """
    joint, gradient = tables.joint.sum(0), tables.likelihood
    mass = np.where(joint.sum(0) > 0, joint.sum(0), 1.0)
    counts = np.maximum(tables.pixels.sum(0), 1)
    scores = tables.transferability.sum(0) / counts
    own = tables.transferability - tables.pixels * scores
    through_own = np.einsum("yz,nyz->ny", gradient / mass, tables.joint)
    through_mass = np.einsum("yz,nz->ny", gradient * joint / mass**2, tables.joint.sum(1))
    return scores, (own + through_own - through_mass) / counts


def leep_floor(counts: Floats) -> float:
    """-H(Y) in nats of class counts (Y,): the LEEP of a source that knows nothing; 0 where nothing was counted.

    >>> round(leep_floor(np.array([98, 2])), 4)
    -0.098
    """
    share = counts / max(counts.sum(), 1)
    return float(share @ _logarithms(share))


def _floor(pixels: Floats) -> Estimate:
    """`leep_floor` of all cases, with the influence of each."""
    counts, total = pixels.sum(0), pixels.sum()
    value = leep_floor(counts)
    return Estimate(value, (pixels @ (_logarithms(counts / total) - value)) / total)


def _logarithms(shares: Floats) -> Floats:
    """Logarithms of shares; 0 for a share of 0, which weighs nothing."""
    return np.asarray(np.log(np.where(shares > 0, shares, 1.0)))


def _ratio_to_floor(leep: Estimate, floor: Estimate) -> Estimate:
    """1 - LEEP / floor: 0 = uninformative, 1 = perfect; unknown where there is one class alone."""
    if floor.value == 0:
        return Estimate(math.nan, np.full_like(leep.influence, math.nan))
    influence = (leep.value * floor.influence / floor.value - leep.influence) / floor.value
    return Estimate(1 - leep.value / floor.value, influence)


def _held_out_floor(pixels: Floats, groups: Sequence[str]) -> Floats:
    """Held-out score of the smoothed class frequencies of the other groups, summed over each case (n,)."""
    others = pixels.sum(0) - group_sums(pixels, groups)
    frequencies = (others + 1 / pixels.shape[1]) / (others.sum(1, keepdims=True) + 1)
    return np.asarray((pixels * np.log(frequencies)).sum(1))


def _per_pixel(sums: Floats, pixels: Floats) -> Estimate:
    """Ratio of sums over cases, sum / pixels; the dependence of the joint on the cases is left out."""
    sizes = pixels.sum(1)
    value = float(sums.sum() / sizes.sum())
    return Estimate(value, (sums - value * sizes) / sizes.sum())


def _nce(hard: Floats) -> Estimate:
    """-H(Y|Z) with Z the most probable source class."""
    total = hard.sum(0)
    conditional = total / np.maximum(total.sum(0), 1)
    logs = _logarithms(conditional)
    value = float((total * logs).sum() / total.sum())
    return Estimate(value, ((hard * (logs - value)).sum((1, 2))) / total.sum())


def dice(overlap: Floats, predicted: Floats, labelled: Floats) -> Floats:
    """2 |A n B| / (|A| + |B|); NaN where both are empty."""
    size = predicted + labelled
    empty = np.full(np.shape(size), np.nan)
    return np.asarray(np.divide(2 * overlap, size, out=empty, where=size > 0))


def group_sums(values: Floats, groups: Sequence[str]) -> Floats:
    """For each case the sum over the cases of its group (n, ...), from values (n, ...); without groups these values."""
    if not groups:
        return values
    own = np.asarray(groups)
    return np.asarray(np.tensordot((own[:, None] == own).astype(np.float64), values, 1))


def mean_known(values: Floats) -> Floats:
    """Mean over the first axis of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    sums, empty = np.where(known, values, 0).sum(0), np.full(values.shape[1:], np.nan)
    return np.asarray(np.divide(sums, known.sum(0), out=empty, where=known.any(0)))
