"""What figures show, that their text is readable and inside, that files are the same bytes again, and bad input."""

import csv
import shutil
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from blob_folder import make_source
from blobs import make_source as make_blob_source
from blobs import reordered, write_blobs
from click.testing import CliRunner
from matplotlib.text import Text
from run_folder import make_task, stage, write_run

import transfer_risk as tr
from transfer_risk import demo
from transfer_risk.cli import main
from transfer_risk.overlays import classes_over, colour_map, risk_over
from transfer_risk.pages import Example, plot_examples
from transfer_risk.plotting import save_figure
from transfer_risk.scoretables import read_ranking, write_ranking
from transfer_risk.views import View, grey_slice
from transfer_risk.volumes import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A task, two sources, their ranking, a run, and one from scratch."""
    root = tmp_path_factory.mktemp("plots")
    path = make_task(root)
    task = tr.load_task(path)
    before, after = stage(task, wrong=0.5, seed=0), stage(task, wrong=0.2, seed=1)
    last = list(after)[-1]
    after[last] = (4 * after[last][0], after[last][1])  # the most risk
    write_run(root / "run", path, {"before": before, "after": after})
    write_run(root / "scratch", path, {"after": after}, scratch=True)
    sources = [make_source(name=f"s{k}", seed=k) for k in range(2)]
    for source in sources:
        tr.save_source(source, root / source.name)
    write_ranking(tr.rank_sources(sources, task), root / "ranking")
    return root


@pytest.fixture(scope="module")
def run(folder):
    return tr.load_run(folder / "run")


def rows_of(figure):
    """Names of the rows: the labels of the first panels."""
    return [a.get_ylabel() for a in figure.axes if "slice" in a.get_ylabel()]


def titles_of(figure):
    return [a.get_title() for a in figure.axes if a.get_title()]


def test_layers_are_mixed_as_told():
    grey = np.array([[0.2, 0.8]])
    np.testing.assert_allclose(risk_over(grey, np.ones((1, 2)), 10), np.stack([grey] * 3, -1))
    np.testing.assert_allclose(risk_over(grey, np.zeros((1, 2)), 10), np.stack([grey] * 3, -1))
    top = np.array(matplotlib.colormaps["inferno"](1.0)[:3])
    expected = 0.2 * grey[..., None] + 0.8 * top
    np.testing.assert_allclose(risk_over(grey, np.full((1, 2), 10.0), 10), expected)
    np.testing.assert_allclose(risk_over(None, np.full((1, 1), 10.0), 10), [[top]])
    mixed = classes_over(grey, np.array([[0, 1]]), ["#ff0000"])
    np.testing.assert_allclose(mixed, [[[0.2] * 3, [0.95, 0.2, 0.2]]])
    assert classes_over(grey, np.array([[-1, 0]]), ["#ff0000"])[0, 0].tolist() == [0.2] * 3


def test_the_scale_looks_as_the_map_does_over_middle_grey():
    shown = risk_over(np.full((1, 1), 0.5), np.full((1, 1), 10.0), 10)[0, 0]
    np.testing.assert_allclose(colour_map(10, clear=True)(1.0)[:3], shown)
    np.testing.assert_allclose(colour_map(1, clear=True)(0.0)[:3], [0.5] * 3, atol=1e-6)


@pytest.mark.parametrize("width", [3.4, 7.0])
def test_text_is_readable_and_inside_the_figure(run, width):
    figure = tr.plot_change(run, width=width)
    figure.canvas.draw()
    frame = figure.bbox
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            assert text.get_fontsize() >= 6
            box = text.get_window_extent()
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text
    assert figure.get_figwidth() == width


def test_titles_do_not_overlap_in_one_column(run):
    figure = tr.plot_change(run, width=3.4)
    figure.canvas.draw()
    boxes = [a.title.get_window_extent() for a in figure.axes if a.get_title()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


def test_the_riskiest_cases_and_slices_come_first(run):
    span = run.span
    risks = {}
    for case in run.cases:
        values = [run.transferability(s, case) for s in ("before", "after")]
        maps = [tr.RiskMap(torch.from_numpy(v)[None], span).risk[0].numpy() for v in values]
        risks[case.id] = np.maximum(sum(maps) - 2, 0)
    ordered = sorted(risks, key=lambda c: -risks[c].sum())[:3]
    names = [f"{c}\nslice {risks[c].sum((0, 1)).argmax()}" for c in ordered]
    figure = tr.plot_change(run)
    assert rows_of(figure) == names and ordered[0] == run.cases[-1].id
    assert titles_of(figure) == ["T1", "label", "prediction", "risk before", "risk after"]
    named = tr.plot_change(run, cases=run.cases[:1], index=2)
    assert rows_of(named) == [f"{run.cases[0].id}\nslice 2"]


def test_panels_keep_their_proportions_and_all_rows_one_scale(run):
    figure = tr.plot_change(run, cases=run.cases[:2])
    panels = [a for a in figure.axes if a.images and a.get_ylabel() != "risk"]
    sizes = {(np.ptp(a.get_xlim()), np.ptp(a.get_ylim())) for a in panels}
    assert len(panels) == 10 and len(sizes) == 1
    for ax in panels:
        box = ax.get_position()
        across = box.width * figure.get_figwidth() / np.ptp(ax.get_xlim())
        up = box.height * figure.get_figheight() / np.ptp(ax.get_ylim())
        assert across == pytest.approx(up)


def test_letters_stand_in_the_first_panel_of_each_row(run):
    figure = tr.plot_change(run, cases=run.cases[:2])
    firsts = [a for a in figure.axes if "slice" in a.get_ylabel()]
    assert [[t.get_text() for t in a.texts] for a in firsts] == [list("LRPA")] * 2


def test_a_run_from_scratch_has_no_map_before(folder):
    figure = tr.plot_change(tr.load_run(folder / "scratch"))
    assert titles_of(figure) == ["T1", "label", "prediction", "risk after"]


def test_another_run_stands_beside_on_one_span_and_both_borders_are_named(folder, run):
    other = tr.load_run(folder / "scratch")
    figure = tr.plot_change(run, other, cases=run.cases[:1])
    assert titles_of(figure) == [
        *("T1", "label", "prediction"),
        *("risk before", "after run", "after scratch"),
    ]
    words = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    assert words == [*run.task.classes[1:], "target border", "source border"]
    # one scale: the last panel is the risk of the other run over both runs' span
    case, span = run.cases[0], run.span | other.span
    values = [run.transferability(s, case) for s in ("before", "after")]
    values.append(other.transferability("after", case))
    risks = [tr.RiskMap(torch.from_numpy(v)[None], span).risk[0].numpy() for v in values]
    index = int(np.maximum(sum(risks) - 3, 0).sum((0, 1)).argmax())
    view = View.of(read(case, run.task).affine, 2)
    grey, _ = grey_slice(read(case, run.task).image[0], view, index)
    panels = [a for a in figure.axes if a.images and a.get_ylabel() != "risk"]
    for panel, risk in zip(panels[3:], risks, strict=True):
        expected = risk_over(grey, view.slice(risk, index), 10.0)
        np.testing.assert_allclose(panel.images[0].get_array(), expected)
    own = tr.plot_change(other, cases=run.cases[:1])  # nothing before: no border of a source
    words = [t.get_text() for legend in own.legends for t in legend.get_texts()]
    assert words[-1] == "target border"
    with pytest.raises(ValueError, match="folders of different names; run occurs more than once"):
        tr.plot_change(run, run)


def test_the_dashed_border_is_that_of_what_the_source_decided(run):
    case = run.cases[0]
    risk = tr.RiskMap(torch.from_numpy(run.transferability("after", case))[None], run.span)
    volume = read(case, run.task)
    former = np.zeros(volume.labels.shape, np.int16)
    former[2:4, 1:4] = 2
    example = Example(case.id, volume, run.prediction("after", case), (risk,), former)
    panel = plot_examples([example], classes=run.task.classes, index=1).figure.axes[3]
    dashed, target = panel.collections
    assert dashed.get_linestyle() != target.get_linestyle()
    view = View.of(volume.affine, 2)
    rows, columns = np.nonzero(view.slice(former, 1) > 0)
    across, up = view.spacing
    (line,) = [p for p in dashed.get_paths() if len(p.vertices)]
    ends = line.vertices.min(0), line.vertices.max(0)
    middle = [
        (columns.min() + columns.max() + 1) / 2 * across,
        (rows.min() + rows.max() + 1) / 2 * up,
    ]
    np.testing.assert_allclose((ends[0] + ends[1]) / 2, middle)


def test_long_names_are_cut_and_many_classes_take_more_lines(run):
    case = run.cases[0]
    risk = tr.RiskMap(torch.from_numpy(run.transferability("after", case))[None], run.span)
    name = "FeTS21_Training_with_a_long_name_001"
    example = Example(name, read(case, run.task), run.prediction("after", case), (risk, risk))
    classes = ["background", *(f"structure {k}" for k in range(11))]
    figure = plot_examples([example], classes=classes, width=3.4, index=1)
    figure.canvas.draw()
    (row,) = rows_of(figure)
    assert row.startswith("\u2026") and row.endswith("_001\nslice 1")
    panel = next(a for a in figure.axes if a.get_ylabel() == row)
    label, box = panel.yaxis.label.get_window_extent(), panel.get_window_extent()
    assert box.y0 <= label.y0 and label.y1 <= box.y1
    lines = [legend.get_window_extent() for legend in figure.legends]
    assert len(lines) > 3 and sum(len(legend.get_texts()) for legend in figure.legends) == 12
    assert all(a.y0 >= b.y1 for a, b in pairwise(lines)) and lines[-1].y0 >= 0
    bar = next(a for a in figure.axes if a.get_ylabel() == "risk")
    assert max(line.x1 for line in lines) < bar.yaxis.label.get_window_extent().x0


def test_predicted_classes_of_another_name_have_another_colour(run):
    case = run.cases[0]
    volume = read(case, run.task)
    maps = (tr.RiskMap(torch.from_numpy(run.transferability("after", case))[None], run.span),)
    example = Example(case.id, volume, run.prediction("after", case), maps)
    options = {"classes": ["background", "a", "b"], "predicted": ["background", "b", "c"]}
    figure = plot_examples([example], **options)
    names = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    assert names == ["a", "b", "c", "target border"]
    with pytest.raises(ValueError, match=r"slice must be in 0 to 5 for case case_\d+; got 6"):
        plot_examples([example], index=6, **options)
    with pytest.raises(ValueError, match="examples must be at least one case to draw; got none"):
        plot_examples([], classes=["background", "a"])


def test_sources_are_drawn_with_maps_of_all_test_cases(folder):
    task = tr.load_task(folder / "tasks" / "data.toml")
    sources = [tr.load_source(folder / f"s{k}") for k in range(2)]
    one = tr.plot_maps(task, sources[:1], cases=task.split("test")[:1], index=3)
    assert titles_of(one) == ["T1", "label", "prediction", "risk"]
    two = tr.plot_maps(task, sources, cases=task.split("test")[:1], index=3)
    assert titles_of(two)[3:] == ["risk before", "risk after"]
    with pytest.raises(ValueError, match="sources must be one, or two to compare; got 0"):
        tr.plot_maps(task, [])


def test_the_order_of_the_sources_classes_changes_no_colour(tmp_path):
    task = tr.load_task(write_blobs(tmp_path, classes=("gm", "wm")))
    source = make_blob_source(task.classes)
    with torch.no_grad():
        source.network.head.bias.copy_(torch.tensor([-9.0, 0.0, 0.1]))
    panels = []
    for model in (source, reordered(source, [0, 2, 1])):
        figure = tr.plot_maps(task, [model], cases=task.split("test")[:1], index=2)
        (panel,) = (a for a in figure.axes if a.get_title() == "prediction")
        panels.append(panel.images[0].get_array())
        names = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
        assert names == ["gm", "wm", "target border"]
    colours = {tuple(c) for c in np.round(panels[0].reshape(-1, 3), 6)}
    assert len(colours) > 2  # both classes are there
    np.testing.assert_array_equal(*panels)


@pytest.mark.parametrize("flat", [True, False])
def test_plot_risk_draws_2d_and_3d_on_given_axes(flat):
    rng = np.random.default_rng(0)
    shape = (6, 5) if flat else (6, 5, 4)
    values = torch.from_numpy(-rng.random((1, *shape)))
    risk = tr.RiskMap(values, tr.Span.of(values))
    ax = tr.plot_risk(risk)
    again = tr.plot_risk(risk, ax=ax, image=rng.random(shape), labels=rng.integers(0, 2, shape))
    assert again is ax and len(ax.images) == 2
    assert ax.images[0].get_array().shape == (5, 6, 3)  # x runs to the right


def test_risks_stand_on_one_span_with_one_bar_for_all():
    values = [-torch.rand(1, 4, 5, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1)]
    values[1] *= 9
    maps = {name: tr.RiskMap(v, tr.Span.of(v)) for name, v in zip("ab", values, strict=True)}
    volume = tr.Volume(np.ones((1, 4, 5, 3), np.float32), np.eye(4), np.ones((4, 5, 3), np.int16))
    span = maps["a"].span | maps["b"].span
    row = tr.plot_risks(maps, [volume] * 2)
    assert [ax.get_title() for ax in row] == ["a", "b"]
    figure = row[0].figure
    assert len(figure.axes) == 3 and figure.axes[2].get_ylabel() == "risk"
    index = int((tr.RiskMap(values[0], span).risk[0] - 1).sum((0, 1)).argmax())
    for ax, own in zip(row, values, strict=True):
        alone = tr.plot_risk(
            tr.RiskMap(own, span), image=volume.image[0], labels=volume.labels, index=index
        )
        np.testing.assert_array_equal(ax.images[0].get_array(), alone.images[0].get_array())
    below = figure.subplots(2, 2)
    tr.plot_risks(maps, [volume] * 2, axes=below[:, 0], index=1)
    assert len(figure.axes) == 3 + 4 + 1
    with pytest.raises(ValueError, match="each; got 2 maps, 1 volumes and 2 axes"):
        tr.plot_risks(maps, [volume])
    other = maps | {"b": tr.RiskMap(values[1], span, base=2.0)}
    for refused, found in ((other, "bases 2, 10"), ({}, "none")):
        with pytest.raises(ValueError, match=rf"of one base \(that of `RiskMap`\); got {found}"):
            tr.plot_risks(refused, [volume] * 2)


def test_the_demo_shows_the_best_and_the_worst_source_as_mapped(folder, tmp_path):
    task = tr.load_task(folder / "tasks" / "data.toml")
    sources = [tr.load_source(folder / name) for name in ("s0", "s1")]
    ranking = tr.rank_sources(sources, task)
    ordered = [next(s for s in sources if s.name == score.source) for score in ranking.scores]
    best, worst = (tr.risk_maps(source, task) for source in ordered)
    written, _ = tr.write_maps(ordered[0], task, tmp_path)
    read_back = demo._read_maps(written)
    assert list(read_back) == list(best)
    for case, made in best.items():
        kept = read_back[case]
        own = made.transferability
        torch.testing.assert_close(kept.transferability, own, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(kept.risk, made.risk)
    figure = demo._figure(ranking, (read_back, worst), task)
    titles = [ax.get_title() for ax in figure.axes[1:3]]
    assert [t.split("\n")[0] for t in titles] == [s.name for s in ordered]


def test_a_ranking_looks_the_same_live_and_from_its_files(folder):
    task = tr.load_task(folder / "tasks" / "data.toml")
    ranking = tr.rank_sources([tr.load_source(folder / f"s{k}") for k in range(2)], task)
    for by, floor in (("leep", True), ("leep_loo", True), ("eep_dice", False)):
        live = tr.plot_ranking(ranking, by=by)
        for name in ("ranking.csv", "ranking.json", ""):
            drawn = tr.plot_ranking(read_ranking(folder / "ranking" / name), by=by)
            np.testing.assert_allclose(drawn.lines[0].get_xdata(), live.lines[0].get_xdata())
            assert [t.get_text() for t in drawn.get_yticklabels()] == [
                t.get_text() for t in live.get_yticklabels()
            ]
            assert bool(drawn.texts) == floor
    chosen = tr.plot_ranking(read_ranking(folder / "ranking")).get_xlabel()
    assert ranking.by == "probe_dice" and chosen == tr.plot_ranking(ranking).get_xlabel()
    old = [row | {"probe_dice": None} for row in ranking.rows()]
    assert tr.plot_ranking(old).get_xlabel().startswith("leep ")
    assert live.get_xlabel() == "eep_dice, 95 % interval over 10 cases"
    with pytest.raises(
        ValueError, match=r"by must be a known score of the ranking \(leep, .*\); got 'x'"
    ):
        tr.plot_ranking(ranking, by="x")


def test_a_score_without_interval_is_a_dot_and_an_unknown_one_is_last():
    rows = [
        {"source": "u", "leep": None, "leep_low": None, "leep_high": None, "cases": 1},
        {"source": "a", "leep": "-0.2", "leep_low": "", "leep_high": "", "cases": 1},
    ]
    ax = tr.plot_ranking(rows)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "u"]
    assert ax.get_xlabel() == "leep (nats)"


def test_files_that_hold_no_ranking_are_named(tmp_path):
    for name, text in (("a.json", "{}"), ("b.json", "no"), ("c.csv", "x,y\n1,2\n"), ("d.csv", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=rf"{name}: holds no ranking; score --out writes"):
            read_ranking(tmp_path / name)


def test_curves_show_each_value_and_their_moving_mean(run):
    loss, share = tr.plot_curves(run.log())
    raw, smooth = (line.get_ydata() for line in loss.lines)
    with open(run.path / "log.csv", newline="") as file:
        values = [float(r["loss"]) for r in csv.DictReader(file)]
    np.testing.assert_array_equal(raw, values)
    assert len(values) == 40  # two at a time
    expected = [np.mean(values[max(0, k - 1) : k + 1]) for k in range(40)]
    np.testing.assert_allclose(smooth, expected)
    assert share.get_ylabel() == "foreground share"
    again = tr.plot_curves(run.log(), axes=(loss, share))
    assert again == (loss, share) and len(loss.lines) == 4
    with pytest.raises(ValueError, match="log must have at least one iteration; got none"):
        tr.plot_curves([])


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_the_same_figure_is_the_same_file(run, tmp_path, ending):
    for name in "ab":
        save_figure(tr.plot_change(run, cases=run.cases[:1]), tmp_path / f"{name}{ending}", dpi=80)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2  # nothing else is left
    with pytest.raises(ValueError, match=r"x.jpg: must end in .png, .pdf, .svg"):
        save_figure(tr.plot_curves(run.log())[0].figure, tmp_path / "x.jpg")


def test_drawing_leaves_no_state_behind(run):
    before = dict(matplotlib.rcParams)
    tr.plot_change(run, cases=run.cases[:1])
    tr.plot_curves(run.log())
    assert dict(matplotlib.rcParams) == before


def plot(folder, *words):
    out = folder / "figures" / "f.png"
    out.unlink(missing_ok=True)
    options = next((k for k, w in enumerate(words) if w.startswith("--")), len(words))
    words = [*(str(folder / w) for w in words[:options]), *words[options:]]
    return CliRunner().invoke(main, ["plot", "--out", str(out), *words]), out


TASK = "tasks/data.toml"


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--slice", "2", "--channel", "T1", "--width", "3.4"],
        ["run", "--what", "curves"],
        ["ranking"],
        ["ranking/ranking.csv", "--by", "eep_dice", "--width", "5"],
        [TASK, "s0", "s1", "--slice", "1"],
    ],
    ids=" ".join,
)
def test_the_command_draws(folder, words):
    result, out = plot(folder, *words)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n" and out.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--what", "ranking"], "a run can be drawn as maps or curves; got 'ranking'"),
        (["ranking", "--what", "maps"], "a ranking can be drawn as ranking; got 'maps'"),
        ([TASK], "a TASK is drawn with one SOURCE, or two; got 0"),
        (["run", "scratch", "run"], "a RUN is drawn alone or beside one other; got 3 arguments"),
        (["ranking", "run"], "a RANKING is drawn alone; got 2 arguments"),
        (["run", "scratch", "--what", "curves"], "the curves of a RUN are drawn alone; got 2"),
        (["run", "--what", "curves", "--slice", "1"], "are for maps; got them for curves"),
        (["run", "--by", "leep"], "--by is for a ranking; got it for maps"),
        (["run", "--case", "x"], "task data has no test case x; it has case_"),
        (["run", "--channel", "T9"], "task data has the channels T1; got 'T9'"),
        (["run", "--out", "x.jpg"], "must end in .png, .pdf, .svg; got 'x.jpg'"),
    ],
)
def test_wrong_usage_is_said(folder, words, sentence):
    result, out = plot(folder, *words)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert result.exit_code == 2 and sentence in said, said
    assert not out.exists()


def test_what_cannot_be_drawn_is_an_error_of_one_sentence(folder):
    result, out = plot(folder, "run", "--slice", "77")
    assert result.exit_code == 1 and "slice must be in 0 to 5 for case" in result.stderr
    result, _ = plot(folder, "s0")
    assert result.exit_code == 1 and "s0: is no run folder" in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fg_share", "share", "'fg_share'"),
        ("1,", "one,", "could not convert string to float: 'one"),
        (",seconds", "", "'seconds'"),
    ],
)
def test_a_log_that_is_none_is_named(folder, tmp_path, old, new, words):
    shutil.copytree(folder / "run", tmp_path / "run")
    path = tmp_path / "run" / "log.csv"
    path.write_text(path.read_text().replace(old, new))
    result, out = plot(folder, str(tmp_path / "run"), "--what", "curves")
    said = f"error: {path}: must be the table that finetune wrote"
    assert result.exit_code == 1 and said in result.stderr and words in result.stderr
    assert not out.exists()


def test_a_run_is_drawn_on_the_scale_of_its_own_base(run):
    path = (
        run.path / "config.toml"
    )  # the run knows its task by a relative path, and stays where it is
    text = path.read_text()
    drawn = {}
    try:
        for base in (10.0, 3.0):
            path.write_text(f"{text}\nbase = {base}\n")
            figure = tr.plot_change(tr.load_run(run.path))
            bar = figure.axes[-1]
            drawn[base] = max(
                float(t.get_text())
                for t in [*bar.get_xticklabels(), *bar.get_yticklabels()]
                if t.get_text()
            )
    finally:
        path.write_text(text)
    assert drawn == {10.0: 10, 3.0: 3}


def test_a_ranking_without_numbers_of_cases_is_drawn_and_one_by_name_refused():
    rows = [
        {"source": n, "leep": v, "leep_low": v - 1, "leep_high": v + 1}
        for n, v in (("a", -1), ("b", -2))
    ]
    assert tr.plot_ranking(rows, by="leep").get_xlabel() == "leep (nats), 95 % interval"
    with pytest.raises(
        ValueError, match=r"by must be a known score of the ranking \(leep\); got 'source'"
    ):
        tr.plot_ranking(rows, by="source")
