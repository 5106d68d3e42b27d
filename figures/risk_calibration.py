"""Where the source's risk map says that transfer will hurt, and where it did hurt.

Reads analysis/results/negative_transfer_deciles.csv and negative_transfer_summary.csv, writes figures/risk_calibration.png:
share of the pixels of each decile of risk that the model fine-tuned by vanilla gets wrong and a model from scratch gets
right, mean over pairs (of means over seeds) with 95 % t interval, and the AUROC of risk for these pixels, against all others
and, matched, against those of the same class and distance to the label's border.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transfer_risk import study

PROGRAM = "analysis/negative_transfer.py"
DECILES = ("anatomy", "seed", "recipe", "source", "target", "scope", "decile", "lost")
MATCHED = ("auroc_matched", "auroc_matched_low", "auroc_matched_high")
SUMMARY = ("anatomy", "recipe", "scope", "auroc", "low", "high", "pairs", *MATCHED)
RECIPE = "vanilla"
NEEDS = {
    "negative_transfer_deciles.csv": (PROGRAM, DECILES),
    "negative_transfer_summary.csv": (PROGRAM, SUMMARY),
}
SCOPES = {"all": "all pixels", "background": "background", "foreground": "foreground"}


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A row for each cohort, a panel for each scope with a scale of its own."""
    lost, summary = (tables[name][tables[name]["recipe"] == RECIPE] for name in NEEDS)
    if lost.empty:
        raise ValueError(
            f"negative_transfer_deciles.csv must have rows of recipe {RECIPE}; got none; "
            f"python {PROGRAM} writes it again"
        )
    means = over_pairs(lost)
    cohorts = study.cohorts_in(means)
    figure: Figure
    figure, axes = study.chart_panels(
        len(SCOPES), rows=len(cohorts), height=0.2 + 1.9 * len(cohorts)
    )
    panels = [(anatomy, scope) for anatomy in cohorts for scope in SCOPES]
    for ax, (anatomy, scope) in zip(axes, panels, strict=True):
        chosen = (t[(t["anatomy"] == anatomy) & (t["scope"] == scope)] for t in (means, summary))
        panel(ax, *chosen)
        study.label_axes(
            ax, title=f"{cohorts[anatomy]}, {SCOPES[scope]}", x="decile of risk (10 = riskiest)"
        )
    for ax in axes[:: len(SCOPES)]:
        ax.set_ylabel("lost by transfer (%)", fontsize=study.TEXT_SIZE)
    return figure


def panel(ax: Axes, means: pd.DataFrame, summary: pd.DataFrame) -> Axes:
    """Shares by decile, and above them the AUROC with its interval where that is known."""
    study.plot_lines(ax, means, x="decile", by="scope", names=SCOPES)
    ax.set_xticks(range(1, 11))
    ax.set_ylim(0, max(1.4 * ax.get_ylim()[1], 1e-3))
    words = [
        f"AUROC {r.auroc:.2f} [{r.low:.2f}, {r.high:.2f}], {r.pairs} pairs\n"
        "matched {:.2f} [{:.2f}, {:.2f}]".format(*(getattr(r, n) for n in MATCHED))
        for r in summary.dropna(subset="auroc").itertuples()
    ]
    ax.text(
        0.03, 0.97, "\n".join(words), transform=ax.transAxes, va="top", fontsize=study.TEXT_SIZE
    )
    return ax


def over_pairs(lost: pd.DataFrame) -> pd.DataFrame:
    """Mean over pairs in per cent with its interval, by anatomy, scope and decile."""
    keys = ["anatomy", "scope", "decile"]
    pairs = 100 * lost.groupby([*keys, "source", "target"])["lost"].mean()
    rows = []
    for names, values in pairs.groupby(level=keys):
        mean, _ = study.over_pairs(values)
        row = dict(zip(keys, names, strict=True)) | {"value": mean.value}
        rows.append(row | study.ends(mean) | {"pairs": mean.cases})
    return pd.DataFrame(rows)


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    steep = {"all": 0.02, "background": 0.01, "foreground": 0.06}
    rows = [
        (anatomy, 10, RECIPE, *pair, scope, k, most * (k / 10) ** 2 * rng.uniform(0.5, 1.5))
        for anatomy in ("tissue", "partitions")
        for pair in permutations("abc", 2)
        for scope, most in steep.items()
        for k in range(1, 11)
    ]
    aurocs = [
        (a, RECIPE, s, 0.7, 0.62, 0.78, 6, 0.6, 0.5, 0.7)
        for a in ("tissue", "partitions")
        for s in steep
    ]
    return {
        "negative_transfer_deciles.csv": pd.DataFrame(rows, columns=DECILES),
        "negative_transfer_summary.csv": pd.DataFrame(aurocs, columns=SUMMARY),
    }


if __name__ == "__main__":
    study.draw_results(__doc__, draw, name="risk_calibration", needs=NEEDS, example=example)
