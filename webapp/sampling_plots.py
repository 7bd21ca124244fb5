"""Plots of rejection sampling: the best temperature, and what more responses are worth."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from webapp.plots import Bar, BarSeries, Plot, Series, bar_chart, line_plot

_SIZES = (1, 4, 16, 64)
"""Numbers of responses that have a line over temperatures, besides K."""
_NUM_BARS = 10
_STANDARD_ERRORS = 1.96
"""To either side of a mean: 95% of a normal distribution."""


def plots_of_sampling(summary: Mapping[str, Any]) -> list[Plot]:
    """Return what a finished run reports of its temperatures and of its responses.

    Where none were tried, the first plot says so. Nothing of a run that has not finished.
    """
    if not summary:
        return []
    plots = [_sweep(summary), _below_chosen(summary), _max_and_median(summary)]
    return [plots[0], *(plot for plot in plots[1:] if plot.rows)]


def plots_of_sweep_so_far(rows: Sequence[Mapping[str, Any]]) -> list[Plot]:
    """Return the temperatures that a run has tried, by its metrics; nothing where it tries none.

    The best are those that ended by themselves; what cut-off responses cost is known in the end.
    """
    sums: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
    for row in rows:
        for name, words in (("sweep_best_score", "best of K"), ("sweep_score", "mean")):
            if isinstance(row.get(name), (int, float)):
                total = sums[words][row["sweep_temperature"]]
                total[0] += row[name] * row["sweep_num_responses"]
                total[1] += row["sweep_num_responses"]
    if not sums:
        return []
    plot = line_plot(
        plot_id="plot-sweep-so-far",
        title="Score by temperature so far",
        x_label="temperature",
        series=[
            Series(words, sorted((t, total / count) for t, (total, count) in totals.items()))
            for words, totals in sums.items()
        ],
        is_noisy=False,
    )
    return [plot]


def _sweep(summary: Mapping[str, Any]) -> Plot:
    """Return arXiv:2307.09288, figure 8: the expected best of N over temperatures."""
    tried = _tried(summary)
    num_responses = summary["sweep"]["num_responses"] if tried else 0
    sizes = sorted({n for n in _SIZES if n < num_responses} | {num_responses}, reverse=True)
    temperature = summary.get("temperature")
    plot = line_plot(
        plot_id="plot-sweep",
        title="Best of N by temperature",
        x_label="temperature",
        series=[
            Series(
                "single response" if n == 1 else f"best of {n}",
                [(t["temperature"], _best_of(t, n)) for t in tried],
            )
            for n in sizes
        ],
        is_noisy=False,
        x_mark=None if temperature is None else (temperature, f"chosen: {temperature:g}"),
    )
    at = "" if temperature is None else f" The responses were drawn at {temperature:g}."
    words = f"No temperatures were tried.{at} The setting “Sweep temperatures” tries several."
    return replace(plot, empty_text=words)


def _below_chosen(summary: Mapping[str, Any]) -> Plot:
    """Return how far the best of the other temperatures are below the chosen one."""
    others = [t for t in _tried(summary) if t["temperature"] != summary["temperature"]]
    nearest = sorted(others, key=lambda t: t["below_chosen"])[:_NUM_BARS]
    bars = [_difference(t) for t in sorted(nearest, key=lambda t: t["temperature"])]
    lows = [bar.low for bar in bars if bar.low is not None]
    highs = [bar.high if bar.high is not None else bar.value for bar in bars]
    num_responses = summary["sweep"]["num_responses"] if bars else ""
    return bar_chart(
        plot_id="plot-below-chosen",
        title=f"Best of {num_responses}: how far below the chosen temperature",
        series=[BarSeries("below", bars)],
        value_label="difference on the same prompts, by temperature",
        y_range=(min([0.0, *lows]), max([0.0, *highs])),
        write=lambda value: f"{value:.2f}",  # ten of them stand side by side
    )


def _difference(tried: Mapping[str, Any]) -> Bar:
    label, value = f"{tried['temperature']:g}", tried["below_chosen"]
    error = tried["below_chosen_standard_error"]
    if error is None:
        return Bar(label, value)
    reach = _STANDARD_ERRORS * error
    return Bar(label, value, value - reach, value + reach)


def _max_and_median(summary: Mapping[str, Any]) -> Plot:
    """Return arXiv:2307.09288, figure 7: what the best of N is above the middle of N."""
    curve = summary.get("curve") or []
    return line_plot(
        plot_id="plot-max-median",
        title="Best and median of N responses",
        x_label="responses per prompt, N",
        series=[
            Series("best", [(point["n"], point["max"]) for point in curve]),
            Series("median", [(point["n"], point["median"]) for point in curve]),
        ],
        is_noisy=False,
    )


def _tried(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list((summary.get("sweep") or {}).get("temperatures", []))


def _best_of(tried: Mapping[str, Any], n: int) -> float:
    return float(next(point["max"] for point in tried["curve"] if point["n"] == n))
