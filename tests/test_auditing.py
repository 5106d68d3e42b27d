"""The audit of scores against hand-computed numbers, slow loops and scipy."""

import itertools
import json
import math
import os
import re
import threading

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

import transfer_risk as tr
from transfer_risk.auditing import MEASURES
from transfer_risk.cli import main
from transfer_risk.reports import audit_text
from transfer_risk.scoretables import read_ranking, read_scores
from transfer_risk.usertables import read_table


def rows(task, names="abcd", **columns):
    return [
        {"task": task, "source": s} | {k: v[i] for k, v in columns.items()}
        for i, s in enumerate(names)
    ]


def verdict(made, score, task="t"):
    (found,) = [v for v in made.verdicts if v.score == score and v.task == task]
    return found


def test_one_target_by_hand():
    made = tr.audit(rows("t", leep=[-0.1, -0.3, -0.2, -0.4]), rows("t", dice=[0.8, 0.85, 0.7, 0.6]))
    own = verdict(made, "leep")
    # pairs: ab against, ac with, ad with, bc against, bd with, cd with
    assert own.kendall == pytest.approx((4 - 2) / 6)
    assert own.spearman == pytest.approx(1 - 6 * (1 + 4 + 1 + 0) / (4 * 15))
    assert (own.top1, own.sources, own.missing) == (0, 4, 0)
    assert own.regret == pytest.approx(5.0)
    random = verdict(made, "random")
    assert random.regret == pytest.approx(100 * (0.85 - 0.7375)) and random.top1 == 0.25
    assert (random.kendall, random.weighted_kendall, random.spearman) == (0, 0, 0)
    assert made.scores == ("leep", "random") and not made.notes


def slow_tau_b(x, y):
    pairs = list(itertools.combinations(range(len(x)), 2))
    signs = [(np.sign(x[i] - x[j]), np.sign(y[i] - y[j])) for i, j in pairs]
    free = [sum(s[k] != 0 for s in signs) for k in (0, 1)]
    return sum(a * b for a, b in signs) / math.sqrt(free[0] * free[1])


@pytest.mark.parametrize("seed", range(8))
def test_correlations_are_those_of_scipy_and_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    score, dice = rng.integers(0, 5, 8).astype(float), rng.integers(0, 6, 8) / 10
    made = tr.audit(rows("t", "abcdefgh", s=score), rows("t", "abcdefgh", dice=dice))
    own = verdict(made, "s")
    assert own.kendall == pytest.approx(slow_tau_b(score, dice))
    assert own.kendall == pytest.approx(stats.kendalltau(score, dice).statistic)
    assert own.weighted_kendall == pytest.approx(stats.weightedtau(score, dice).statistic)
    assert own.spearman == pytest.approx(stats.spearmanr(score, dice).statistic)
    top = [d for s, d in zip(score, dice, strict=True) if s == max(score)]
    assert own.regret == pytest.approx(100 * np.mean([max(dice) - d for d in top]))
    assert own.top1 == pytest.approx(np.mean([d == max(dice) for d in top]))


@pytest.mark.parametrize("dice", [[0.5, 0.7, 0.6, 0.4], [0.5, 0.7, 0.7, 0.4]])
def test_random_is_the_mean_over_all_choices_and_orders(dice):
    made = verdict(tr.audit(rows("t", s=[1, 2, 3, 4]), rows("t", dice=dice)), "random")
    by_order = []
    for order in itertools.permutations(range(4)):
        by_order.append(verdict(tr.audit(rows("t", s=order), rows("t", dice=dice)), "s"))
    measures = [m for m in MEASURES if len(set(dice)) == 4 or m != "weighted_kendall"]
    for measure in measures:
        mean = np.mean([getattr(own, measure) for own in by_order])
        assert getattr(made, measure) == pytest.approx(mean, abs=1e-12)
    assert len(set(dice)) == 4 or math.isnan(made.weighted_kendall)


def test_a_constant_score_is_random_choice_without_correlation():
    made = tr.audit(rows("t", same_modality=[True] * 4), rows("t", dice=[0.1, 0.2, 0.3, 0.6]))
    own, random = verdict(made, "same_modality"), verdict(made, "random")
    assert math.isnan(own.kendall) and math.isnan(own.spearman) and math.isnan(own.weighted_kendall)
    assert (own.regret, own.top1) == (random.regret, random.top1)


def test_a_source_without_score_is_ranked_last_and_said():
    scores = [*rows("t", "abc", s=[-3.0, math.nan, -5.0]), *rows("u", "abc", s=[math.nan] * 3)]
    results = [*rows("t", dice=[0.5, 0.9, 0.6, 0.4]), *rows("u", dice=[0.1, 0.2, 0.3, 0.4])]
    made = tr.audit(scores, results)
    own = verdict(made, "s")
    last = stats.kendalltau([3, 1, 2, 1], [0.5, 0.9, 0.6, 0.4]).statistic
    assert own.kendall == pytest.approx(last)
    assert own.missing == 2 and own.regret == pytest.approx(40)
    empty = verdict(made, "s", "u")
    assert all(math.isnan(getattr(empty, m)) for m in MEASURES) and empty.missing == 4
    assert made.notes == (
        "s is unknown for 2 of 4 sources of targets; these are ranked last",
        "s is unknown for all sources of 1 of 2 targets, which do not count",
    )
    assert made.mean("s", "regret").cases == 1


def test_means_over_targets_have_t_intervals():
    rng = np.random.default_rng(0)
    scores, results = [], []
    for k in range(6):
        scores += rows(f"t{k}", s=rng.random(4), own_dice=rng.random(4), same_class=[1, 0, 0, 1])
        results += rows(f"t{k}", dice=rng.random(4))
    made = tr.audit(scores, results)
    assert made.scores == ("s", "same_class", "own_dice", "random")
    for score, measure in itertools.product(made.scores, MEASURES):
        values = [getattr(v, measure) for v in made.verdicts if v.score == score]
        mean = made.mean(score, measure)
        assert mean.value == pytest.approx(np.mean(values))
        if np.ptp(values):
            wanted = stats.t.interval(0.95, 5, np.mean(values), stats.sem(values))
            assert mean.interval() == pytest.approx(np.clip(wanted, *MEASURES[measure]))


def test_intervals_end_where_their_measure_does():
    scores = [*rows("t", "abc", s=[1, 2, 3]), *rows("u", "abc", s=[1, 2, 3])]
    results = [*rows("t", "abc", dice=[0.1, 0.2, 0.3]), *rows("u", "abc", dice=[0.3, 0.1, 0.2])]
    made = tr.audit(scores, results)
    assert made.mean("s", "kendall").interval() == (-1, 1)
    assert made.mean("s", "top1").interval() == (0, 1)
    assert made.mean("s", "regret").interval()[0] == 0


def test_empty_cells_are_cells():
    dice = [0.6, 0.5, 0.9]
    scores = rows("t", "abc", s=[3, 2, 1])
    for name in ("seed", "case", "class"):
        made = tr.audit(scores, rows("t", "abc", dice=dice, **{name: [None] * 3}))
        assert verdict(made, "s").sources == 3 and verdict(made, "s").regret == pytest.approx(30)
        mixed = [
            *rows("t", "abc", dice=dice, **{name: [None] * 3}),
            *rows("t", "ab", dice=[0.6, 0.5], **{name: ["x"] * 2}),
        ]
        words = (
            f"results of task t: {name} must be given in all rows or in none; it is empty in 3 of 5"
        )
        with pytest.raises(ValueError, match=words):
            tr.audit(scores, mixed)


def test_sources_may_be_called_none(tmp_path):
    (tmp_path / "results.csv").write_text("task,source,dice\nt,None,.5\nt,NA,NaN\nt,a,.7\n")
    table = read_table(tmp_path / "results.csv")
    assert [r["source"] for r in table] == ["None", "NA", "a"] and math.isnan(table[1]["dice"])


def test_seeds_that_not_all_sources_have_do_not_count():
    scores = rows("t", "ab", s=[2, 1])
    results = [
        {"task": "t", "source": s, "seed": seed, "dice": dice}
        for s, seed, dice in (("a", 1, 0.8), ("a", 2, 0.2), ("b", 1, 0.7))
    ]
    made = tr.audit(scores, results)
    assert verdict(made, "s").regret == 0 and verdict(made, "s").kendall == 1
    (note,) = made.notes
    assert "1 cases, or seeds of them, lack Dice of some source and are dropped for all" in note
    other = tr.audit(scores, results[1:])
    assert verdict(other, "s").regret == pytest.approx(50)
    assert "no seed in common; each is averaged over its own" in other.notes[0]


def test_dice_is_averaged_over_classes_seeds_and_common_cases():
    results = pd.DataFrame(
        [
            ("t", "a", 0, "p", "x", 0.2),
            ("t", "a", 0, "p", "y", 0.4),
            ("t", "a", 1, "p", "x", 0.3),
            ("t", "a", 1, "p", "y", 0.3),
            ("t", "a", 0, "q", "x", 0.9),
            ("t", "a", 0, "r", "x", math.nan),  # the class is absent
            ("t", "b", 0, "p", "x", 0.5),
            ("t", "b", 1, "p", "x", 0.7),
            ("t", "b", 0, "q", "x", 0.5),
            ("t", "b", 0, "r", "x", 0.9),
            ("t", "b", 0, "s", "x", 0.9),
        ],
        columns=["task", "source", "seed", "case", "class", "dice"],
    )
    made = tr.audit(rows("t", "ab", s=[1, 2]), results)
    assert verdict(made, "s").regret == pytest.approx(100 * ((0.25 + 0.9) / 2 - (0.6 + 0.5) / 2))
    assert made.notes == (
        "1 rows of results have no Dice and do not count",
        "task t: 4 cases, or classes or seeds of them, lack Dice of some source and are dropped for all: "
        "p y 0, p y 1, r x 0 ...",
    )


def test_a_run_without_dice_does_not_count():
    made = tr.audit(GOOD[0], rows("t", dice=[0.1, 0.2, 0.3, math.nan]))
    assert verdict(made, "s").sources == 3 and verdict(made, "s").regret == 0
    assert made.notes == (
        "1 rows of results have no Dice and do not count",
        "scored but without results, left out: d on t",
    )


def test_what_has_no_counterpart_is_left_out_and_said():
    scores = [*rows("t", "abz", s=[1, 2, 3]), *rows("v", s=[1] * 4), *rows("w", "a", s=[1])]
    results = [
        *rows("t", "ab", dice=[0.1, 0.2]),
        *rows("u", dice=[0.1] * 4),
        *rows("w", "a", dice=[0.5]),
    ]
    made = tr.audit(scores, results)
    assert {v.task for v in made.verdicts} == {"t"} and verdict(made, "s").regret == 0
    assert made.notes == (
        "task u has results but no scores; left out",
        "task w has less than two sources with scores and results; left out",
        "task v has scores but no results; left out",
        "scored but without results, left out: z on t",
    )


def test_which_columns_are_scores():
    extra = {"rank": [1, 2], "leep_low": [0, 0], "leep_floor": [1, 1], "leep[gm]": [1, 2]}
    extra |= {
        "licence": ["x", "y"],
        "comment": ["good", "bad"],
        "cases": [3, 3],
        "text": ["1", "2"],
    }
    table = rows("t", "ab", leep=[1, 2], **extra)
    dice = rows("t", "ab", dice=[0.1, 0.2])
    made = tr.audit(table, dice)
    assert made.scores == ("leep", "text", "random") and made.notes == (
        "not numbers, ignored: comment",
    )
    assert tr.audit(table, dice, names=["leep[gm]"]).scores == ("leep[gm]", "random")


GOOD = rows("t", s=[1, 2, 3, 4]), rows("t", dice=[0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("scores", "results", "words"),
    [
        (
            [{"source": "a", "s": 1}],
            GOOD[1],
            "scores must have the columns task, source; task is not",
        ),
        (GOOD[0], GOOD[0], "results must have the columns task, source, dice; dice is not among"),
        (
            GOOD[0] * 2,
            GOOD[1],
            "scores must have one row for each task, source; task t, source a occurs",
        ),
        (GOOD[0], GOOD[1] * 2, "Keep one recipe (method, iterations) in a table"),
        (rows("t", s="wxyz"), GOOD[1], "scores must have a column of numbers; they have"),
        (
            GOOD[0],
            rows("t", dice=[10, 20, 30, 40]),
            "must lie in [0, 1]; got 10. Divide per cent by 100",
        ),
        (GOOD[0], rows("t", dice="wxyz"), "dice of results must be a number in every row"),
        (
            GOOD[0],
            rows("u", dice=[0.1] * 4),
            "must share a task with at least two sources of the same names; scores have t: a, b, c and 1 more",
        ),
        (
            GOOD[0],
            rows("t", "wxyz", dice=[0.1] * 4),
            "scores have t: a, b, c and 1 more, results t: w, x, y and 1 more",
        ),
        (GOOD[0], rows("t", dice=[-0.7, 0.2, 0.3, 0.4]), "must lie in [0, 1]; got -0.7"),
        (
            [{"task": None, "source": "a", "s": 1}],
            GOOD[1],
            "task of scores must be given in every row",
        ),
        (
            GOOD[0],
            rows("t", "ab", case=["p", "q"], dice=[0.1, 0.2]),
            "results of task t: its sources must share a case with known Dice",
        ),
    ],
)
def test_bad_tables(scores, results, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        tr.audit(scores, results)


def test_bad_names():
    with pytest.raises(ValueError, match="scores must have a column luck; they have"):
        tr.audit(*GOOD, names=["luck"])
    with pytest.raises(ValueError, match="score c must be a number in every row"):
        tr.audit(rows("t", c="wxyz"), GOOD[1], names=["c"])


@pytest.fixture
def files(tmp_path):
    """Two rankings as `score --out` writes them, one table with naive choices, and results by seed."""
    for task, leep in (("t", [-1, -2, -3]), ("u", [-3, None, -1])):
        ranking = [
            {"rank": i + 1, "source": s, "leep": v}
            for i, (s, v) in enumerate(zip("abc", leep, strict=True))
        ]
        (tmp_path / task).mkdir()
        (tmp_path / task / "ranking.json").write_text(
            json.dumps({"task": task, "ranking": ranking})
        )
        pd.DataFrame(ranking).to_csv(tmp_path / task / "ranking.csv", index=False)
    results = [
        {"task": t, "source": s, "seed": seed, "dice": d + 0.1 * seed}
        for t, dice in (("t", [0.7, 0.6, 0.5]), ("u", [0.3, 0.4, 0.8]))
        for s, d in zip("abc", dice, strict=True)
        for seed in (0, 1)
    ]
    pd.DataFrame(results).to_csv(tmp_path / "results.csv", index=False)
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, ["audit", *map(str, words)])


def test_rankings_are_read_as_score_writes_them(files):
    by_folder = read_scores([files / "t", files / "u"])
    assert by_folder == read_scores([files / p / "ranking.json" for p in "tu"])
    assert [(r["task"], r["source"], r["rank"]) for r in by_folder[:2]] == [
        ("t", "a", 1),
        ("t", "b", 2),
    ]
    from_csv = read_scores([files / p / "ranking.csv" for p in "tu"])
    assert pd.DataFrame(from_csv).equals(pd.DataFrame(by_folder).astype({"leep": float}))


def test_a_ranking_is_one_whichever_of_its_files_is_read(files):
    whole = read_ranking(files / "u")
    assert [row["leep"] for row in whole] == [-3, None, -1]
    (files / "u" / "ranking.json").unlink()
    for place in (files / "u", files / "u" / "ranking.csv"):
        table = pd.DataFrame(read_ranking(place))
        assert table.equals(pd.DataFrame(whole).astype({"leep": float}))
    (files / "u" / "ranking.csv").unlink()
    with pytest.raises(ValueError, match=r"u: holds no ranking; score --out writes"):
        read_ranking(files / "u")


def test_audit_on_the_command_line(files):
    out = files / "audit"
    done = run(files / "t", files / "u", files / "results.csv", "--format", "json", "--out", out)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [m["score"] for m in document["means"]] == ["leep", "random"]
    assert document["means"][0]["regret"] == 0 and document["means"][0]["top1"] == 1
    assert document["means"][0]["kendall_targets"] == 2
    assert document["means"][1]["regret"] == pytest.approx((10 + 30) / 2)
    assert (
        "note: leep is unknown for 1 of 6 sources of targets; these are ranked last" in done.stderr
    )
    assert {p.name for p in out.iterdir()} == {"audit.csv", "targets.csv", "audit.json"}
    targets = pd.read_csv(out / "targets.csv")
    assert list(targets["task"]) == ["t", "u"] * 2 and targets["missing"].sum() == 1
    means = run(files / "t", files / "u", files / "results.csv", "--format", "csv").stdout
    assert means == (out / "audit.csv").read_text()
    table = run(files / "t", files / "u", files / "results.csv").stdout
    assert table.startswith("2 targets with 3 sources each; means over targets; regret:")
    assert re.search(r"^random +0\.00 \[0\.00, 0\.00\] .* 2$", table, re.M)
    assert run(files / "results.csv").exit_code == 2
    assert (
        "must have a column luck"
        in run(files / "t", files / "results.csv", "--score", "luck").stderr
    )


def test_the_table_says_where_targets_differ_in_sources():
    made = tr.audit(
        [*rows("t", s=[1, 2, 3, 4]), *rows("u", "ab", s=[1, 1])],
        [*rows("t", dice=[0.1, 0.2, 0.3, 0.4]), *rows("u", "ab", dice=[0.1, 0.2])],
    )
    text = audit_text(made, "table")
    assert "2 targets with 2 to 4 sources each" in text
    assert re.search(r"^s +1\.00 \(n = 1\) +1\.00", text, re.M)  # constant on u
    assert json.loads(audit_text(made, "json"))["targets"][1]["kendall"] is None


def test_files_that_are_no_tables(files):
    (files / "t" / "ranking.json").unlink()
    with pytest.raises(ValueError, match=r"must have a column task, or ranking\.json of the same"):
        read_scores([files / "t"])
    (files / "u" / "ranking.json").write_text("[]")
    with pytest.raises(ValueError, match=r"ranking\.json: must be \{"):
        read_scores([files / "u"])
    (files / "u" / "ranking.json").write_text("{")
    with pytest.raises(ValueError, match=r"ranking\.json: is no readable JSON"):
        read_scores([files / "u"])
    (files / "e.csv").write_text("")
    with pytest.raises(ValueError, match=r"e\.csv: is no readable CSV table"):
        read_table(files / "e.csv")
    (files / "e.csv").write_text("task,source,dice\n")
    with pytest.raises(ValueError, match=r"e\.csv: must have rows below its header"):
        read_table(files / "e.csv")
    with pytest.raises(ValueError, match=rf"{files.name}: holds no ranking; score --out writes"):
        read_scores([files])


def test_a_score_by_the_name_of_random_choice_is_refused():
    with pytest.raises(ValueError, match="no column random: a random choice stands beside them"):
        tr.audit(rows("t", "ab", random=[1, 2]), rows("t", "ab", dice=[0.5, 0.6]))


@pytest.mark.parametrize("ranking", [5, [1, 2], None])
def test_a_ranking_that_is_no_list_of_rows_is_named(tmp_path, ranking):
    path = tmp_path / "ranking.json"
    path.write_text(json.dumps({"task": "t", "ranking": ranking}))
    with pytest.raises(ValueError, match=r"ranking.json: must be"):
        read_scores([path])


def test_cases_that_a_source_lacks_are_named_without_classes_too():
    results = [
        {"task": "t", "source": source, "case": case, "dice": dice}
        for source, case, dice in [
            ("a", "case_1", 0.5),
            ("a", "case_2", 0.7),
            ("b", "case_1", 0.6),
            ("b", "case_3", 0.2),
        ]
    ]
    made = tr.audit(rows("t", "ab", s=[1, 2]), results)
    assert made.notes[0].endswith(
        "2 cases lack Dice of some source and are dropped for all: case_2, case_3"
    )
    assert verdict(made, "s").regret == 0


def test_a_score_that_is_named_twice_counts_once():
    once, twice = (tr.audit(*GOOD, names=["s"] * n) for n in (1, 2))
    assert [v for v in twice.verdicts if v.score == "s"] == [
        v for v in once.verdicts if v.score == "s"
    ]


def test_columns_without_a_name_do_no_harm_and_a_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "task,source,dice,,\nt,a,0.9,,\nt,b,0.8,,\n"
    writer = threading.Thread(target=pipe.write_text, args=(text,), daemon=True)
    writer.start()
    rows_read = read_table(pipe)
    writer.join(10)
    assert [row["dice"] for row in rows_read] == [0.9, 0.8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task,source,dice\nt,a,0.9,7\nt,b,0.8,7\n", "as many values in each row"),
        ("task,source,dice,dice\nt,a,0.9,0.1\n", "different columns; dice is there twice"),
    ],
)
def test_tables_with_odd_columns_are_refused(tmp_path, text, words):
    (tmp_path / "results.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_table(tmp_path / "results.csv")
