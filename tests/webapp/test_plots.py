"""Plots: ticks and positions by hand, text escaped, nothing inline, numbers in the table."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    format_number,
    format_percent,
    nice_ticks,
)
from webapp.plots import (
    Bar,
    BarSeries,
    Histogram,
    Plot,
    Series,
    bar_chart,
    histogram_plot,
    line_plot,
)


def drawing_of(plot: Plot) -> ET.Element:
    return ET.fromstring(plot.svg)  # noqa: S314 - we have just drawn it


def points_of(plot: Plot) -> list[list[tuple[float, float]]]:
    """Return the corners of every line and area."""
    root = drawing_of(plot)
    return [
        [
            (float(x), float(y))
            for x, y in (pair.split(",") for pair in node.attrib["points"].split())
        ]
        for node in root
        if "points" in node.attrib
    ]


def one_line(*points: tuple[float, float]) -> Plot:
    return line_plot(
        plot_id="p", title="Loss", x_label="step", series=[Series("loss", list(points))]
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 4, [-4, -2, 0, 2, 4]),
        (0, 120, [0, 50, 100, 150]),
        (5, 5, [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
        (0, 0, [-1, -0.5, 0, 0.5, 1]),
        (1e-6, 3e-6, [1e-6, 1.5e-6, 2e-6, 2.5e-6, 3e-6]),
    ],
)
def test_ticks_are_round_and_enclose_the_data(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_ticks_rise_evenly_and_enclose_any_data(low: float, width: float) -> None:
    ticks = nice_ticks(low, low + width)
    steps = [b - a for a, b in pairwise(ticks)]
    slack = 1e-6 * max(abs(low), width)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + width - slack
    assert all(step > 0 for step in steps)
    assert 2 <= len(ticks) <= 13


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.5"),
        (-0.12345678, "-0.1235"),
        (12.0, "12"),
        (1234.5, "1,234"),
        (99999, "99,999"),
        (1_500_000, "1.5e6"),
        (0.00001, "1e-5"),
        (-2.5e-7, "-2.5e-7"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "50%"), (0.684, "68.4%"), (1, "100%")])
def test_shares_are_percentages(value: float, text: str) -> None:
    assert format_percent(value) == text


def test_a_scale_maps_the_ends_and_the_middle() -> None:
    scale = Scale(10, 20, 0, 100)
    assert [scale(10), scale(15), scale(20)] == [0, 50, 100]


def test_a_line_runs_from_corner_to_corner_of_the_plotted_area() -> None:
    # x from 0 to 4 over the width, y from 0 to 10 (ticks 0..10) over the height
    ((first, middle, last),) = points_of(one_line((0, 0), (2, 5), (4, 10)))
    left, right, top, foot = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    assert first == (left, foot)
    assert last == (right, top)
    assert middle == ((left + right) / 2, (top + foot) / 2)


def test_values_that_are_not_finite_leave_no_trace() -> None:
    plot = one_line((0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0))
    assert len(points_of(plot)[0]) == 2
    assert [row[0] for row in plot.rows] == ["0", "3"]
    assert "nan" not in plot.svg.lower()


def test_without_values_there_is_no_drawing_and_no_row() -> None:
    plots = [
        one_line(),
        one_line((0, math.nan)),
        bar_chart(plot_id="b", title="B", series=[], value_label="share"),
        histogram_plot(plot_id="h", title="H", x_label="score", histograms=[]),
        histogram_plot(
            plot_id="h", title="H", x_label="s", histograms=[Histogram("a", [0, 1], [0])]
        ),
    ]
    assert [(plot.svg, plot.rows) for plot in plots] == [("", ())] * 5


@pytest.mark.parametrize("points", [[(3, 7.0)], [(3, 0.0)], [(0, 1.0), (1, 1.0)]])
def test_one_point_and_a_flat_line_can_be_drawn(points: list[tuple[float, float]]) -> None:
    (corners,) = points_of(one_line(*points))
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y in corners)


def test_a_long_line_is_thinned_and_keeps_its_spike() -> None:
    values = [(step, 100.0 if step == 4321 else step % 7) for step in range(10_000)]
    plot = one_line(*values)
    spiky, smooth = points_of(plot)
    assert max(len(spiky), len(smooth)) <= 260
    assert min(y for _, y in spiky) == TOP
    assert len(plot.rows) <= 41
    assert plot.rows[-1][0] == "9,999"


def test_the_table_joins_series_of_different_steps() -> None:
    plot = line_plot(
        plot_id="p",
        title="Reward",
        x_label="step",
        series=[Series("reward", [(1, 0.1), (2, 0.2)]), Series("held out", [(2, 0.15)])],
    )
    assert plot.headers == ("step", "reward", "held out")
    assert plot.rows == (("1", "0.1", ""), ("2", "0.2", "0.15"))
    assert plot.legend == ("reward", "held out")


def test_a_bar_is_as_high_as_its_value_and_its_whisker_spans_the_interval() -> None:
    plot = bar_chart(
        plot_id="b",
        title="Win rate",
        series=[BarSeries("win rate", [Bar("V1", 0.5, 0.25, 0.75, "200")])],
        value_label="win rate",
        y_range=(0, 1),
        write=format_percent,
    )
    root = drawing_of(plot)
    height = HEIGHT - BOTTOM - TOP
    (bar,) = (node for node in root.iter() if node.get("class") == "plot-bar")
    assert float(bar.attrib["height"]) == pytest.approx(height * 0.5, abs=0.2)
    whisker = next(node for node in root.iter() if node.get("class") == "plot-whisker")
    low, high = float(whisker.attrib["y1"]), float(whisker.attrib["y2"])
    assert low - high == pytest.approx(height * 0.5, abs=0.2)
    assert plot.rows == (("V1", "50%", "25% to 75%", "200"),)


def test_a_label_wider_than_its_bars_place_is_cut_in_the_middle_and_told_in_full() -> None:
    names = ["hh-rlhf/helpful-online", "hh-rlhf/helpful-rejection-sampled", "round 1"]
    plot = bar_chart(
        plot_id="b",
        title="Accuracy",
        series=[BarSeries("accuracy", [Bar(name, 0.5) for name in names])],
        value_label="accuracy",
    )
    ticks = [n for n in drawing_of(plot).iter() if n.get("class") == "plot-tick plot-tick-x"]
    # a third of 496 is 165 wide: room for 24 letters of 6.5 beside 8 between two labels
    assert [tick.text for tick in ticks] == [names[0], "hh-rlhf/hel…tion-sampled", names[2]]
    assert [next((c.text for c in tick), None) for tick in ticks] == [None, names[1], None]
    assert [row[0] for row in plot.rows] == names


def test_a_negative_bar_hangs_from_the_zero_line() -> None:
    plot = bar_chart(
        plot_id="b",
        title="Gain",
        series=[BarSeries("gain", [Bar("up", 2.0), Bar("down", -2.0)])],
        value_label="gain",
    )
    root = drawing_of(plot)
    up, down = (node for node in root.iter() if node.get("class") == "plot-bar")
    zero = float(up.attrib["y"]) + float(up.attrib["height"])
    assert float(down.attrib["y"]) == pytest.approx(zero, abs=0.2)


def test_bars_of_one_label_stand_side_by_side() -> None:
    plot = bar_chart(
        plot_id="b",
        title="Accuracy",
        series=[
            BarSeries("this", [Bar("overall", 0.8), Bar("better", 0.7)]),
            BarSeries("predecessor", [Bar("better", 0.6)]),
        ],
        value_label="accuracy",
    )
    root = drawing_of(plot)
    lefts = [float(n.attrib["x"]) for n in root.iter() if n.get("class") == "plot-bar"]
    overall, better, previous = lefts
    assert overall < better < previous
    assert previous - better < better - overall
    assert plot.rows[-1] == ("better", "0.6", "", "", "predecessor")


def test_histograms_are_shares_so_that_unequal_counts_compare() -> None:
    plot = histogram_plot(
        plot_id="h",
        title="Scores",
        x_label="score",
        histograms=[
            Histogram("few", [0, 0.5, 1], [1, 1]),
            Histogram("many", [0, 0.5, 1], [10, 10]),
        ],
    )
    first, second = points_of(plot)
    assert first == second
    assert plot.description == "few: mean 0.5 of 2; many: mean 0.5 of 20"


def test_a_histogram_with_the_wrong_number_of_edges_is_an_error_that_counts_them() -> None:
    with pytest.raises(ValueError, match="2 edges and 2 counts: one edge more is needed"):
        histogram_plot(
            plot_id="h", title="H", x_label="s", histograms=[Histogram("a", [0, 1], [1, 1])]
        )


def test_text_in_a_plot_is_escaped_and_nothing_is_inline() -> None:
    attack = '"><script>alert(1)</script>'
    plot = line_plot(
        plot_id="p", title=attack, x_label=attack, series=[Series(attack, [(0, 1), (1, 2)])]
    )
    assert "<script" not in plot.svg
    assert not re.search(r'\s(style|on\w+|href)="', plot.svg)


def test_a_drawing_says_what_it_shows() -> None:
    root = drawing_of(one_line((0, 1.0), (10, 3.0)))
    texts = {node.tag: node.text for node in root if node.tag in {"title", "desc"}}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "p-title p-description"
    assert texts == {"title": "Loss", "desc": "loss: 3 at step 10, between 1 and 3"}


def lines_by_class(plot: Plot) -> dict[str, list[float]]:
    """Return the heights of the drawn lines by the last word of their class."""
    corners = [node for node in drawing_of(plot) if node.tag.endswith("polyline")]
    return {
        node.attrib["class"].split()[-1]: [
            float(pair.split(",")[1]) for pair in node.attrib["points"].split()
        ]
        for node in corners
    }


def test_a_long_noisy_line_is_a_moving_mean_before_its_faint_points() -> None:
    plot = one_line(*((step, float(step % 2)) for step in range(80)))
    lines = lines_by_class(plot)
    assert set(lines) == {"plot-raw", "plot-line"}
    top, bottom = min(lines["plot-raw"]), max(lines["plot-raw"])
    middle = (top + bottom) / 2
    # Means over 3 and, away from the ends, 7 points that alternate between 0 and 1.
    assert all(abs(y - middle) <= (bottom - top) / 14 + 0.11 for y in lines["plot-line"][3:-3])
    assert plot.rows[-1] == ("79", "1")


@pytest.mark.parametrize(("num_points", "is_noisy"), [(39, True), (80, False)])
def test_a_short_or_exact_line_is_drawn_as_it_is(num_points: int, is_noisy: bool) -> None:
    points = [(step, float(step % 2)) for step in range(num_points)]
    plot = line_plot(
        plot_id="p", title="x", x_label="x", series=[Series("s", points)], is_noisy=is_noisy
    )
    lines = lines_by_class(plot)
    assert set(lines) == {"plot-line"}
    assert len(set(lines["plot-line"])) == 2


def test_a_straight_line_stays_straight_when_it_is_smoothed() -> None:
    lines = lines_by_class(one_line(*((step, 2.0 * step) for step in range(100))))
    inner = slice(3, -3)  # at its ends there are fewer points on one side
    assert lines["plot-line"][inner] == pytest.approx(lines["plot-raw"][inner], abs=0.11)


def test_among_others_a_long_line_is_its_mean_alone() -> None:
    points = [(step, float(step % 2)) for step in range(80)]
    series = [Series(name, points) for name in ("a", "b")]
    plot = line_plot(plot_id="p", title="x", x_label="x", series=series)
    assert len(points_of(plot)) == 2
    assert "plot-raw" not in str(plot.svg)
