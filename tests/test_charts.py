"""What charts show: places, intervals, styles that agree between panels, and signs."""

import numpy as np
import pandas as pd
import pytest

from transfer_risk.study.charts import (
    COLOURS,
    GREY,
    arms,
    chart_panels,
    cohorts_in,
    label_axes,
    plot_lines,
    signed,
)


def table(**columns):
    return pd.DataFrame(columns)


def test_signs_are_true_and_none_stands_before_zero():
    minus = "\N{MINUS SIGN}"
    told = [signed(v) for v in (2.0, -0.06, -0.04, 0.0, -12.34)]
    assert told == ["+2.0", f"{minus}0.1", "0.0", "0.0", f"{minus}12.3"]


def test_cohorts_come_in_their_order_and_unknown_ones_last():
    made = cohorts_in(table(anatomy=["spine", "partitions", "tissue", "partitions"]))
    assert list(made.items()) == [
        ("tissue", "tissue"),
        ("partitions", "tumour"),
        ("spine", "spine"),
    ]


def test_panels_are_of_one_figure_with_the_size_asked_for():
    _, axes = chart_panels(3, rows=2, height=4.0, width=6.0, widths=(1, 1, 2))
    figure = axes[0].figure
    assert len(axes) == 6 and all(ax.figure is figure for ax in axes)
    assert tuple(figure.get_size_inches()) == (6.0, 4.0)
    figure.canvas.draw()
    places = [ax.get_position() for ax in axes]
    assert places[0].y0 > places[3].y0 and places[0].x0 < places[1].x0 < places[2].x0
    assert places[2].width > 1.5 * places[0].width
    assert label_axes(axes[0], title="a", x="b", y="c") is axes[0]
    assert axes[0].get_title(loc="left") == "a" and axes[0].get_xlabel() == "b"


def test_arms_reach_from_the_value_to_its_interval():
    value, low, high = np.array([1.0, 2.0]), np.array([0.5, np.nan]), np.array([2.5, np.nan])
    np.testing.assert_array_equal(arms(value, low, high), [[0.5, 0.0], [1.5, 0.0]])


def curves():
    return table(
        n=["a", "a", "b", "b"],
        x=[10, 1, 1, 10],
        value=[2.0, 1.0, -1.0, -2.0],
        low=[1.0, 0.5, -1.5, np.nan],
        high=[4.0, 1.5, -0.5, np.nan],
    )


def test_lines_join_values_in_order_and_bars_span_their_intervals():
    _, (ax,) = chart_panels(1, height=2.0)
    assert plot_lines(ax, curves(), x="x", by="n") is ax
    first, second = ax.containers
    np.testing.assert_array_equal(first.lines[0].get_xydata(), [[1, 1], [10, 2]])
    np.testing.assert_array_equal(second.lines[0].get_xydata(), [[1, -1], [10, -2]])
    (bars,) = first.lines[2]
    ends = [s[:, 1].tolist() for s in bars.get_segments()]
    assert ends == [[0.5, 1.5], [1.0, 4.0]]
    assert ax.get_legend_handles_labels()[1] == ["a", "b"]


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_lines_are_set_apart_on_paper_and_stay_inside(scale):
    _, (ax,) = chart_panels(1, height=2.0)
    ax.set_xscale(scale)
    plot_lines(ax, curves(), x="x", by="n")
    ax.figure.canvas.draw()
    paths = [c.lines[0].get_transform().transform(c.lines[0].get_xydata()) for c in ax.containers]
    apart = (paths[1] - paths[0])[:, 0] / ax.figure.dpi * 72
    np.testing.assert_allclose(apart, 2.5)
    low, high = ax.get_ylim()
    assert low < -2 and high > 4
    box = ax.get_window_extent()
    assert all(box.x0 < p[:, 0].min() and p[:, 0].max() < box.x1 for p in paths)


def test_a_name_has_one_style_whatever_else_a_panel_shows():
    names = {"a": "first", "b": "second"}
    _, (both, alone) = chart_panels(2, height=2.0)
    plot_lines(both, curves(), x="x", by="n", names=names, muted=["a"])
    plot_lines(alone, curves().query("n == 'b'"), x="x", by="n", names=names)
    left, right = both.containers[1].lines[0], alone.containers[0].lines[0]
    assert left.get_color() == right.get_color() == COLOURS[1]
    assert left.get_marker() == right.get_marker()
    muted = both.containers[0].lines[0]
    assert muted.get_color() == GREY and muted.get_linestyle() == "--"
    assert alone.get_legend_handles_labels()[1] == ["second"]
