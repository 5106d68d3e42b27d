"""Which part of the method does the work: one option changed at a time, on six pairs of each cohort.

Each group has a vanilla and a risk map as in the paper of its own, with the same head, optimiser, data, iterations and
decision; differences are to that risk map. Writes results/ablation.csv (one row per pair, seed, variant and number of
iterations), results/ablation_summary.csv (paired differences over pairs, with 95 % t intervals) and, where a whole group is
trained otherwise, the difference of either of its methods to the same method of the paper's protocol in
results/ablation_protocol_summary.csv. A killed run goes on.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from transfer_risk import study

BOTH, MAP = study.BOTH, study.BOTH["risk-map"]
TUNED = "tuned decision"
GROUPS: dict[str, dict[str, dict[str, Any]]] = {
    "base": BOTH | {f"base {base:g}": MAP | {"base": base} for base in (1.0, 2.0, 3.16, 100.0)},
    "scale": BOTH
    | {
        "extent case": MAP | {"extent": "case"},
        "extent set": MAP | {"extent": "set"},
        "clip 1": MAP | {"clip": 1.0},
        "min_range 1 nat": MAP | {"min_range": 1.0},
    },
    "divisor": BOTH
    | {
        "per image": MAP | {"divisor": "image"},
        "all pixels": MAP | {"divisor": "pixels"},
        "min_foreground .05": MAP | {"min_foreground": 0.05},
    },
    "where in a class": BOTH
    | {
        "class means": {"method": "class-mean"},
        "shuffled within class": {"method": "class-shuffle"},
        "class-weight": {"method": "class-weight"},
    },
    "trs-map": BOTH
    | {
        "1 + H": {"method": "trs-map"},
        "exp(-T)": {"method": "trs-map", "exponential": True},
    },
    "new head": {name: options | {"head": "new"} for name, options in BOTH.items()},
    "probe head": {name: options | {"head": "probe"} for name, options in BOTH.items()},
    "with Dice loss": {name: options | {"dice_weight": 1.0} for name, options in BOTH.items()},
    "SGD": {name: options | {"optimiser": "sgd", "lr": 1e-2} for name, options in BOTH.items()},
    "AdamW": {name: options | {"optimiser": "adamw"} for name, options in BOTH.items()},
    "adjusted decision": {
        name: options | {"decision": "adjusted"} for name, options in BOTH.items()
    },
    TUNED: BOTH,
    "3 cases": {name: options | {"n_cases": 3} for name, options in BOTH.items()},
    "20 slices": {name: options | {"n_slices": 20} for name, options in BOTH.items()},
}


def main() -> None:
    """Run at the asked size, print and write the tables."""
    options = study.job_options(__doc__, study.DATA_OPTIONS)
    parts = [rows_of(plan, options.size) for plan in study.transfer_studies(options)]
    table = pd.concat(parts, ignore_index=True)
    groups = ["group", "anatomy", "iterations"]
    summaries = {
        "": study.recipe_summary(study.regular(table), groups, "risk-map"),
        "_protocol": study.recipe_summary(beside_protocol(table), groups, study.PROTOCOL),
    }
    study.write_summaries(table, options.out / "ablation.csv", summaries)


def beside_protocol(table: pd.DataFrame) -> pd.DataFrame:
    """Either method of the groups that train otherwise, each a group of its own beside that method of the first group."""
    both = study.regular(table)
    both = both[both["recipe"].isin(BOTH)]
    first = both["group"] == next(iter(GROUPS))
    parts = []
    for group in dict.fromkeys(both["group"]):
        if list(GROUPS[group]) == list(BOTH):
            own = both[first | (both["group"] == group)]
            recipe = own["recipe"].where(own["group"] == group, study.PROTOCOL)
            parts.append(own.assign(group=f"{group}: " + own["recipe"], recipe=recipe))
    return pd.concat(parts, ignore_index=True)


def rows_of(plan: study.TransferStudy, size: str) -> pd.DataFrame:
    """Rows of all variants on the pairs of one cohort, measured after 50 and 200 iterations."""
    pairs = study.PAIRS[plan.anatomy][: {"smoke": 1, "quick": 2}.get(size)]
    groups = {name: GROUPS[name] for name in ("base", "SGD")} if size == "smoke" else GROUPS
    plan.prepare(pairs)
    jobs = [
        job
        for group, variants in groups.items()
        for job in plan.jobs(
            pairs,
            variants,
            stops=plan.size.stops[:2],
            labels={"group": group},
            tuned="every" if group == TUNED else "none",
        )
    ]
    table = plan.run(jobs, f"ablation-{plan.cohort}")
    tuned = table.pop("decision") == "tuned"
    return table[tuned | (table["group"] != TUNED)]


if __name__ == "__main__":
    study.run_program(main)
