"""Results that are drawn: figures of made-up and of incomplete tables, and errors of one sentence with the next step."""

import importlib
import runpy
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import transfer_risk as tr
from transfer_risk import study

FIGURES = Path(__file__).parents[1] / "figures"
PROGRAMS = ("gain_per_pair", "crossover", "ranking_scatter", "ablation", "risk_calibration")


@pytest.fixture
def program(request, monkeypatch):
    """The module of a figure program."""
    monkeypatch.syspath_prepend(str(FIGURES))
    yield importlib.import_module(request.param)
    sys.modules.pop(request.param)


every_program = pytest.mark.parametrize("program", PROGRAMS, indirect=True)


@pytest.fixture
def run(monkeypatch):
    """Run a program in this process with words of a command line; the sentence of an error, or None."""

    def running(name, *words):
        monkeypatch.setattr(sys, "argv", [str(FIGURES / f"{name}.py"), *map(str, words)])
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            return end.code
        return None

    return running


def write(tables, folder):
    folder.mkdir()
    for name, table in tables.items():
        table.to_csv(folder / name, index=False)


@every_program
def test_text_is_readable_and_inside_the_figure(program):
    figure = program.draw(program.example())
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    drawn = figure.get_tightbbox()  # ticks beyond the ends of an axis are not drawn
    assert width <= 7.2
    assert drawn.x0 >= -0.01 and drawn.x1 <= width + 0.01
    assert drawn.y0 >= -0.01 and drawn.y1 <= height + 0.01
    assert all(t.get_fontsize() >= 6 for t in figure.findobj(Text) if t.get_text().strip())


@every_program
def test_one_cohort_alone_is_drawn(program):
    both = program.draw(program.example())
    tables = {n: t[t["anatomy"] == "tissue"] for n, t in program.example().items()}
    alone = program.draw({n: t for n, t in tables.items() if len(t)})
    titles = [[a.get_title(loc="left") for a in f.axes] for f in (both, alone)]
    assert any("tumour" in t for t in titles[0]) and any("tissue" in t for t in titles[0])
    assert any("tissue" in t for t in titles[1]) and not any("tumour" in t for t in titles[1])


@every_program
def test_files_are_drawn_as_tables_are_and_twice_the_same(program, run, tmp_path):
    write(program.example(), tmp_path / "results")
    name, given = program.__name__, ("--results", tmp_path / "results")
    for number, words in enumerate((("--smoke",), given, ("--quick", *given))):
        assert run(name, *words, "--out", tmp_path / str(number)) is None
    made = [(tmp_path / str(k) / f"{name}.png").read_bytes() for k in range(3)]
    assert made[0] == made[1] == made[2]


@every_program
def test_a_missing_file_is_one_sentence_with_the_next_step(program, run, tmp_path):
    said = run(program.__name__, "--results", tmp_path, "--out", tmp_path / "out")
    name, (maker, _) = next(iter(program.NEEDS.items()))
    assert said == f"{tmp_path / name}: is not there; python {maker} writes it"
    assert not (tmp_path / "out").exists()


def test_a_program_that_cannot_draw_ends_with_1(tmp_path):
    command = [sys.executable, str(FIGURES / "ablation.py"), "--results", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    wanted = (
        f"{tmp_path}/ablation_summary.csv: is not there; python analysis/ablation.py writes it\n"
    )
    assert result.stderr == wanted


def test_one_table_of_two_is_drawn_and_the_other_named(run, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FIGURES))
    tables = importlib.import_module("gain_per_pair").example()
    write({"table2.csv": tables["table2.csv"]}, tmp_path / "results")
    assert run("gain_per_pair", "--results", tmp_path / "results", "--out", tmp_path) is None
    assert (tmp_path / "gain_per_pair.png").stat().st_size > 0
    left_out = tmp_path / "results" / "table1.csv"
    wanted = f"{left_out}: is not there and left out; python analysis/table1.py writes it\n"
    assert capsys.readouterr().err == wanted


def test_gains_are_differences_of_means_over_seeds_at_the_methods_last_stop(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("gain_per_pair")
    rows = [
        ("tissue", "a", "b", 0, "vanilla", 50, "argmax", 60.0),
        ("tissue", "a", "b", 1, "vanilla", 50, "argmax", 62.0),
        ("tissue", "a", "b", 0, "vanilla", 80, "argmax", 99.0),
        ("tissue", "a", "b", 0, "risk-map", 50, "argmax", 64.0),
        ("tissue", "a", "b", 1, "risk-map", 50, "argmax", 63.0),
        ("tissue", "a", "b", 0, "risk-map", 20, "argmax", 10.0),
    ]
    table = pd.DataFrame(rows, columns=module.COLUMNS)
    made = module.gain(module.last_stop(table))
    assert made.loc["a", "b"] == 2.5 and made.isna().sum().sum() == 3
    more = table.assign(target="c")
    longer = more.assign(iterations=more["iterations"] * 9)  # a long run of one pair alone
    made = module.gain(module.last_stop(pd.concat([table, more, longer])))
    assert made.loc["a", ["b", "c"]].tolist() == [2.5, 2.5]
    with pytest.raises(ValueError, match="rows of recipe risk-map with decision argmax; got none"):
        module.draw({"table1.csv": table[table["recipe"] == "vanilla"]})


def test_gains_are_paired_at_equal_iterations_and_vanillas_variants_are_muted(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("crossover")
    rows = [
        ("tissue", "a", target, 0, recipe, stop, "argmax", dice, 0)
        for target, more in (("b", 0.0), ("c", 1.0))
        for recipe, stop, dice in (
            ("vanilla", 50, 60.0),
            ("vanilla, longer", 50, 61.0 + more),
            (study.PROBED_DICE, 50, 63.0 + more),
            ("vanilla", 200, 80.0),
            (study.PROBED_DICE, 200, 70.0),
        )
    ]
    table = pd.DataFrame(rows, columns=[*module.COLUMNS, "slices"])
    others = table.assign(dice=99.0)
    tuned, few = others.assign(decision="tuned"), others.assign(slices=50)
    made = module.gain(pd.concat([table, tuned])).set_index(["recipe", "iterations"])
    best = {50: 3.5, 200: -10.0}
    values = {("vanilla, longer", 50): 1.5} | {(study.PROBED_DICE, k): v for k, v in best.items()}
    assert made["value"].to_dict() == values and set(made["pairs"]) == {2}
    beyond = pd.concat([table, tuned, few])
    tables = module.example() | {"recipes_confirmed.csv": beyond}
    figure = module.draw(tables)
    panels = {ax.get_title(loc="left"): ax for ax in figure.axes}
    panel = panels["tissue, beyond the paper, argmax\n2 pairs"]
    lines = {c.get_label(): c.lines[0] for c in panel.containers}
    assert lines[study.PROBED_DICE].get_ydata().tolist() == [3.5, -10.0]
    assert lines["vanilla, longer"].get_linestyle() == "--"
    assert [t.get_text() for t in panel.get_xticklabels()] == ["50", "200"]
    first = panels["tissue, the paper's losses, argmax\n6 pairs"]
    assert [c.get_label() for c in first.containers] == list(study.METHODS[1:])
    below = panels["tissue, beyond the paper, tuned\n6 pairs"]
    assert [c.get_label() for c in below.containers] == list(module.BESIDE)
    gained = (tuned["recipe"] != "vanilla").astype(float)
    tables["tuned_confirmed.csv"] = tuned.assign(dice=tuned["dice"] + gained)
    panels = {ax.get_title(loc="left"): ax for ax in module.draw(tables).axes}
    fresh = panels["tissue, fresh subjects, tuned\n2 pairs"]
    lines = {c.get_label(): c.lines[0].get_ydata().tolist() for c in fresh.containers}
    assert lines == {study.PROBED_DICE: [1.0, 1.0], study.LONGER: [1.0]}


def test_a_model_from_scratch_that_pairs_share_counts_once_for_each_target(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("crossover")
    rows = [
        ("tissue", source, target, 0, recipe, 50, "tuned", dice)
        for source, target in permutations("abcd", 2)
        for recipe, dice in (("vanilla", 60.0), ("scratch", 60.0 + 5 * "abcd".index(target)))
    ]
    made = module.gain(pd.DataFrame(rows, columns=module.COLUMNS), ("scratch",), decision="tuned")
    (row,) = made.to_dict("records")
    wanted = tr.Estimate.mean(np.array([0.0, 5.0, 10.0, 15.0]))
    assert row["value"] == pytest.approx(7.5) and row["pairs"] == 12
    assert (row["low"], row["high"]) == pytest.approx(wanted.interval())


def test_the_ablation_shows_each_cohorts_last_stop(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("ablation")
    rows = [
        ("base", anatomy, stop, variant, stop / 100, 0.0, 9.0, 4)
        for anatomy, stops in (("tissue", (50, 200)), ("partitions", (50, 400)))
        for stop in stops
        for variant in ("risk-map", "base 2")
    ]
    table = pd.DataFrame(rows, columns=module.COLUMNS)
    kept = module.last_stops(table)
    assert kept["difference"].tolist() == [2.0, 4.0] and set(kept["recipe"]) == {"base 2"}
    twice = pd.concat([table, table.assign(group="again"), table.assign(group="other", low=1.0)])
    assert module.last_stops(twice)["group"].tolist() == ["base", "base", "other", "other"]
    titles = [a.get_title(loc="left") for a in module.draw({"ablation_summary.csv": table}).axes]
    assert titles == ["tissue, 200 iterations, 4 pairs", "tumour, 400 iterations, 4 pairs"]
    with pytest.raises(ValueError, match=r"rows beside the risk map's; got none; py"):
        module.draw({"ablation_summary.csv": table[table["recipe"] == "risk-map"]})


def test_shares_are_averaged_over_seeds_and_then_over_pairs(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("risk_calibration")
    rows = [
        ("tissue", 0, "vanilla", "a", "b", "all", 10, 0.01),
        ("tissue", 1, "vanilla", "a", "b", "all", 10, 0.03),
        ("tissue", 0, "vanilla", "a", "c", "all", 10, 0.04),
    ]
    (row,) = module.over_pairs(pd.DataFrame(rows, columns=module.DECILES)).itertuples()
    assert row.value == pytest.approx(3.0) and row.pairs == 2
    assert row.low == pytest.approx(3.0 - 12.706 * 1.0, abs=1e-2)
    tables = module.example()
    other = {n: t.assign(recipe="risk-map") for n, t in tables.items()}
    both = {n: pd.concat([tables[n], other[n]]) for n in tables}
    curves = [module.draw(t).axes[0].lines[0].get_ydata().tolist() for t in (tables, both)]
    assert curves[0] == curves[1]
    with pytest.raises(
        ValueError, match=r"deciles\.csv must have rows of recipe vanilla; got none"
    ):
        module.draw(other)


def test_results_that_cannot_be_read_are_named(tmp_path):
    for name, text, sentence in (
        (
            "a.csv",
            "x,y\n1,2\n",
            r"a.csv: must have the columns z; got x, y; python p.py writes it again",
        ),
        ("b.csv", "x,z\n", "b.csv: must have at least one row; got none; python p.py writes it"),
        ("c.csv", "", r"c.csv: is no CSV \(.*\); python p.py writes it"),
        ("d.csv", 'x,z\n"1', r"d.csv: is no CSV \(.*\); python p.py writes it"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=sentence):
            study.read_results(tmp_path / name, ("x", "z"), program="p.py")
    with pytest.raises(ValueError, match=r"e.csv: is not there; python p.py writes it"):
        study.read_results(tmp_path / "e.csv", ("x",), program="p.py")


def test_a_ranking_without_regret_is_named(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    module = importlib.import_module("ranking_scatter")
    for audit, (seed, called, _) in module.AUDITS.items():
        tables = module.example()
        titles = [ax.get_title(loc="left") for ax in module.draw(tables).axes]
        assert f"{called.format('tumour')}\n6 targets" in titles
        tables[f"{audit}_summary.csv"]["measure"] = "kendall"
        sentence = (
            rf"{audit}_summary.csv must have the regret of vanilla or .* --seed {seed} writes"
        )
        with pytest.raises(ValueError, match=sentence):
            module.draw(tables)
