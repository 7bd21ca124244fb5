"""Plots as SVG drawn on the server: colours come from the style sheet, the numbers from a table.

A plot needs no script and no inline style. Its title and description are read by screen readers,
and the same numbers stand in a table below it.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from django.utils.safestring import SafeString

from webapp.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Writer,
    add,
    canvas,
    draw_label,
    draw_x_axis,
    draw_x_mark,
    draw_y_axis,
    finish,
    fitted,
    format_number,
    format_percent,
    nice_ticks,
)
from webapp.series import Points, smoothed, thinned

_MAX_TABLE_ROWS = 40


class Series(NamedTuple):
    """One line."""

    name: str
    points: Points


class Bar(NamedTuple):
    """One bar: its label, its value, and the interval around it where there is one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


class BarSeries(NamedTuple):
    """Bars of one colour, found by their labels."""

    name: str
    bars: Sequence[Bar]


class Histogram(NamedTuple):
    """Counts between consecutive edges: one edge more than counts."""

    name: str
    edges: Sequence[float]
    counts: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What `webapp/_plot.html` shows: a drawing, its legend, and its numbers as a table."""

    plot_id: str
    title: str
    description: str
    svg: SafeString
    legend: tuple[str, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    has_bars: bool = False
    """Whether the legend shows patches instead of lines."""
    empty_text: str = "No values yet"
    """What stands there where there are no rows."""


def line_plot(
    *,
    plot_id: str,
    title: str,
    x_label: str,
    series: Iterable[Series],
    y_range: tuple[float, float] | None = None,
    description: str = "",
    is_noisy: bool = True,
    x_mark: tuple[float, str] | None = None,
) -> Plot:
    """Return lines over a common x axis; points that are not finite are left out.

    `x_mark` is an x within the points that is pointed out, and in which words.

    Of long and noisy series the line is a moving mean and, where it is alone, its points are faint
    behind it, thinned to the extremes of equal stretches, so that a spike stays visible.
    """
    drawn = [Series(s.name, _finite(s.points)) for s in series]
    drawn = [s for s in drawn if s.points]
    everything = [point for s in drawn for point in s.points]
    if not everything:
        return _empty_plot(plot_id, title, x_label)
    x_ticks = nice_ticks(min(x for x, _ in everything), max(x for x, _ in everything), 6)
    x_low, x_high = min(x for x, _ in everything), max(x for x, _ in everything)
    x_ticks = [tick for tick in x_ticks if x_low <= tick <= x_high] or [x_low]
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    y_low, y_high = y_range or (min(y for _, y in everything), max(y for _, y in everything))
    y_ticks = nice_ticks(y_low, y_high)
    x_scale = Scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_scale = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    description = description or _describe_lines(drawn, x_label)
    svg = canvas(plot_id, title, description)
    draw_y_axis(svg, y_scale, y_ticks)
    draw_x_axis(svg, x_scale, x_ticks, x_label)
    if x_mark is not None:
        draw_x_mark(svg, x_scale, *x_mark)
    for number, line in enumerate(drawn, start=1):
        mean = smoothed(line.points) if is_noisy else line.points
        if len(drawn) == 1 and mean is not line.points:
            raw = _path(thinned(line.points), x_scale, y_scale)
            add(svg, "polyline", f"series series-{_style(number)} plot-raw", points=raw)
        _draw_line(svg, line, mean, x_scale, y_scale, number, x_label)
    headers, rows = _line_table(drawn, x_label)
    return Plot(
        plot_id=plot_id,
        title=title,
        description=description,
        svg=finish(svg),
        legend=tuple(s.name for s in drawn) if len(drawn) > 1 else (),
        headers=headers,
        rows=rows,
    )


def bar_chart(
    *,
    plot_id: str,
    title: str,
    series: Iterable[BarSeries],
    value_label: str,
    y_range: tuple[float, float] | None = None,
    reference: float | None = None,
    write: Writer = format_number,
) -> Plot:
    """Return vertical bars, side by side by label, with whiskers for their intervals.

    Labels come in the order in which they first appear. `reference` draws a line, such as chance.
    """
    drawn = [BarSeries(s.name, [b for b in s.bars if math.isfinite(b.value)]) for s in series]
    drawn = [s for s in drawn if s.bars]
    bars = [bar for s in drawn for bar in s.bars]
    if not bars:
        return _empty_plot(plot_id, title, value_label)
    labels = list(dict.fromkeys(bar.label for bar in bars))
    highs = [bar.high if bar.high is not None else bar.value for bar in bars]
    y_low, y_high = y_range or (min(0.0, *(bar.value for bar in bars), 0.0), max(0.0, *highs))
    y_ticks = nice_ticks(y_low, y_high)
    y_scale = Scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    description = "; ".join(
        f"{s.name}: " + ", ".join(f"{bar.label} {write(bar.value)}" for bar in s.bars)
        for s in drawn
    )
    svg = canvas(plot_id, title, description)
    draw_y_axis(svg, y_scale, y_ticks, write)
    if reference is not None:
        y = y_scale(reference)
        add(svg, "line", "plot-reference", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
    slot = (WIDTH - RIGHT - LEFT) / len(labels)
    width = min(slot * 0.72 / len(drawn), 64)
    for index, label in enumerate(labels):
        middle = LEFT + slot * (index + 0.5)
        foot = HEIGHT - BOTTOM + 16
        tick = add(
            svg, "text", "plot-tick plot-tick-x", fitted(label, slot), x=round(middle, 1), y=foot
        )
        if tick.text != label:
            ET.SubElement(tick, "title").text = label
    for number, item in enumerate(drawn):
        offset = (number - (len(drawn) - 1) / 2) * width
        for bar in item.bars:
            center = LEFT + slot * (labels.index(bar.label) + 0.5) + offset
            group = _draw_bar(svg, bar, y_scale, center, width - 2, write, item.name)
            group.set("class", f"plot-bar-group series-{_style(number + 1)}")
            if len(drawn) == 1 or (number == 0 and len(labels) <= 6):
                _draw_value(group, bar, y_scale, center, write)
    draw_label(svg, value_label)
    rows = tuple(
        (bar.label, write(bar.value), _interval_text(bar, write), bar.note, s.name)
        for s in drawn
        for bar in s.bars
    )
    has_legend = len(drawn) > 1
    return Plot(
        plot_id=plot_id,
        title=title,
        description=description,
        svg=finish(svg),
        legend=tuple(s.name for s in drawn) if has_legend else (),
        headers=("", value_label, "95% interval", "number", *(["series"] if has_legend else [])),
        rows=rows if has_legend else tuple(row[:-1] for row in rows),
        has_bars=True,
    )


def histogram_plot(
    *, plot_id: str, title: str, x_label: str, histograms: Iterable[Histogram]
) -> Plot:
    """Return histograms over one another, each as its share of all its counts."""
    shown = [h for h in histograms if h.counts and sum(h.counts) > 0]
    if not shown:
        return _empty_plot(plot_id, title, x_label)
    for item in shown:
        if len(item.edges) != len(item.counts) + 1:
            lengths = f"{len(item.edges)} edges and {len(item.counts)} counts"
            raise ValueError(f"histogram {item.name!r} has {lengths}: one edge more is needed")
    low, high = min(h.edges[0] for h in shown), max(h.edges[-1] for h in shown)
    shares = [[count / sum(h.counts) for count in h.counts] for h in shown]
    y_ticks = nice_ticks(0.0, max(max(row) for row in shares), 4)
    x_scale = Scale(low, high if high > low else low + 1, LEFT, WIDTH - RIGHT)
    y_scale = Scale(0.0, y_ticks[-1], HEIGHT - BOTTOM, TOP)
    description = "; ".join(
        f"{h.name}: mean {format_number(_histogram_mean(h))} of {sum(h.counts):,.0f}" for h in shown
    )
    svg = canvas(plot_id, title, description)
    draw_y_axis(svg, y_scale, y_ticks, format_percent)
    x_ticks = [tick for tick in nice_ticks(low, high, 8) if low <= tick <= high]
    draw_x_axis(svg, x_scale, x_ticks, x_label)
    for number, (item, share) in enumerate(zip(shown, shares, strict=True), start=1):
        _draw_steps(svg, item, share, x_scale, y_scale, number)
    rows = tuple(
        (f"{format_number(start)} to {format_number(end)}", f"{count:,.0f}", h.name)
        for h in shown
        for (start, end), count in zip(pairwise(h.edges), h.counts, strict=True)
    )
    return Plot(
        plot_id=plot_id,
        title=title,
        description=description,
        svg=finish(svg),
        legend=tuple(h.name for h in shown) if len(shown) > 1 else (),
        has_bars=True,
        headers=(x_label, "count", "series"),
        rows=rows,
    )


def _finite(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _path(points: Points, x_scale: Scale, y_scale: Scale) -> str:
    return " ".join(f"{x_scale(x)},{y_scale(y)}" for x, y in points)


def _draw_line(
    svg: ET.Element,
    line: Series,
    mean: Points,
    x_scale: Scale,
    y_scale: Scale,
    number: int,
    x_label: str,
) -> None:
    points = thinned(line.points)
    css = f"series series-{_style(number)}"
    add(svg, "polyline", f"{css} plot-line", points=_path(thinned(mean), x_scale, y_scale))
    x, y = mean[-1]
    add(svg, "circle", f"{css} plot-last", cx=x_scale(x), cy=y_scale(y), r=3)
    for x, y in points:
        dot = add(svg, "circle", f"{css} plot-dot", cx=x_scale(x), cy=y_scale(y), r=5)
        text = f"{line.name}: {format_number(y)} ({x_label} {format_number(x)})"
        ET.SubElement(dot, "title").text = text


def _draw_bar(
    svg: ET.Element,
    bar: Bar,
    scale: Scale,
    center: float,
    width: float,
    write: Writer,
    series_name: str,
) -> ET.Element:
    base = scale(max(scale.low, min(0.0, scale.high)))
    top = scale(max(scale.low, min(bar.value, scale.high)))
    group = add(svg, "g", "plot-bar-group")
    title = f"{bar.label}, {series_name}: {write(bar.value)}"
    interval = _interval_text(bar, write)
    ET.SubElement(group, "title").text = f"{title}, {interval}" if interval else title
    upper, height = min(top, base), round(max(abs(top - base), 1), 1)
    left = round(center - width / 2, 1)
    add(group, "rect", "plot-bar", x=left, y=upper, width=round(width, 1), height=height, rx=3)
    if bar.low is not None and bar.high is not None:
        low, high = scale(max(bar.low, scale.low)), scale(min(bar.high, scale.high))
        x, cap = round(center, 1), min(5.0, width / 3)
        add(group, "line", "plot-whisker", x1=x, x2=x, y1=low, y2=high)
        for y in (low, high):
            x1, x2 = round(center - cap, 1), round(center + cap, 1)
            add(group, "line", "plot-whisker", x1=x1, x2=x2, y1=y, y2=y)
    return group


def _draw_value(group: ET.Element, bar: Bar, scale: Scale, center: float, write: Writer) -> None:
    """Write the value above the bar and its whisker."""
    highest = max(bar.value, bar.high if bar.high is not None else bar.value, 0.0)
    y = max(scale(min(highest, scale.high)) - 6, 12)
    add(group, "text", "plot-value", write(bar.value), x=round(center, 1), y=round(y, 1))


def _draw_steps(
    svg: ET.Element,
    item: Histogram,
    shares: Sequence[float],
    x_scale: Scale,
    y_scale: Scale,
    number: int,
) -> None:
    foot = y_scale(0.0)
    corners = [f"{x_scale(item.edges[0])},{foot}"]
    for (start, end), share in zip(pairwise(item.edges), shares, strict=True):
        corners += [f"{x_scale(start)},{y_scale(share)}", f"{x_scale(end)},{y_scale(share)}"]
    corners.append(f"{x_scale(item.edges[-1])},{foot}")
    add(svg, "polygon", f"series series-{_style(number)} plot-area", points=" ".join(corners))


def _style(number: int) -> int:
    """Return which of the five series styles the `number`-th series wears."""
    return (number - 1) % 5 + 1


def _empty_plot(plot_id: str, title: str, x_label: str) -> Plot:
    return Plot(
        plot_id=plot_id,
        title=title,
        description="No values yet",
        svg=SafeString(""),
        legend=(),
        headers=(x_label,),
        rows=(),
    )


def _describe_lines(lines: Sequence[Series], x_label: str) -> str:
    parts = []
    for line in lines:
        (x, y), ys = line.points[-1], [value for _, value in line.points]
        low, high = format_number(min(ys)), format_number(max(ys))
        last = f"{format_number(y)} at {x_label} {format_number(x)}"
        parts.append(f"{line.name}: {last}, between {low} and {high}")
    return "; ".join(parts)


def _line_table(
    lines: Sequence[Series], x_label: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return header and at most `_MAX_TABLE_ROWS` evenly chosen rows, the last one among them."""
    columns = [dict(line.points) for line in lines]
    xs = sorted({x for column in columns for x in column})
    every = math.ceil(len(xs) / _MAX_TABLE_ROWS)
    chosen = xs[::-1][::every][::-1]
    rows = tuple(
        (format_number(x), *(format_number(c[x]) if x in c else "" for c in columns))
        for x in chosen
    )
    return (x_label, *(line.name for line in lines)), rows


def _interval_text(bar: Bar, write: Writer) -> str:
    if bar.low is None or bar.high is None:
        return ""
    return f"{write(bar.low)} to {write(bar.high)}"


def _histogram_mean(item: Histogram) -> float:
    middles = [(start + end) / 2 for start, end in pairwise(item.edges)]
    total = sum(m * c for m, c in zip(middles, item.counts, strict=True))
    return total / sum(item.counts)
