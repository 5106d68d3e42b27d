"""Studies: parallel, resumable, and paired summaries against a loop."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from transfer_risk import study


def square(job):
    """Two rows per job; a file counts the calls."""
    with open(job["calls"], "a") as file:
        file.write(f"{job['x']}\n")
    if job["x"] == 13:
        raise ValueError("unlucky")
    return [{"power": k, "value": float(job["x"]) ** k, "unknown": math.nan} for k in (1, 2)]


def jobs_of(tmp_path, numbers):
    return [{"x": x, "size": 3.0, "calls": str(tmp_path / "calls")} for x in numbers]


def test_rows_are_in_the_order_of_the_jobs_and_done_once(tmp_path):
    path = tmp_path / "rows.csv"
    told = []
    table = study.run_jobs(
        jobs_of(tmp_path, [3, 1, 2]), square, path, processes=2, progress=told.append
    )
    assert table["x"].tolist() == [3, 3, 1, 1, 2, 2]
    assert table["value"].tolist() == [3, 9, 1, 1, 2, 4] and table["unknown"].isna().all()
    assert len(told) == 3 and told[-1].startswith("3 of 3, 0 min left: ") and "/" not in told[-1]
    more = study.run_jobs(jobs_of(tmp_path, [2, 5, 3]), square, path)
    assert more["x"].tolist() == [2, 2, 5, 5, 3, 3]
    assert study.run_jobs(jobs_of(tmp_path, [5]), square, path)["x"].tolist() == [5, 5]
    again = study.run_jobs(jobs_of(tmp_path, [1, 3]), square, path)  # were left out twice since
    assert again["x"].tolist() == [1, 1, 3, 3]
    assert sorted((tmp_path / "calls").read_text().split()) == ["1", "2", "3", "5"]
    assert sorted(pd.read_csv(path)["x"]) == [1, 1, 2, 2, 3, 3, 5, 5]


def test_rows_are_those_of_the_jobs_whoever_writes_the_file_meanwhile(tmp_path):
    path = tmp_path / "rows.csv"

    def another(_):
        path.write_text("x,value\n7,7\n")

    table = study.run_jobs(jobs_of(tmp_path, [4]), square, path, progress=another)
    assert table["x"].tolist() == [4, 4] and pd.read_csv(path)["x"].tolist() == [7]


def test_a_failed_job_is_named_and_the_others_are_kept(tmp_path):
    path = tmp_path / "rows.csv"
    with pytest.raises(RuntimeError, match=r"1 of 2 jobs failed; the first \(13, 3\.0\): unlucky"):
        study.run_jobs(jobs_of(tmp_path, [13, 4]), square, path)
    assert pd.read_csv(path)["x"].tolist() == [4, 4]


def test_an_error_whose_text_is_a_riddle_is_told_with_its_kind(tmp_path):
    def riddle(_):
        raise KeyError("dice")

    with pytest.raises(RuntimeError, match=r"the first \(4, 3\.0\): KeyError 'dice'"):
        study.run_jobs(jobs_of(tmp_path, [4]), riddle, tmp_path / "rows.csv")


def more(job):
    """As `square`, with one column more."""
    return [row | {"new": 1.0} for row in square(job)]


def test_rows_of_another_version_are_not_mixed_in(tmp_path):
    path = tmp_path / "rows.csv"
    study.run_jobs(jobs_of(tmp_path, [1]), square, path)
    before = path.read_bytes()
    for processes in (1, 2):
        jobs = jobs_of(tmp_path, range(1, 40))
        with pytest.raises(
            ValueError, match=r"rows\.csv: holds rows .* new ones have .*, new; move"
        ):
            study.run_jobs(jobs, more, path, processes=processes)
        assert path.read_bytes() == before
    assert len((tmp_path / "calls").read_text().split()) < 30  # the rest is not waited for


def test_names_stay_names_and_no_job_is_no_row(tmp_path):
    jobs = [{"x": 2, "name": name, "calls": str(tmp_path / "calls")} for name in ("None", "NA")]
    table = study.run_jobs(jobs, square, tmp_path / "rows.csv")
    assert table["name"].tolist() == ["None", "None", "NA", "NA"]
    assert study.run_jobs([], square, tmp_path / "none.csv").empty


def slow(job):
    """Says which process it is in, and takes its time."""
    Path(job["pid"]).write_text(str(os.getpid()))
    time.sleep(60)
    return [{"done": True}]


def running(process):
    """Whether a process is there and no zombie."""
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_the_workers_of_a_killed_study_end_too(tmp_path):
    jobs = [{"pid": str(tmp_path / name)} for name in "ab"]
    code = "import test_studies as t; from transfer_risk import study; "
    code += f"study.run_jobs({jobs!r}, t.slow, {str(tmp_path / 'rows.csv')!r}, processes=2)"
    running_study = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    paths = [Path(job["pid"]) for job in jobs]
    try:
        until = time.monotonic() + 240
        while not all(p.exists() and p.read_text() for p in paths) and time.monotonic() < until:
            time.sleep(0.1)
        assert all(p.exists() for p in paths), "the workers have not begun"
        workers = [int(p.read_text()) for p in paths]
        assert all(map(running, workers))
    finally:
        running_study.kill()
        running_study.wait()
    until = time.monotonic() + 20
    while any(map(running, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(running, workers))


def test_vanilla_of_later_stops_is_a_recipe_of_its_own():
    rows = [
        ("tissue", "vanilla", 50, 0, 1.0),
        ("tissue", "vanilla", 80, 0, 2.0),
        ("tissue", "risk-map", 50, 0, 3.0),
        ("tissue", "vanilla", 80, 20, 4.0),
        ("tissue", "risk-map", 50, 20, 5.0),
    ]
    table = pd.DataFrame(rows, columns=["anatomy", "recipe", "iterations", "slices", "dice"])
    made = study.with_longer(table)
    found = {(r.regime, r.recipe): (r.iterations, r.dice) for r in made.itertuples()}
    few = "tissue, 50 iterations, 20 slices"
    assert found == {
        ("tissue, 50 iterations", "vanilla"): (50, 1),
        ("tissue, 50 iterations", study.LONGER): (50, 2),
        ("tissue, 50 iterations", "risk-map"): (50, 3),
        (few, study.LONGER): (50, 4),
        (few, "risk-map"): (50, 5),
    }


def test_means_over_pairs_have_an_interval_over_targets_too():
    index = pd.MultiIndex.from_tuples(
        [("a", "x"), ("b", "x"), ("a", "y"), ("b", "z")], names=["source", "target"]
    )
    values = np.array([0.1, 0.3, 0.9, math.nan])
    pairs, targets = study.over_pairs(pd.Series(values, index), bounds=(0.0, 1.0))
    for found, known in ((pairs, values[:3]), (targets, np.array([0.2, 0.9]))):
        assert found.cases == len(known) and found.value == pytest.approx(known.mean())
        low, high = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
        assert low < 0 and high > 1  # no share is
        assert list(study.ends(found, "auroc_", "_shared").items()) == [
            ("auroc_low_shared", 0.0),
            ("auroc_high_shared", 1.0),
        ]
    free, _ = study.over_pairs(pd.Series(values, index))
    assert free.interval()[0] < 0


def test_a_table_is_written_with_its_folder(tmp_path):
    table = pd.DataFrame({"x": [1 / 3]})
    for digits, words in (("%.4g", "0.3333"), (None, repr(1 / 3))):
        study.write_table(table, tmp_path / "new" / "t.csv", digits=digits)
        assert (tmp_path / "new" / "t.csv").read_text() == f"x\n{words}\n"


def test_paired_summary_equals_a_loop():
    rng = np.random.default_rng(0)
    rows = [
        {
            "group": g,
            "method": m,
            "pair": p,
            "target": p % 3,
            "seed": s,
            "dice": rng.random(),
            "recall": rng.random(),
        }
        for g in "ab"
        for m in ("vanilla", "risk")
        for p in range(5)
        for s in range(3)
    ]
    table = pd.DataFrame(rows)
    made = study.paired_summary(
        table,
        ["group"],
        method="method",
        pair=["pair", "target"],
        value="dice",
        reference="vanilla",
        beside=["recall"],
        shared="target",
    )
    for row in made.to_dict("records"):
        own = table[(table.group == row["group"]) & (table.method == row["method"])]
        other = table[(table.group == row["group"]) & (table.method == "vanilla")]
        a, b = (np.array([t[t.pair == p]["dice"].mean() for p in range(5)]) for t in (own, other))
        assert row["dice"] == pytest.approx(own["dice"].mean())
        assert row["recall"] == pytest.approx(own["recall"].mean())
        assert row["difference"] == pytest.approx((a - b).mean(), abs=1e-12)
        if row["method"] != "vanilla":
            assert row["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue) and row["pairs"] == 5
            assert row["better"] == sum(a > b)
            assert row["median"] == pytest.approx(np.median(a - b))
            assert row["worst"] == pytest.approx(min(a - b))
            shared = [(a - b)[[p for p in range(5) if p % 3 == t]].mean() for t in range(3)]
            low, high = stats.t.interval(0.95, 2, np.mean(shared), stats.sem(shared))
            assert (row["low_shared"], row["high_shared"]) == pytest.approx((low, high))
            assert row["units"] == 3
            assert row["p_signed_rank"] == pytest.approx(stats.wilcoxon(a - b).pvalue)
