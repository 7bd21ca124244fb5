"""Plots of what Ghost Attention's measure and context distillation report."""

from collections.abc import Mapping
from typing import Any

from webapp.drawing import format_percent
from webapp.plots import Bar, BarSeries, Plot, bar_chart
from webapp.wording import capitalised, spoken

_NUM_BARS = 10
"""Turns drawn; of more, as many are taken evenly, the first and the last among them."""
_SHOWN_NAMES = {"policy": "this version", "baseline": "compared with"}


def plots_of_obedience(summary: Mapping[str, Any]) -> list[Plot]:
    """Return obedience by turn and by category, with their intervals."""
    turns = _some([row for row in summary.get("obedience", []) if row])
    if not turns:
        return []
    names = [name for name in _SHOWN_NAMES if name in turns[0]]
    plots = [
        _shares(
            "plot-obedience",
            "Turns that keep to the first turn's instruction",
            {_SHOWN_NAMES[name]: {str(row["turn"]): row[name] for row in turns} for name in names},
        )
    ]
    categories = summary.get("obedience_by_category", {})
    if len(categories) > 1:
        series = {
            _SHOWN_NAMES[name]: {spoken(key): value[name] for key, value in categories.items()}
            for name in names
        }
        title = "From the second turn, by category"
        plots.append(_shares("plot-obedience-category", title, series))
    return plots


def plots_of_distillation(summary: Mapping[str, Any]) -> list[Plot]:
    """Return how many answers were kept by category, and how far scores moved."""
    categories = summary.get("categories", {})
    if not categories:
        return []
    kept = {_short(name): figures["kept"] for name, figures in categories.items()}
    plots = [_shares("plot-kept", "Answers kept", {"kept": kept})]
    for axis in ("safety", "helpfulness"):
        moved = {name: figures[axis]["all"] for name, figures in categories.items()}
        if all(values is not None for values in moved.values()):
            plots.append(_scores(axis, moved))
    return plots


def _shares(
    plot_id: str, title: str, series: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> Plot:
    return bar_chart(
        plot_id=plot_id,
        title=title,
        series=[
            BarSeries(
                name,
                [
                    Bar(label, p["value"], p["low"], p["high"], f"{p['n']:,}")
                    for label, p in shares.items()
                    if p["value"] is not None
                ],
            )
            for name, shares in series.items()
        ],
        value_label="share",
        y_range=(0.0, 1.0),
        write=format_percent,
    )


def _scores(axis: str, moved: Mapping[str, Mapping[str, float]]) -> Plot:
    return bar_chart(
        plot_id=f"plot-{axis}-moved",
        title=f"Median {axis} score",
        series=[
            BarSeries(
                f"{word} preprompt",
                [Bar(_short(name), values[f"median_{side}"]) for name, values in moved.items()],
            )
            for word, side in (("without", "before"), ("with", "after"))
        ],
        value_label=capitalised(axis),
        y_range=(0.0, 1.0),
    )


def _short(category: str) -> str:
    """Return a risk category's first word, which tells it from the others and fits below a bar."""
    return category.partition("_")[0]


def _some(rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return up to `_NUM_BARS` rows, spread evenly from the first to the last."""
    if len(rows) <= _NUM_BARS:
        return rows
    last = len(rows) - 1
    return [rows[round(i * last / (_NUM_BARS - 1))] for i in range(_NUM_BARS)]
