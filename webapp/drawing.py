"""Drawing plots as SVG: scales, ticks, axes, and numbers as text."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import NamedTuple

from django.utils.safestring import SafeString, mark_safe

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 20, 42
"""Margins around the plotted area."""
CHARACTER = 6.5
"""About as wide is a letter of the drawing's text."""

Writer = Callable[[float], str]
"""Turns a number into the text beside it."""


class Scale(NamedTuple):
    """Maps [low, high] of the data to [start, end] of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the position of `value`, rounded to a tenth of a pixel."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers, the first at or below `low`, the last at or above `high`.

    Steps are 1, 2 or 5 times a power of ten.
    """
    if not high > low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def format_number(value: float) -> str:
    """Return `value` with four significant digits, large and tiny ones with an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    text = f"{value:.4g}"
    return f"{value:,.0f}" if "e" in text or abs(value) >= 1000 else text


def format_percent(value: float) -> str:
    """Return a share as a percentage with at most one decimal."""
    text = f"{value * 100:.1f}"
    return f"{text.removesuffix('.0')}%"


def canvas(plot_id: str, title: str, description: str) -> ET.Element:
    """Return an empty drawing that says to screen readers what it shows."""
    svg = ET.Element(
        "svg",
        {
            "class": "plot-svg",
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "role": "img",
            "aria-labelledby": f"{plot_id}-title {plot_id}-description",
        },
    )
    ET.SubElement(svg, "title", {"id": f"{plot_id}-title"}).text = title
    ET.SubElement(svg, "desc", {"id": f"{plot_id}-description"}).text = description
    return svg


def add(
    parent: ET.Element, tag: str, css_class: str, text: str = "", **attributes: object
) -> ET.Element:
    """Append an element with a class and attributes; `text_anchor` becomes `text-anchor`."""
    names = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
    element = ET.SubElement(parent, tag, {"class": css_class, **names})
    element.text = text or None
    return element


def fitted(label: str, width: float) -> str:
    """Return `label`, or its beginning and end where it is wider than `width`."""
    room = max(3, int((width - 8) / CHARACTER))
    if len(label) <= room:
        return label
    end = room // 2
    return f"{label[: room - end - 1].rstrip()}…{label[len(label) - end :].lstrip()}"


def draw_y_axis(
    svg: ET.Element, scale: Scale, ticks: Sequence[float], write: Writer = format_number
) -> None:
    """Draw a grid line and its number at every tick."""
    for tick in ticks:
        y = scale(tick)
        add(svg, "line", "plot-grid", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y)
        add(svg, "text", "plot-tick plot-tick-y", write(tick), x=LEFT - 8, y=y + 3.5)


def draw_x_axis(svg: ET.Element, scale: Scale, ticks: Sequence[float], label: str) -> None:
    """Draw the axis at the foot, its ticks, their numbers and its label."""
    foot = HEIGHT - BOTTOM
    add(svg, "line", "plot-axis", x1=LEFT, x2=WIDTH - RIGHT, y1=foot, y2=foot)
    for tick in ticks:
        x = scale(tick)
        add(svg, "line", "plot-axis", x1=x, x2=x, y1=foot, y2=foot + 4)
        add(svg, "text", "plot-tick plot-tick-x", format_number(tick), x=x, y=foot + 17)
    draw_label(svg, label)


def draw_x_mark(svg: ET.Element, scale: Scale, value: float, words: str) -> None:
    """Draw an upright line at `value`, with what it means written above it."""
    x, foot = scale(value), HEIGHT - BOTTOM
    add(svg, "line", "plot-reference", x1=x, x2=x, y1=TOP, y2=foot)
    share = (x - LEFT) / (WIDTH - RIGHT - LEFT)
    side = "start" if share < 0.15 else "end" if share > 0.85 else "middle"
    add(svg, "text", f"plot-mark plot-mark-{side}", words, x=x, y=TOP - 7)


def draw_label(svg: ET.Element, label: str) -> None:
    """Write below the axis what it shows."""
    add(svg, "text", "plot-label", label, x=(WIDTH - RIGHT + LEFT) / 2, y=HEIGHT - 6)


def interval_mark(
    value: float, low: float, high: float, *, ends: tuple[float, float], reference: float | None
) -> SafeString:
    """Return a number and its interval on a scale, for a cell in which words say the same."""
    svg = ET.Element("svg", {"class": "mark-svg", "viewBox": "0 0 80 10", "aria-hidden": "true"})
    scale = Scale(*ends, 3, 77)

    def place(number: float) -> float:
        return scale(min(max(number, ends[0]), ends[1]))

    add(svg, "line", "mark-scale", x1=3, x2=77, y1=5, y2=5)
    if reference is not None:
        add(svg, "line", "mark-reference", x1=place(reference), x2=place(reference), y1=0, y2=10)
    add(svg, "line", "mark-interval", x1=place(low), x2=place(high), y1=5, y2=5)
    add(svg, "circle", "mark-value", cx=place(value), cy=5, r=3)
    return finish(svg)


def finish(svg: ET.Element) -> SafeString:
    """Return the drawing as markup; all text in it is escaped."""
    return mark_safe(ET.tostring(svg, encoding="unicode"))  # noqa: S308 - escaped by ElementTree
