"""The statistics of the programs under analysis/ against loops."""

import importlib
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import transfer_risk as tr

ANALYSIS = Path(__file__).parents[1] / "analysis"


@pytest.fixture
def program(monkeypatch):
    """Imports a program by name; figures have programs of the same names."""
    monkeypatch.syspath_prepend(str(ANALYSIS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        return module

    return load


def interval(values):
    """Mean and 95 % t interval of plain numbers."""
    mean, error = np.mean(values), stats.sem(values)
    return (mean, *stats.t.interval(0.95, len(values) - 1, mean, error))


def test_over_all_regimes_pairs_are_the_units(program):
    rng = np.random.default_rng(0)
    rows = [
        (regime, anatomy, *pair, seed, recipe, 100 * rng.random(), 1.0, 1.0)
        for regime, anatomy, names in (
            ("short", "tissue", "abc"),
            ("long", "tissue", "ab"),
            ("short too", "partitions", "abc"),
        )
        for pair in permutations(names, 2)
        for seed in (10, 11)
        for recipe in ("vanilla", "probe", "brief")
        if not (regime == "long" and recipe == "brief")
        and not (regime == "long" and recipe == "probe" and pair == ("b", "a"))
    ]
    columns = ["regime", "anatomy", "source", "target", "seed", "recipe", "dice", "recall"]
    table = pd.DataFrame(rows, columns=[*columns, "precision"])
    gains = []
    for anatomy in ("tissue", "partitions"):
        for pair in permutations("abc", 2):
            own = []
            for regime in ("short", "long", "short too"):
                for seed in (10, 11):
                    dice = {r[5]: r[6] for r in rows if r[:5] == (regime, anatomy, *pair, seed)}
                    if {"probe", "vanilla"} <= set(dice):
                        own.append(dice["probe"] - dice["vanilla"])
            gains.append(np.mean(own))
    made = program("recipes").summary_of(table).set_index(["regime", "recipe"])
    row = made.loc[("all", "probe")]
    assert ("all", "brief") not in made.index and ("short", "brief") in made.index
    assert row["pairs"] == 12 and made.loc[("short", "probe"), "pairs"] == 6
    assert tuple(row[["difference", "low", "high"]]) == pytest.approx(interval(gains))


def test_seeds_of_a_target_are_averaged_before_the_interval_of_an_audit(program):
    module, rng = program("ranking"), np.random.default_rng(1)
    scores = [*tr.SCORES, "same_modality", "same_class", "own_dice"]
    table = pd.DataFrame(
        [
            {"anatomy": "tissue", "task": task, "seed": seed, "source": source}
            | {name: rng.random() for name in scores}
            | {"reached[vanilla]": rng.random()}
            for task in "xyz"
            for seed in (10, 11)
            for source in "abcd"
        ]
    )
    regrets = []
    for _, target in table.groupby("task"):
        both = []
        for _, run in target.groupby("seed"):
            reached = run["reached[vanilla]"].to_numpy()
            both.append(100 * (reached.max() - reached[run["leep"].to_numpy().argmax()]))
        regrets.append(np.mean(both))
    rows = module.audited(table, "all", "vanilla")
    (row,) = (r for r in rows if (r["score"], r["measure"]) == ("leep", "regret"))
    assert row["targets"] == 3
    value, low, high = interval(regrets)
    assert low < 0 and row["low"] == 0  # no regret is below 0
    assert (row["value"], row["high"]) == pytest.approx((value, high))
    (paired,) = (r for r in rows if (r["score"], r["measure"]) == ("leep", "regret_against_random"))
    mean = {r["score"]: r["value"] for r in rows if r["measure"] == "regret"}
    assert paired["value"] == pytest.approx(mean["leep"] - mean["random"])


def test_changes_are_set_against_vanillas_pair_by_pair(program):
    rng = np.random.default_rng(2)
    rows = [
        ("tissue", *pair, seed, recipe, "area_50", 0.5, 0.25, rng.random())
        for pair in permutations("abc", 2)
        for seed in (10, 11)
        for recipe in ("vanilla", "risk-map")
    ]
    columns = ["anatomy", "source", "target", "seed", "recipe", "quantity"]
    table = pd.DataFrame(rows, columns=[*columns, "before", "after", "change"])
    changes = {
        recipe: np.array(
            [
                np.mean([r[8] for r in rows if r[1:3] == pair and r[4] == recipe])
                for pair in permutations("abc", 2)
            ]
        )
        for recipe in ("vanilla", "risk-map")
    }
    made = program("before_after").summary(table).set_index("recipe")
    own, against = (
        tuple(made.loc["risk-map", [name, f"{name}_low", f"{name}_high"]])
        for name in ("change", "against_vanilla")
    )
    assert own == pytest.approx(interval(changes["risk-map"]))
    assert against == pytest.approx(interval(changes["risk-map"] - changes["vanilla"]))
    assert made["pairs"].tolist() == [6, 6]
