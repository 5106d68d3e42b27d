"""Scanners: the sequences, noise and resolution of one institution."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from transfer_risk.phantom.anatomy import Subject
from transfer_risk.phantom.fields import draw_noise
from transfer_risk.phantom.relaxation import Sequence, spin_echo_signal
from transfer_risk.phantom.template import FloatArray

BIAS_SIGMA_MM = 50.0
LARGEST_FACTOR = 1.6  # between an institution's repetition or echo time and the reference
FWHM = 2.3548  # of a Gaussian, in standard deviations


@dataclass(frozen=True)
class Scanner:
    """What two institutions do differently.

    Attributes:
        sequences: Channel name to pulse sequence.
        gain: Stored intensity of a signal of 1.
        snr: Mean brain signal over the standard deviation of the noise.
        bias: Standard deviation of the logarithm of the coil's sensitivity.
        resolution: Full width at half maximum along x, y, z in mm; z is the slice thickness.
    """

    sequences: Mapping[str, Sequence]
    gain: float = 2000.0
    snr: float = 22.0
    bias: float = 0.10
    resolution: tuple[float, float, float] = (1.0, 1.0, 1.0)


REFERENCE = Scanner(
    {"T1": Sequence(600, 15), "T2": Sequence(5000, 100), "FLAIR": Sequence(9000, 120, 2500)}
)


def choose_scanner(institution: int) -> Scanner:
    """The scanner of an institution: 0 is the reference, other numbers fixed variations of it."""
    if institution < 0:
        raise ValueError(f"institution must be an integer of at least 0; got {institution}")
    if institution == 0:
        return REFERENCE
    rng = np.random.default_rng([institution])
    in_plane = rng.uniform(1.0, 2.5)
    return Scanner(
        sequences={name: _vary(seq, rng=rng) for name, seq in REFERENCE.sequences.items()},
        gain=REFERENCE.gain * float(np.exp(np.clip(rng.normal(0, 0.6), -1.2, 1.2))),
        snr=rng.uniform(15, 30),
        bias=rng.uniform(0.05, 0.25),
        resolution=(in_plane, in_plane, rng.uniform(1.0, 5.0)),
    )


def _vary(sequence: Sequence, *, rng: np.random.Generator) -> Sequence:
    """A sequence with other times; the inversion time stays near the null of CSF."""
    repetition, echo = (LARGEST_FACTOR ** rng.uniform(-1, 1, 2)).tolist()
    inversion = rng.uniform(0.95, 1.05)
    if sequence.inversion is None:
        return Sequence(sequence.repetition * repetition, sequence.echo * echo)
    return Sequence(sequence.repetition, sequence.echo * echo, sequence.inversion * inversion)


def scan(
    subject: Subject,
    sequence: Sequence,
    *,
    scanner: Scanner,
    spacing: float,
    rng: np.random.Generator,
) -> NDArray[np.int16]:
    """One image of a subject: signal, blur, coil sensitivity, Rician noise, gain.

    Args:
        subject: The head; its fractions are mixed, so that edges show partial volume.
        sequence: The pulse sequence.
        scanner: Noise, resolution and gain.
        spacing: Voxel size in mm.
        rng: Source of coil sensitivity and noise.

    Returns:
        Intensities (X, Y, Z), exactly 0 outside the brain and at least 1 inside.
    """
    signals = np.array([spin_echo_signal(t, sequence) for t in subject.tissues], dtype=np.float32)
    image = np.tensordot(signals, subject.fractions, axes=1)
    image = ndimage.gaussian_filter(image, np.array(scanner.resolution) / FWHM / spacing)
    coil = draw_noise(image.shape, sigma=BIAS_SIGMA_MM / spacing, rng=rng)
    image *= np.exp(scanner.bias * coil)
    image = _add_rician_noise(image, sigma=image[subject.mask].mean() / scanner.snr, rng=rng)
    stored = np.clip(np.rint(image * scanner.gain), 1, np.iinfo(np.int16).max)
    return np.where(subject.mask, stored, 0).astype(np.int16)


def _add_rician_noise(image: FloatArray, *, sigma: float, rng: np.random.Generator) -> FloatArray:
    real, imaginary = rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma)
    return np.asarray(np.hypot(image + real, imaginary))
