"""Pixel-level LEEP: the joint table of target and source classes, and what follows from it.

The paper is Duan et al., "Transfer Risk Map" (ICASSP 2025, arXiv 2502.02340), eq. 2-4; LEEP is Nguyen et al. (ICML 2020,
arXiv 2002.12462). Products are formed in the dtype of the probabilities over short runs of pixels; totals are float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
from torch import Tensor

SUM_TOLERANCE = 0.01
"""By how much the probabilities of a pixel may miss 1: what 16 bits leave of them."""
RUN = 131_072
"""Probabilities that are worked on at once: small enough for the processor's cache, large enough for BLAS."""


@dataclass(frozen=True, eq=False)
class Joint:
    """Soft co-occurrence counts of target label and source class; a sum, so joints of disjoint pixels add.

    Args:
        counts: J_yz = sum over pixels of 1[y_p = y] theta_pz, (Y, Z), non-negative; kept in float64.

    >>> theta = torch.tensor([[[0.75, 0.25], [0.25, 0.75]]])     # (1, Z=2, S=2)
    >>> Joint.of(theta, torch.tensor([[0, 1]]), 2).counts
    tensor([[0.7500, 0.2500],
            [0.2500, 0.7500]], dtype=torch.float64)
    """

    counts: Tensor

    def __post_init__(self) -> None:
        """Keep the counts in float64.

        Raises:
            ValueError: if the counts are no table, or negative, or not finite (NaN in the probabilities).
        """
        counts = torch.as_tensor(self.counts)
        if counts.ndim != 2:
            raise ValueError(f"counts must be (Y, Z); got shape {tuple(counts.shape)}")
        if not bool(torch.isfinite(counts).all()) or bool((counts < -1e-6).any()):
            raise ValueError(
                "counts must be finite and not negative; check the probabilities for NaN"
            )
        object.__setattr__(self, "counts", counts.to(torch.float64).clamp(min=0))

    @classmethod
    def of(cls, probabilities: Tensor, labels: Tensor, num_classes: int) -> Joint:
        """Joint of a batch: probabilities (B, Z, *S), labels (B, *S) in [0, num_classes) or -1 where ignored."""
        check_batch(probabilities, labels, num_classes)
        probabilities = probabilities.detach()
        totals = probabilities.new_zeros((num_classes, probabilities.shape[1]), dtype=torch.float64)
        for theta, hot, _ in _runs(probabilities, labels, num_classes):
            totals += hot @ theta.T
        return cls(totals)

    @property
    def num_pixels(self) -> float:
        """Mass of the table: the number of pixels that were counted, up to rounding."""
        return float(self.counts.sum())

    @property
    def conditional(self) -> Tensor:
        """P(y|z) = J_yz / J_z, (Y, Z) float64; a source class without mass has a column of zeros (eq. 3)."""
        mass = self.counts.sum(0)
        return self.counts / torch.where(mass > 0, mass, 1.0)

    @property
    def smoothed(self) -> Tensor:
        """P(y|z) with one pseudo-pixel per source class, (J_yz + 1/Y) / (J_z + 1): for pixels it has not seen."""
        return (self.counts + 1 / len(self.counts)) / (self.counts.sum(0) + 1)

    def __add__(self, other: Joint) -> Joint:
        """Joint of the pixels of both."""
        self._check_same(other)
        return Joint(self.counts + other.counts)

    def __sub__(self, other: Joint) -> Joint:
        """Joint without the pixels of the other: a total minus one case leaves that case out."""
        self._check_same(other)
        return Joint(self.counts - other.counts)

    def _check_same(self, other: Joint) -> None:
        if self.counts.shape != other.counts.shape:
            raise ValueError(
                "joints must be of the same classes; "
                f"got {tuple(self.counts.shape)} and {tuple(other.counts.shape)}"
            )


def others_of(joints: Sequence[Joint], groups: Sequence[str]) -> list[Joint]:
    """For each case the joint of the cases of all other groups (patients); of one group alone that of all."""
    total = reduce(add, joints)
    own: dict[str, Joint] = {}
    for joint, group in zip(joints, groups, strict=True):
        own[group] = own[group] + joint if group in own else joint
    if len(own) < 2:
        return [total] * len(joints)
    rest = {group: total - joint for group, joint in own.items()}
    return [rest[group] for group in groups]


def expected_prediction(probabilities: Tensor, conditional: Tensor) -> Tensor:
    """Expected empirical predictor: a distribution over target classes for each pixel, (B, Y, *S).

    Args:
        probabilities: Source-class probabilities (B, Z, *S).
        conditional: P(y|z), (Y, Z): `Joint.conditional`, or `Joint.smoothed` for pixels that the joint has not seen.
    """
    table = conditional.to(probabilities.dtype)
    shape = (len(probabilities), len(table), *probabilities.shape[2:])
    return torch.matmul(table, probabilities.flatten(2)).reshape(shape)


@torch.no_grad()
def log_expected_prediction(
    probabilities: Tensor, labels: Tensor, joint: Joint, *, smoothed: bool = False
) -> Tensor:
    """Log-probability of each pixel's label under the expected empirical predictor.

    Args:
        probabilities: Source-class probabilities (B, Z, *S), summing to 1 over Z.
        labels: Target labels (B, *S), integers in [0, Y), -1 where ignored.
        joint: Label statistics of the target task, (Y, Z).
        smoothed: Use `Joint.smoothed`, for pixels that the joint has not seen; else -inf is possible there.

    Returns:
        Transferability (B, *S) in nats, at most 0, NaN where ignored; eq. 4 of the paper. The dtype is that of the
        probabilities, at least float32, which gives 1e-5 nats; float64 gives 1e-9.

    >>> theta = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])     # (1, Z=2, S=2)
    >>> labels = torch.tensor([[1, 0]])
    >>> log_expected_prediction(theta, labels, Joint.of(theta, labels, 2))
    tensor([[0., 0.]])
    """
    num_classes = len(joint.counts)
    ignored = check_batch(probabilities, labels, num_classes)
    if probabilities.shape[1] != joint.counts.shape[1]:
        raise ValueError(
            f"joint must have one column per source class; got {joint.counts.shape[1]} columns "
            f"for probabilities with {probabilities.shape[1]} classes"
        )
    dtype = _precise(probabilities)
    table = (joint.smoothed if smoothed else joint.conditional).to(dtype)
    result = probabilities.new_empty((len(labels), math.prod(labels.shape[1:])), dtype=dtype)
    for theta, hot, (image, pixels) in _runs(probabilities, labels, num_classes):
        run = result[image, pixels]
        torch.sum((table @ theta).mul_(hot), 0, out=run)
        run.log_().clamp_(max=0)
    result = result.reshape(labels.shape)
    return result.masked_fill_(_signed(labels) < 0, torch.nan) if ignored else result


def leep(
    probabilities: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int
) -> float:
    """LEEP in nats: the mean over valid pixels of the transferability on the batch's own joint.

    Args:
        probabilities: Source-class probabilities (B, Z, *S), array or tensor.
        labels: Target labels (B, *S), -1 where ignored.
        num_classes: Number of target classes Y.

    Returns:
        A score between -H(Y) (an uninformative source) and 0 (a perfect one).

    Raises:
        ValueError: if no pixel counts, or the probabilities do not sum to 1.

    >>> theta = torch.tensor([[[0.5, 0.5], [0.5, 0.5]]])
    >>> round(leep(theta, torch.tensor([[0, 1]]), 2), 4)     # uninformative: -log 2
    -0.6931
    """
    theta, target = given(probabilities, labels, num_classes)
    values = log_expected_prediction(theta, target, Joint.of(theta, target, num_classes))
    return float(values.nansum(dtype=torch.float64)) / _counted(target)


def nce(probabilities: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int) -> float:
    """Negative conditional entropy -H(Y|Z) in nats, Z the source's most probable class (Tran et al., ICCV 2019).

    Arguments and errors are those of `leep`.
    """
    theta, target = given(probabilities, labels, num_classes)
    counts = hard_counts(theta, target, num_classes)
    return float(torch.xlogy(counts, Joint(counts).conditional).sum()) / _counted(target)


def _counted(labels: Tensor) -> int:
    """Number of pixels that count."""
    if not (number := int((_signed(labels) >= 0).sum())):
        raise ValueError("labels must have a pixel that counts; all are -1, or there is none")
    return number


def given(
    probabilities: Tensor | np.ndarray, labels: Tensor | np.ndarray, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Probabilities and labels from outside as tensors, checked; what stands in ignored pixels, such as NaN, is 0.

    Raises:
        TypeError: see `check_batch`.
        ValueError: see `check_batch`; and if the probabilities of a pixel that counts do not sum to 1.
    """
    theta, target = as_tensor(probabilities).detach(), as_tensor(labels)
    check_batch(theta, target, num_classes)
    valid = _signed(target) >= 0
    if not bool(valid.any()):
        return theta, target
    sums = theta.sum(1, dtype=_precise(theta))
    low, high = (float(v) for v in sums[valid].aminmax())
    least = float(theta.amin(1)[valid].amin())
    if math.isnan(least):
        raise ValueError(
            "probabilities must be numbers in every pixel that counts; check the probabilities for NaN"
        )
    if least < -SUM_TOLERANCE or low < 1 - SUM_TOLERANCE or high > 1 + SUM_TOLERANCE:
        raise ValueError(
            f"probabilities must not be negative and sum to 1 over axis 1; the least is {least:g}, the sums are {low:g} to "
            f"{high:g}. Give the source's softmax, not its logits"
        )
    if not bool(sums[~valid].isfinite().all()):
        theta = theta.masked_fill(~valid[:, None], 0)
    return theta, target


def as_tensor(values: Tensor | np.ndarray) -> Tensor:
    """A tensor of an array, whichever its byte order and strides (those of files and of flipped views), or as it is."""
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return torch.as_tensor(values)


def hard_counts(probabilities: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Pixels by target class and most probable source class, (Y, Z) float64."""
    sources = probabilities.shape[1]
    counts = torch.zeros(num_classes * sources, dtype=torch.int64, device=labels.device)
    for theta, flat in zip(probabilities.flatten(2), _signed(labels).flatten(1), strict=True):
        for start in range(0, flat.numel(), RUN):
            run = flat[start : start + RUN]
            valid = run >= 0
            pairs = run[valid].long() * sources + theta[:, start : start + RUN].argmax(0)[valid]
            counts += torch.bincount(pairs, minlength=len(counts))
    return counts.reshape(num_classes, sources).to(torch.float64)


def likelihood_table(probabilities: Tensor, labels: Tensor, joint: Joint) -> Tensor:
    """G_yz = sum over pixels with label y of theta_pz / EEP_p(y), (Y, Z) float64: the gradient table of the intervals."""
    num_classes = len(joint.counts)
    table = joint.conditional.to(_precise(probabilities))
    totals = torch.zeros_like(joint.counts)
    for theta, hot, _ in _runs(probabilities, labels, num_classes):
        likelihood = (table @ theta).mul_(hot).sum(0)
        totals += (hot / torch.where(likelihood > 0, likelihood, 1.0)) @ theta.T
    return totals


def check_batch(probabilities: Tensor, labels: Tensor, num_classes: int) -> bool:
    """Check what comes from outside; whether a pixel is ignored.

    Raises:
        TypeError: if the probabilities are no floating-point numbers or the labels no integers.
        ValueError: if shapes disagree, or a label is outside [-1, num_classes).
    """
    if not probabilities.is_floating_point():
        raise TypeError(f"probabilities must be floating point; got {probabilities.dtype}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if probabilities.ndim < 3 or (len(probabilities), *probabilities.shape[2:]) != tuple(
        labels.shape
    ):
        raise ValueError(
            "labels must be (B, *S) for probabilities (B, Z, *S); "
            f"got {tuple(labels.shape)} for {tuple(probabilities.shape)}"
        )
    if not labels.numel():
        return False
    low, high = (int(v) for v in _signed(labels).aminmax())
    if low < -1 or high >= num_classes:
        raise ValueError(f"labels must be in [-1, {num_classes}); got values from {low} to {high}")
    return low < 0


def _signed(labels: Tensor) -> Tensor:
    """Labels in a type that torch can work with: it knows little of unsigned 16 to 64 bits."""
    return labels.long() if labels.dtype in (torch.uint16, torch.uint32, torch.uint64) else labels


def _precise(probabilities: Tensor) -> torch.dtype:
    """The type to compute in: theirs, at least float32."""
    return torch.promote_types(probabilities.dtype, torch.float32)


def _runs(
    probabilities: Tensor, labels: Tensor, num_classes: int
) -> Iterator[tuple[Tensor, Tensor, tuple[int, slice]]]:
    """Runs of pixels: probabilities (Z, n), one-hot labels (Y, n) that are all 0 where ignored, and their place.

    Both in at least float32. The one-hot labels are overwritten by the next run.
    """
    theta, flat = probabilities.flatten(2), _signed(labels).flatten(1)
    dtype = _precise(theta)
    classes = torch.arange(num_classes, dtype=dtype, device=theta.device)[:, None]
    step = max(RUN // theta.shape[1], 4096)
    space = theta.new_empty(num_classes * min(step, flat.shape[1]), dtype=dtype)
    for image in range(len(flat)):
        for start in range(0, flat.shape[1], step):
            pixels = slice(start, start + step)
            run = flat[image, pixels].to(dtype)
            hot = space[: num_classes * len(run)].view(num_classes, -1)
            torch.eq(run, classes, out=hot)
            yield theta[image, :, pixels].to(dtype), hot, (image, pixels)
