"""Write the result tables of README.md and docs/*.md again, from results/*.csv; `--check` says which are out of date.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`; NAME is one of the functions of this file.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from transfer_risk import study

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PROBED, LONGER = study.PROBED, study.LONGER
STUDIED = (PROBED, LONGER, "vanilla, lr x 3", "CE + Dice")
REFERENCES = {
    "": ("vanilla, 30 iterations more", LONGER),
    "_plain": ("vanilla", "vanilla"),
    "_dice": (study.DICE, study.DICE),
    "_probe": (study.UNWEIGHTED, study.UNWEIGHTED),
    "_scratch": ("from scratch", "scratch"),
    "_scratch_dice": (f"from scratch, {study.DICE}", study.SCRATCH_DICE),
}
"""What the recipe is compared with in tuned<end>_summary.csv: as it is called, and its recipe."""
FREEZING = {
    "_recipe": ("the same, encoder frozen", study.PROBED_DICE),
    "_unfrozen": (study.DICE_UNFROZEN, study.DICE_UNFROZEN),
    "_scratch": REFERENCES["_scratch"],
    "_scratch_dice": REFERENCES["_scratch_dice"],
}
"""What the recipe with nothing frozen is compared with."""
UNFREEZING = {
    "": REFERENCES[""],
    "_plain": REFERENCES["_plain"],
    "_recipe": ("the recipe, encoder frozen", study.PROBED_DICE),
    "_unfrozen": (study.VANILLA_UNFROZEN, study.VANILLA_UNFROZEN),
    "_scratch": REFERENCES["_scratch"],
    "_scratch_dice": REFERENCES["_scratch_dice"],
}
"""What CE + Dice with nothing frozen is compared with in tuned_confirmed<end>_summary.csv."""
MATCHED = {"_matched": REFERENCES[""], "": REFERENCES["_plain"], "_dice": REFERENCES["_dice"]}
"""The same of the studies of recipes, whose first reference is vanilla."""
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.S)


def interval_coverage() -> str:
    """Coverage by number of cases, method and spread of lesion size."""
    table = pd.read_csv(RESULTS / "interval_coverage.csv")
    methods = list(dict.fromkeys(table["method"]))
    header = ["spread of log size", "cases", *methods]
    rows = []
    for (sigma, cases), block in table.groupby(["sigma", "cases"]):
        own = block.set_index("method")
        cells = [
            f"{100 * own.coverage[m]:.1f} [{100 * own.coverage_low[m]:.1f}, {100 * own.coverage_high[m]:.1f}]"
            for m in methods
        ]
        rows.append([f"{sigma:g}", str(cases), *cells])
    return markdown(header, rows)


def demo() -> str:
    """The ranking of `transfer-risk demo`, its ranking.csv kept as demo_ranking.csv."""
    table = pd.read_csv(RESULTS / "demo_ranking.csv")
    header = ["rank", "source", "LEEP [95 %]", "of floor", "EEP-Dice [95 %]", "Dice"]
    header += ["difference to next [95 %]", "p"]
    rows = []
    for r in table.itertuples():
        row = [str(r.rank), r.source, f"{r.leep:.4f} [{r.leep_low:.4f}, {r.leep_high:.4f}]"]
        row.append(f"{r.leep_normalised:.2f}")
        row.append(f"{r.eep_dice:.3f} [{r.eep_dice_low:.3f}, {r.eep_dice_high:.3f}]")
        row.append("-" if pd.isna(r.dice) else f"{r.dice:.3f}")
        if pd.isna(r.diff_next):
            row += ["-", "-"]
        else:
            row.append(f"{r.diff_next:.4f} [{r.diff_next_low:.4f}, {r.diff_next_high:.4f}]")
            row.append(_p(r.p_next))
        rows.append(row)
    return markdown(header, rows)


def compare_methods() -> str:
    """Dice, recall and precision, and the paired difference to vanilla, by anatomy, decision and method."""
    return _methods("compare_methods", {"anatomy": "cohort", "decision": "decision"})


def table1() -> str:
    """Tissue tasks, five methods, after the last iteration of each run."""
    return _methods("table1", {"iterations": "iterations", "decision": "decision"}, paper=True)


def table2() -> str:
    """Partition tasks, five methods, after the last iteration of each run."""
    return _methods("table2", {"iterations": "iterations", "decision": "decision"}, paper=True)


def table3() -> str:
    """Few-shot, five methods, after 1,000 iterations."""
    return _methods("table3", {"slices": "slices", "decision": "decision"}, after=(1_000,))


def recipes() -> str:
    """Paired difference to vanilla of each recipe, by regime."""
    names = ("class-weight", "trs-map", "risk-map", "probe", *STUDIED, "probe + eep-risk")
    return _recipes("recipes", ["regime"], *names)


def matched() -> str:
    """Paired difference to vanilla of 30 iterations more, which takes as long as a recipe with a probe."""
    names = ("probe", PROBED, *STUDIED[2:], "class-weight", "risk-map")
    return _recipes("recipes_matched", ["regime"], *names, reference=LONGER)


def confirmed() -> str:
    """The recipe on other subjects, argmax."""
    return _against("recipes_confirmed", ["regime"], MATCHED)


def second_confirmed() -> str:
    """The same on subjects of another brain."""
    return _against("recipes_second_confirmed", ["regime"], MATCHED)


def tuned() -> str:
    """The recipe with argmax and with tuned decisions."""
    return _against("tuned", ["regime", "decision"], REFERENCES)


def recommended() -> str:
    """The same in short, tuned: what README says to use, against vanilla matched in time, CE + Dice, and scratch."""
    rows = []
    for name, recipe, same, called in (
        ("tuned_confirmed", study.DICE_UNFROZEN, "", f"{study.DICE_UNFROZEN}, fresh subjects"),
        ("tuned_confirmed", study.PROBED_DICE, "", "recipe, encoder frozen, fresh subjects"),
        ("tuned", study.DICE_UNFROZEN, "", study.DICE_UNFROZEN),
        ("tuned", study.PROBED_DICE_UNFROZEN, "_unfrozen", "recipe, nothing frozen"),
        ("tuned", study.PROBED_DICE, "_dice", "recipe, encoder frozen"),
    ):
        ends = ("", same, "_scratch", "_scratch_dice")
        tables = [pd.read_csv(RESULTS / f"{name}{end}_summary.csv") for end in ends]
        own = [_of_recipe(table, recipe) for table in tables]
        for regime in own[0].index:
            cells = [_over_both(t.loc[regime]) for t in own]
            if not same:
                cells[1] = "-"
            words = [called, regime.replace("partitions", "tumours")]
            rows.append([*words, f"{own[0].dice[regime]:.1f}", *cells])
    against = ("vanilla, 30 more", f"{study.DICE}, as frozen", "scratch", study.SCRATCH_DICE)
    return markdown(["trained", "regime", "Dice", *(f"against {n}" for n in against)], rows)


def _of_recipe(table: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """Rows of a recipe with tuned decisions, by regime."""
    chosen = (table["recipe"] == recipe) & (table["decision"] == "tuned") & (table["pairs"] > 0)
    return table[chosen].set_index("regime")


def freezing() -> str:
    """The recipe with nothing frozen, tuned decisions."""
    return _against(
        "tuned", ["regime"], FREEZING, decision="tuned", recipe=study.PROBED_DICE_UNFROZEN
    )


def unfreezing() -> str:
    """CE + Dice with nothing frozen, tuned decisions, on subjects after which nothing was decided."""
    return _against(
        "tuned_confirmed", ["regime"], UNFREEZING, decision="tuned", recipe=study.DICE_UNFROZEN
    )


def recipe_fresh() -> str:
    """The recipe with its encoder frozen on the same subjects, tuned decisions."""
    references = {end: name for end, name in UNFREEZING.items() if end != "_recipe"}
    return _against("tuned_confirmed", ["regime"], references, decision="tuned")


def scratch() -> str:
    """Vanilla against a model from scratch, by decision."""
    return _vanilla_against_scratch("tuned")


def scratch_fresh() -> str:
    """The same on fresh subjects."""
    return _vanilla_against_scratch("tuned_confirmed")


def _vanilla_against_scratch(name: str) -> str:
    chosen = {"_scratch": REFERENCES["_scratch"]}
    return _against(name, ["regime", "decision"], chosen, recipe="vanilla")


def _against(
    name: str,
    groups: list[str],
    references: dict[str, tuple[str, str]],
    *,
    decision: str = "",
    recipe: str = study.PROBED_DICE,
) -> str:
    """A recipe against each reference: its gain over pairs, over targets, and how even that is."""
    header = [*groups, "against", "its Dice", "gain [95 % over pairs]", "[over targets]"]
    header += ["median", "better in", "worst pair"]
    blocks: dict[tuple[str, ...], list[list[str]]] = {}
    for end, (called, reference) in references.items():
        table = pd.read_csv(RESULTS / f"{name}{end}_summary.csv")
        if decision:
            table = table[table["decision"] == decision]
        for keys, block in table.groupby(groups, sort=False):
            by = block.set_index("recipe")
            if not {recipe, reference} <= set(by.index) or not by.loc[recipe, "pairs"]:
                continue
            own = by.loc[recipe]
            plain = by.loc[reference, "dice"]
            row = [*map(str, keys), called, "-" if pd.isna(plain) else f"{plain:.1f}"]
            row.append(_difference(own["difference"], own["low"], own["high"]))
            row.append(f"[{own['low_shared']:+.1f}, {own['high_shared']:+.1f}]")
            row += [f"{own['median']:+.1f}", f"{own['better']} of {own['pairs']}"]
            blocks.setdefault(keys, []).append([*row, f"{own['worst']:+.1f}"])
    return markdown(header, [row for rows in blocks.values() for row in rows])


def second_anatomy() -> str:
    """The same on subjects that are deformations of another brain."""
    return _recipes("recipes_second", ["regime"], "probe", *STUDIED, "class-weight", "risk-map")


def schedule() -> str:
    """Paired difference to vanilla at the paper's learning rate, by cohort, iterations and decision."""
    groups = ["anatomy", "iterations", "decision"]
    return _recipes("schedule", groups, "risk-map", PROBED)


def _recipes(name: str, groups: list[str], *names: str, reference: str = "vanilla") -> str:
    """Paired difference to the reference of each recipe of a study, a row for each group."""
    table = pd.read_csv(RESULTS / f"{name}_summary.csv")
    rows = []
    for keys, block in table.groupby(groups, sort=False):
        own = block.set_index("recipe")
        cells = [_gain(own, n) for n in names]
        plain = own.dice[reference]  # unknown over all regimes
        row = [
            *map(str, keys),
            str(own.pairs[reference]),
            "-" if pd.isna(plain) else f"{plain:.1f}",
        ]
        rows.append([*row, *cells])
    return markdown([*groups, "pairs", f"{reference}: Dice", *names], rows)


def ranking() -> str:
    """Kendall, top-1 and regret of each score, by cohort and recipe."""
    columns = [(a, PROBED) for a in ("tissue", "partitions")]
    columns += [("all", recipe) for recipe in ("vanilla", "risk-map", PROBED)]
    return _ranking("ranking_summary", columns)


def ranking_confirmed() -> str:
    """The same of other subjects, with Dice added."""
    columns = [(a, study.PROBED_DICE) for a in ("tissue", "partitions")]
    for recipe in ("vanilla", study.PROBED_DICE):
        columns += [("all", recipe), ("all", f"{recipe}, 1000 iterations")]
    return _ranking("ranking_confirmed_summary", columns)


def regrets() -> str:
    """What choosing by some scores costs, and against a random choice, in both audits."""
    audits = {"first audit": "ranking_summary", "other subjects": "ranking_confirmed_summary"}
    recipes = {"vanilla": ("vanilla", "vanilla"), "recipe": (PROBED, study.PROBED_DICE)}
    wanted = [("vanilla", "leep"), ("vanilla", "random")]
    wanted += [("recipe", name) for name in ("leep", "eep_dice", "probe_dice", "random")]
    tables = [pd.read_csv(RESULTS / f"{name}.csv") for name in audits.values()]
    rows = []
    for called, score in wanted:
        row = [called, f"`{score}`"]
        for measure in ("regret", "regret_against_random"):
            for table, recipe in zip(tables, recipes[called], strict=True):
                own = table[(table["anatomy"] == "all") & (table["recipe"] == recipe)]
                r = own[(own["score"] == score) & (own["measure"] == measure)].iloc[0]
                sign = "+" if measure != "regret" else ""
                text = f"{r.value:{sign}.1f} [{r.low:{sign}.1f}, {r.high:{sign}.1f}]"
                row.append("-" if (score, sign) == ("random", "+") else text)
        rows.append(row)
    header = ["fine-tuned with", "chosen by"]
    header += [f"{words}, {name}" for words in ("regret", "minus random's") for name in audits]
    return markdown(header, rows)


def ranking_tuned() -> str:
    """The same with tuned decisions, the encoder frozen or not."""
    recipes = (study.PROBED_DICE, study.PROBED_DICE_UNFROZEN, study.DICE_UNFROZEN)
    ends = ("tuned", "tuned, 1000 iterations")
    columns = [("all", f"{recipe}, {end}") for recipe in recipes for end in ends]
    return _ranking("ranking_confirmed_summary", columns)


def ranking_unfrozen() -> str:
    """The same on fresh subjects, with vanilla, and with nothing frozen."""
    columns = [
        ("all", f"{recipe}{end}")
        for recipe in study.RECOMMENDED
        for end in ("", ", 1000 iterations")
    ]
    return _ranking("ranking_unfrozen_summary", columns)


def _ranking(name: str, columns: Sequence[tuple[str, str]]) -> str:
    table = pd.read_csv(RESULTS / f"{name}.csv")
    rows = []
    for score in dict.fromkeys(table["score"]):
        own = table[table["score"] == score].set_index(["anatomy", "recipe", "measure"])
        rows.append([f"`{score}`", *(_chosen(own, *column) for column in columns)])
    return markdown(["score", *(f"{anatomy}, {recipe}" for anatomy, recipe in columns)], rows)


def negative_transfer() -> str:
    """How well -T, and nearness to the border, tell the voxels that the fine-tuned model loses."""
    table = pd.read_csv(RESULTS / "negative_transfer_summary.csv")
    several = table.groupby("anatomy")["scope"].transform("nunique") > 3  # else one says all
    table = table[several | table["scope"].isin(["all", "background", "foreground"])]
    header = ["cohort", "method", "voxels", "lost, %", "pairs"]
    header += ["AUROC of -T [95 %]", "[over targets]"]
    header += ["at equal class and distance [95 %]", "AUROC of nearness to the border"]
    rows = []
    for r in table.itertuples():
        row = [r.anatomy, f"`{r.recipe}`", r.scope, f"{100 * r.lost:.2f}", str(r.pairs)]
        if r.pairs:
            row.append(f"{r.auroc:.2f} [{r.low:.2f}, {r.high:.2f}]")
            row.append(f"[{r.auroc_low_shared:.2f}, {r.auroc_high_shared:.2f}]")
            matched = r.auroc_matched, r.auroc_matched_low, r.auroc_matched_high
            row.append("{:.2f} [{:.2f}, {:.2f}]".format(*matched))
            row.append(f"{r.auroc_boundary:.2f}")
        rows.append([*row, *["-"] * (len(header) - len(row))])
    return markdown(header, rows)


def ablation() -> str:
    """Difference of each variant to the risk map of its group, by cohort and number of iterations."""
    return _variants("ablation_summary", "risk-map", {"group": "group", "recipe": "variant"})


def protocol() -> str:
    """Difference of vanilla and risk map that are trained otherwise to those of the paper's protocol."""
    return _variants("ablation_protocol_summary", study.PROTOCOL, {"group": "trained otherwise"})


def _variants(name: str, reference: str, named: dict[str, str]) -> str:
    """A row for each variant, a column for each cohort and number of iterations; the reference's Dice where it is shown."""
    table = pd.read_csv(RESULTS / f"{name}.csv")
    columns = sorted(
        {(a, i) for a, i in zip(table["anatomy"], table["iterations"], strict=True)},
        key=lambda c: (list(study.TASKS).index(c[0]), c[1]),
    )
    rows = []
    for keys, block in table.groupby(list(named), sort=False):
        own = block.set_index(["anatomy", "iterations"])
        shown = len(named) > 1 and (own["recipe"] == reference).all()
        if len(named) == 1:
            own = own[own["recipe"] != reference]
        words = [*map(str, keys)]
        if shown:
            words[-1] += ": Dice"
        cells = []
        for column in columns:
            if column not in own.index:
                cells.append("-")
            elif shown:
                cells.append(f"{own.dice[column]:.1f}")
            else:
                cells.append(_over_both(own.loc[column]))
        rows.append([*words, *cells])
    return markdown([*named.values(), *(f"{a}, {i} iterations" for a, i in columns)], rows)


def _chosen(table: pd.DataFrame, anatomy: str, recipe: str) -> str:
    """Kendall / top-1 / regret [95 %] of one score; a naive choice of one cohort is none of all."""
    if (anatomy, recipe, "regret") not in table.index:
        return "-"
    kendall, top, regret = (
        table.loc[anatomy, recipe, measure] for measure in ("kendall", "top1", "regret")
    )
    some = "" if kendall.targets == regret.targets else f" ({kendall.targets:.0f} targets)"
    tau = "-" if pd.isna(kendall.value) else f"{kendall.value:.2f}{some}"
    if pd.isna(regret.value):
        return "-"
    return f"{tau} / {top.value:.2f} / {regret.value:.1f} [{regret.low:.1f}, {regret.high:.1f}]"


def _methods(
    name: str, groups: dict[str, str], *, paper: bool = False, after: Sequence[int] = ()
) -> str:
    """The summary of a study of transfers: `after` so many iterations, or after all at which decisions were tuned."""
    table = pd.read_csv(RESULTS / f"{name}_summary.csv")
    ends = after or table.loc[table["decision"] == "tuned", "iterations"]
    table = table[table["iterations"].isin(ends)]
    if table.empty:
        raise ValueError(f"{name}_summary.csv must have rows after {after} iterations; it has none")
    header = [*groups.values(), "method", "Dice", "recall", "precision"]
    header += ["difference to vanilla [95 %]", "relative, %", "better in", "p (Wilcoxon, Holm)"]
    shared = bool((table["units"] < table["pairs"]).any())
    seeds = _of_each_seed(name, [*groups, "iterations", "recipe"])
    rows = []
    for r in table.to_dict("records"):
        own = r["recipe"] == "vanilla"
        row = [str(r[g]) for g in groups] + [f"`{r['recipe']}`"]
        row += [f"{r[k]:.1f}" for k in ("dice", "recall", "precision")]
        row += (
            ["-"] * 4
            if own
            else [
                _difference(r["difference"], r["low"], r["high"]),
                f"{r['relative']:+.1f}",
                f"{r['better']} of {r['pairs']}",
                _p(r["p_holm"]),
            ]
        )
        if shared:
            row.append("-" if own else f"[{r['low_shared']:+.1f}, {r['high_shared']:+.1f}]")
        found = seeds.loc[tuple(r[g] for g in seeds.index.names)].dropna()
        row.append("-" if own or len(found) < 2 else ", ".join(f"{d:+.1f}" for d in found))
        if paper:
            row.append(f"{r['paper']:+.2f}" if pd.notna(r["paper"]) else "-")
        rows.append(row)
    header += [*(["[95 % over targets]"] if shared else []), "of each seed"]
    return markdown([*header, *(["the paper's difference"] if paper else [])], rows)


def _of_each_seed(name: str, groups: list[str]) -> pd.DataFrame:
    """Mean difference to vanilla over the pairs, a column for each seed, which is another set of subjects."""
    table = pd.read_csv(RESULTS / f"{name}.csv")
    keys = [g for g in dict.fromkeys([*groups, "seed"]) if g in table]
    pairs = [*(k for k in keys if k != "recipe"), "source", "target"]
    vanilla = table[table["recipe"] == "vanilla"][[*pairs, "dice"]]
    both = table.merge(vanilla, on=pairs, suffixes=("", "_vanilla"))
    gains = both["dice"] - both["dice_vanilla"]
    return gains.groupby([both[k] for k in keys]).mean().unstack("seed")


def before_after() -> str:
    """What fine-tuning changes in the risk map, by cohort and method."""
    table = pd.read_csv(RESULTS / "before_after_summary.csv")
    header = ["cohort", "quantity", "method", "before", "after", "change [95 % over pairs]"]
    header += ["[over targets]"]
    rows = []
    for r in table.itertuples():
        row = [r.anatomy, r.quantity, f"`{r.recipe}`", f"{r.before:.3g}", f"{r.after:.3g}"]
        row.append(f"{r.change:+.3g} [{r.change_low:+.3g}, {r.change_high:+.3g}]")
        row.append(f"[{r.change_low_shared:+.3g}, {r.change_high_shared:+.3g}]")
        against = [r.against_vanilla, r.against_vanilla_low, r.against_vanilla_high]
        own = "-" if r.recipe == "vanilla" else "{:+.3g} [{:+.3g}, {:+.3g}]".format(*against)
        rows.append([*row, own])
    return markdown([*header, "the change against vanilla's [95 %]"], rows)


def benchmark_training() -> str:
    """Speed of fine-tuning against the plain loop."""
    table = pd.read_csv(RESULTS / "benchmark_training.csv")
    header = ["width", "plain fp32, s per step", "fp32", "bf16", "outside the arithmetic"]
    rows = [
        [
            *(str(r.width), f"{r.plain_s:.3f}", f"{r.fp32_ratio:.2f}x", f"{r.bf16_ratio:.2f}x"),
            f"{100 * r.overhead_share:.1f} %",
        ]
        for r in table.itertuples()
    ]
    return markdown(header, rows)


TABLES: dict[str, Callable[[], str]] = {
    f.__name__: f
    for f in (
        *(
            interval_coverage,
            demo,
            compare_methods,
            benchmark_training,
            table1,
            table2,
            table3,
            schedule,
        ),
        *(
            recipes,
            matched,
            confirmed,
            second_confirmed,
            tuned,
            recommended,
            freezing,
            unfreezing,
            recipe_fresh,
            scratch,
            scratch_fresh,
            second_anatomy,
            ranking,
            ranking_confirmed,
            ranking_tuned,
            ranking_unfrozen,
            regrets,
            negative_transfer,
            before_after,
            ablation,
            protocol,
        ),
    )
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _gain(by: pd.DataFrame, name: str) -> str:
    """Paired difference of one recipe, of a summary by recipe."""
    if name not in by.index:  # it may not have been run
        return "-"
    return _over_both(by.loc[name])


def _over_both(row: pd.Series) -> str:
    """A difference with its interval over pairs; bold where that over targets is without 0."""
    text = _difference(row["difference"], row["low"], row["high"])
    return f"**{text}**" if row["low_shared"] * row["high_shared"] > 0 else text


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _difference(value: float, low: float, high: float) -> str:
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def rewritten(text: str) -> str:
    """The text with its tables as the results are now."""
    return MARKED.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text)


def main() -> None:
    """Write, or check, every document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Exit with 1 where a table differs.")
    options = parser.parse_args()
    stale = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        old = path.read_text(encoding="utf-8")
        new = rewritten(old)
        if new != old:
            stale.append(path.relative_to(ROOT))
            if not options.check:
                path.write_text(new, encoding="utf-8")
    print(", ".join(map(str, stale)) or "every table is up to date")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
