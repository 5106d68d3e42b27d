"""The signal equation and the relaxation times of tissue at 3 T."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from types import MappingProxyType


@dataclass(frozen=True)
class Tissue:
    """Relaxation times in ms and proton density relative to water."""

    t1: float
    t2: float
    density: float


# Grey and white matter: Wansapura et al., NMR relaxation times in the human brain at 3.0 tesla,
# J Magn Reson Imaging 9:531, 1999. CSF: subarachnoid values of "Quantification of T1 and T2 of
# subarachnoid CSF: implications for water exchange between CSF and brain tissues", PMC10696635.
# Healthy proton densities: BrainWeb (Kwan et al., IEEE Trans Med Imaging 18:1085, 1999).
# Lesions: our choice. The T1 of rim and oedema lie within what de Blank et al. measured by MR
# fingerprinting in high-grade tumours (1863 +- 70 ms) and in the white matter around tumours
# (1261 +- 359 ms); necrosis lies between tissue and fluid. T2 and density are set for the known
# order: oedema brightest on FLAIR, necrosis the brightest part of the lesion on T2.
TISSUES: Mapping[str, Tissue] = MappingProxyType(
    {
        "csf": Tissue(t1=4309, t2=1886, density=1.00),
        "gm": Tissue(t1=1331, t2=110, density=0.86),
        "wm": Tissue(t1=832, t2=80, density=0.77),
        "ncr": Tissue(t1=2600, t2=250, density=0.95),
        "ed": Tissue(t1=1500, t2=160, density=0.90),
        "et": Tissue(t1=1850, t2=140, density=0.92),
    }
)


@dataclass(frozen=True)
class Sequence:
    """Repetition, echo and inversion time in ms; without an inversion it is a plain spin echo."""

    repetition: float
    echo: float
    inversion: float | None = None


def spin_echo_signal(tissue: Tissue, sequence: Sequence) -> float:
    """Magnitude of the spin-echo signal of one tissue, at most its proton density.

    PD (1 - exp(-TR/T1)) exp(-TE/T2), and with an inversion pulse
    PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2), for echo times far below TR.

    >>> round(spin_echo_signal(Tissue(t1=1000, t2=100, density=1), Sequence(1000, 100)), 4)
    0.2325
    """
    recovered = 1 - exp(-sequence.repetition / tissue.t1)
    if sequence.inversion is not None:
        recovered = 2 * (1 - exp(-sequence.inversion / tissue.t1)) - recovered
    return tissue.density * abs(recovered) * exp(-sequence.echo / tissue.t2)
