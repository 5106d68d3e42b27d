"""Does the 95 % interval of LEEP cover the truth? Studies drawn from a known population of cases.

Cases differ in lesion size (log-normal), in how often the source is right (logit-normal) and in contrast, which
moves the source's confidence. A pixel is one of a few types (label, source output), so that a case is a table of counts
and LEEP of a study is exact and fast. The truth is LEEP of a very large sample of cases. Beside the interval of `score` (t
on case-wise influence values, corrected for their skewness) stand the plain t interval and the percentile bootstrap over
cases. Writes results/interval_coverage.csv.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import t

from transfer_risk import study
from transfer_risk.tables import Tables, leep_estimates

CLASSES = ("background", "core", "rim")
PIXELS = 20_000
MEDIAN_SIZE = 0.03  # share of the core
SIGMAS = (0.5, 0.8)  # of its logarithm; the second is a population with a long tail
RIM = 0.5  # pixels of rim per pixel of core
QUALITY = (
    1.5,
    0.6,
)  # logit of how often the source's class is right: mean, deviation between cases
CONTRAST = 0.5  # deviation between cases of the logit of being confident
CONFIDENCE = (0.50, 0.80, 0.97)  # probability of the source's most probable class, by level
SIZES = {"smoke": (40, 50), "quick": (500, 200), "full": (2000, 500)}  # studies, bootstrap samples

THETA = np.array(  # (M, Z): source outputs by type, three levels for each source class
    [[c if k == z else (1 - c) / 2 for k in range(3)] for z in range(3) for c in CONFIDENCE]
)


def draw_cases(count: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Pixels by case, label and type of source output: (count, 3, M)."""
    core = np.minimum(np.exp(rng.normal(math.log(MEDIAN_SIZE), sigma, count)), 0.4)
    labels = np.stack([1 - (1 + RIM) * core, core, RIM * core], 1)
    right = 1 / (1 + np.exp(-rng.normal(*QUALITY, count)))
    sure = 1 / (1 + np.exp(-rng.normal(0, CONTRAST, count)))
    hit = np.where(
        np.eye(3, dtype=bool), right[:, None, None], (1 - right[:, None, None]) / 2
    )  # (n, Y, Z)
    level = np.stack([(1 - sure) ** 2, 2 * sure * (1 - sure), sure**2], 1)  # (n, levels)
    shares = np.einsum("ny,nyz,nl->nyzl", labels, hit, level).reshape(count, -1)
    return rng.multinomial(PIXELS, shares).reshape(count, 3, -1).astype(float)


def leep_of(counts: np.ndarray) -> np.ndarray:
    """LEEP of tables of counts (..., Y, M)."""
    joint = counts @ THETA
    eep = joint / joint.sum(-2, keepdims=True) @ THETA.T
    means: np.ndarray = (counts * np.log(eep)).sum((-1, -2)) / counts.sum((-1, -2))
    return means


def study_tables(cases: np.ndarray) -> Tables:
    """The sums of a scoring pass over a study's cases (n, Y, M)."""
    joint = cases @ THETA
    total = joint.sum(0)
    eep = total / total.sum(0) @ THETA.T
    values = (cases * np.log(eep)).sum(2)
    hard = cases.reshape(*cases.shape[:2], 3, len(CONFIDENCE)).sum(3)
    return Tables(joint, hard, values, values, (cases.sum(0) / eep) @ THETA)


def run(
    cases: int, sigma: float, truth: float, size: str, rng: np.random.Generator
) -> list[dict[str, object]]:
    """Coverage of each interval at one number of cases."""
    studies, samples = SIZES[size]
    hits: dict[str, list[bool]] = {"t, skewness corrected": [], "t": [], "percentile bootstrap": []}
    widths: dict[str, list[float]] = {name: [] for name in hits}
    for _ in range(studies):
        drawn = draw_cases(cases, sigma, rng)
        picks = rng.multinomial(cases, np.full(cases, 1 / cases), samples)
        resampled = leep_of(np.einsum("sn,nym->sym", picks, drawn))
        estimate = leep_estimates(study_tables(drawn), CLASSES)["leep"]
        for name, (low, high) in {
            "t, skewness corrected": estimate.interval(),
            "t": replace(estimate, skewed=False).interval(),
            "percentile bootstrap": tuple(np.quantile(resampled, [0.025, 0.975])),
        }.items():
            hits[name].append(low <= truth <= high)
            widths[name].append(high - low)
    return [
        {"method": name, "sigma": sigma, "cases": cases, "studies": studies, "coverage": np.mean(h)}
        | dict(zip(("coverage_low", "coverage_high"), wilson(sum(h), studies), strict=True))
        | {"mean_width": np.mean(widths[name])}
        for name, h in hits.items()
    ]


def wilson(hits: int, studies: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion."""
    z = float(t.ppf(0.975, 1e9))
    share, spread = hits / studies, z**2 / studies
    half = z * math.sqrt(share * (1 - share) / studies + spread / (4 * studies))
    middle = share + spread / 2
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def main() -> None:
    """Run at the asked size, print and write the table."""
    options = study.program_options(__doc__, {"--seed": {"type": int, "default": 0}})
    rng = np.random.default_rng(options.seed)
    rows = []
    for sigma in SIGMAS:
        population = sum(draw_cases(20_000, sigma, rng).sum(0) for _ in range(10))
        for cases in (5, 10, 20):
            print(f"sigma {sigma}, {cases} cases", file=sys.stderr)
            rows += run(cases, sigma, float(leep_of(population)), options.size, rng)
    table = pd.DataFrame(rows).assign(seed=options.seed)
    study.write_table(table, options.out / "interval_coverage.csv")
    print(table.to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    study.run_program(main)
