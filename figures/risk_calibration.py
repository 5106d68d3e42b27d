"""Where the source's risk map says that transfer will hurt, and where it did hurt.

Reads analysis/results/negative_transfer_deciles.csv and negative_transfer_summary.csv, writes figures/risk_calibration.png:
share of the pixels of each decile of risk that the fine-tuned model gets wrong and a model from scratch gets right, mean
over pairs (of means over seeds) with 95 % t interval, and the AUROC of risk for these pixels.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import transfer_risk as tr
from transfer_risk.charts import SIZE, chart_panels, cohorts_in, label_axes, plot_lines

PROGRAM = "analysis/negative_transfer.py"
DECILES = ("anatomy", "seed", "source", "target", "scope", "decile", "lost")
SUMMARY = ("anatomy", "scope", "auroc", "low", "high", "pairs")
NEEDS = {
    "negative_transfer_deciles.csv": (PROGRAM, DECILES),
    "negative_transfer_summary.csv": (PROGRAM, SUMMARY),
}
SCOPES = {"all": "all pixels", "background": "background", "foreground": "foreground"}


def draw(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each cohort."""
    lost, summary = (tables[name] for name in NEEDS)
    means = over_pairs(lost)
    axes = chart_panels(len(cohorts_in(means)), height=2.7)
    for ax, (anatomy, name) in zip(axes, cohorts_in(means).items(), strict=True):
        own = means[means["anatomy"] == anatomy]
        called = legend(summary[summary["anatomy"] == anatomy])
        plot_lines(ax, own, x="decile", by="scope", names=called)
        ax.set_xticks(range(1, 11))
        ax.set_ylim(0, 1.4 * ax.get_ylim()[1])  # room for the legend
        pairs = int(own["pairs"].max())
        label_axes(ax, title=f"{name}, {pairs} pairs", x="decile of risk (10 = riskiest)")
        ax.legend(fontsize=SIZE, frameon=False, loc="upper left", handlelength=1.5)
    axes[0].set_ylabel("pixels lost by transfer (%)", fontsize=SIZE)
    return axes[0].figure


def over_pairs(lost: pd.DataFrame) -> pd.DataFrame:
    """Mean over pairs in per cent with its interval, by anatomy, scope and decile."""
    keys = ["anatomy", "scope", "decile"]
    pairs = 100 * lost.groupby([*keys, "source", "target"])["lost"].mean()
    rows = []
    for names, values in pairs.groupby(level=keys):
        mean = tr.Estimate.mean(values.to_numpy())
        low, high = mean.interval()
        rows.append((*names, mean.value, low, high, mean.cases))
    return pd.DataFrame(rows, columns=[*keys, "value", "low", "high", "pairs"])


def legend(summary: pd.DataFrame) -> dict[str, str]:
    """What each scope is called: with its AUROC and interval where that is known."""
    known = {
        r.scope: f", AUROC {r.auroc:.2f} [{r.low:.2f}, {r.high:.2f}]"
        for r in summary.itertuples()
        if not np.isnan(r.auroc)
    }
    return {scope: called + known.get(scope, "") for scope, called in SCOPES.items()}


def example() -> dict[str, pd.DataFrame]:
    """Made-up tables for --smoke."""
    rng = np.random.default_rng(0)
    steep = {"all": 0.02, "background": 0.01, "foreground": 0.06}
    rows = [
        (anatomy, 10, *pair, scope, k, most * (k / 10) ** 2 * rng.uniform(0.5, 1.5))
        for anatomy in ("tissue", "partitions")
        for pair in permutations("abc", 2)
        for scope, most in steep.items()
        for k in range(1, 11)
    ]
    aurocs = [(a, s, 0.7, 0.62, 0.78, 6) for a in ("tissue", "partitions") for s in steep]
    return {
        "negative_transfer_deciles.csv": pd.DataFrame(rows, columns=DECILES),
        "negative_transfer_summary.csv": pd.DataFrame(aurocs, columns=SUMMARY),
    }


if __name__ == "__main__":
    tr.draw_results(__doc__, draw, name="risk_calibration", needs=NEEDS, example=example)
