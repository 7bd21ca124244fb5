"""Which plots a run's page shows: chosen by the names of the metrics it has written."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from records.preferences import Rating
from webapp.drawing import format_percent
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
from webapp.wording import capitalised, spoken

_UNPLOTTED = re.compile(
    r"^(step|total_steps|seconds.*|.*_per_second|pairs|rows|.*tokens_seen|alarm_\w+|sweep_\w+)$"
)
"""What no plot over steps shows; `webapp.sampling_plots` draws a sweep over temperatures."""


class _Group(NamedTuple):
    """Metrics that are read together, in one plot."""

    title: str
    pattern: re.Pattern[str]
    y_range: tuple[float, float] | None = None
    is_noisy: bool = True
    """Whether its lines are smoothed."""


def _group(
    title: str,
    pattern: str,
    y_range: tuple[float, float] | None = None,
    *,
    is_noisy: bool = True,
) -> _Group:
    return _Group(title, re.compile(pattern), y_range, is_noisy)


_GROUPS = (
    _group("Loss", r"^(\w+_)?loss$"),
    _group("Reward and score", r"^(heldout_|eval_|mean_|best_)?(reward|score|general)(_\w+)?$"),
    _group("Scores by axis", r"^(\w+_)?(helpfulness|safety)(_\w+)?$"),
    _group("KL to the reference", r"^(\w+_)?kl(_\w+)?$"),
    _group("Surprise to the reference, nats a token", r"^heldout_surprise$", is_noisy=False),
    _group("Accuracy", r"^accuracy$", (0.0, 1.0)),
    _group("Accuracy by rating", r"^accuracy_\w+$", (0.0, 1.0)),
    _group("Entropy", r"^(\w+_)?entropy$"),
    _group("Learning rate", r"^(\w+_)?learning_rate$", is_noisy=False),
    _group("Gradient norm", r"^(\w+_)?grad_norm$"),
    _group("Clipped share and ratio", r"^(\w*clip\w*|\w*ratio\w*)$"),
    _group("Share of the machine's floor by phase", r"^floor_share_\w+$"),
    _group("Response length in tokens", r"^(mean_|response_)?(num_)?(tokens|length)(_mean)?$"),
)
_MAIN_GROUPS = 7
"""The groups at the head of `_GROUPS` that a page shows before the rest."""

_RATING_LABELS = {
    "overall": "overall",
    Rating.SIGNIFICANTLY_BETTER: "significantly",
    Rating.BETTER: "better",
    Rating.SLIGHTLY_BETTER: "slightly",
    Rating.NEGLIGIBLY_BETTER: "negligibly",
}


class RunPlots(NamedTuple):
    """The plots of a run: those to look at first, and the others."""

    main: list[Plot]
    others: list[Plot]


def plots_of_metrics(rows: Sequence[Mapping[str, Any]]) -> RunPlots:
    """Return one plot per group of metrics, and one for each number that fits no group."""
    names = _numeric_names(rows)
    main: list[Plot] = []
    others: list[Plot] = []
    for index, group in enumerate(_GROUPS):
        members = sorted((n for n in names if group.pattern.match(n)), key=_reading_order)
        names = [name for name in names if name not in members]
        for number, chunk in enumerate(_chunks(members, 5)):
            plot = _metric_plot(rows, chunk, group, f"plot-{index}-{number}")
            (main if index < _MAIN_GROUPS else others).append(plot)
    others += [
        _metric_plot(rows, [n], _group(capitalised(spoken(n)), ""), f"plot-{n}") for n in names
    ]
    return RunPlots(main, others)


def plots_of_result(summary: Mapping[str, Any] | None) -> list[Plot]:
    """Return what a finished run reports: accuracy by rating, histograms of scores."""
    if not summary:
        return []
    plots = []
    accuracy = accuracy_plot("plot-accuracy", "Accuracy by rating, held-out pairs", summary)
    if accuracy.rows:
        plots.append(accuracy)
    histogram = summary.get("score_histogram")
    if isinstance(histogram, Mapping) and histogram.get("edges"):
        plots.append(score_histogram_plot(histogram))
    return plots


def accuracy_plot(plot_id: str, title: str, summary: Mapping[str, Any]) -> Plot:
    """Return accuracies by rating beside predecessor and length baseline, with chance as a line."""
    series = [
        BarSeries(name, accuracy_bars(summary.get(key)))
        for key, name in (
            ("accuracy", "this version"),
            ("previous_accuracy", "predecessor"),
            ("length_baseline", "longer response"),
        )
    ]
    return bar_chart(
        plot_id=plot_id,
        title=title,
        series=series,
        value_label="accuracy",
        y_range=(0.0, 1.0),
        reference=0.5,
        write=format_percent,
    )


def accuracy_bars(accuracy: object) -> list[Bar]:
    """Return one bar per rating of an accuracy report; groups without pairs are left out."""
    if not isinstance(accuracy, Mapping):
        return []
    known = [name for name in _RATING_LABELS if name in accuracy]
    extra = [name for name in accuracy if name not in _RATING_LABELS]
    return [
        Bar(_RATING_LABELS.get(name, spoken(name)), *_interval(accuracy[name]))
        for name in (*known, *extra)
        if isinstance(accuracy[name], Mapping) and accuracy[name].get("value") is not None
    ]


def _interval(item: Mapping[str, Any]) -> tuple[float, float | None, float | None, str]:
    count = item.get("n")
    note = "" if count is None else f"{count:,}"
    return float(item["value"]), item.get("low"), item.get("high"), note


def score_histogram_plot(
    histogram: Mapping[str, Any], plot_id: str = "plot-histogram", title: str = "Scores"
) -> Plot:
    """Return the histograms of a report, each under its name."""
    edges = histogram["edges"]
    return histogram_plot(
        plot_id=plot_id,
        title=title,
        x_label="score",
        histograms=[
            Histogram(spoken(name), edges, counts)
            for name, counts in histogram.items()
            if name != "edges" and isinstance(counts, list) and len(counts) == len(edges) - 1
        ],
    )


def _numeric_names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of plottable metrics in the order in which they first appear."""
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            if _is_number(value) and not _UNPLOTTED.match(name):
                names.setdefault(name)
    return list(names)


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type] # checked just before


def _metric_plot(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], group: _Group, plot_id: str
) -> Plot:
    series = [
        Series(
            _series_name(name, names),
            [(row["step"], row[name]) for row in rows if _is_number(row.get(name))],
        )
        for name in names
    ]
    return line_plot(
        plot_id=plot_id,
        title=group.title,
        x_label="step",
        series=series,
        y_range=group.y_range,
        is_noisy=group.is_noisy,
    )


def _chunks(names: Sequence[str], size: int) -> list[Sequence[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _reading_order(name: str) -> tuple[int, str]:
    """Return a key that puts ratings in their own order, and everything else by name."""
    order = list(_RATING_LABELS)
    rating = name.removeprefix("accuracy_")
    return (order.index(rating) if rating in order else len(order), name)


def _series_name(name: str, names: Sequence[str]) -> str:
    """Return the words that tell a line from the others of its plot."""
    for prefix in ("accuracy_", "floor_share_"):
        if len(names) > 1 and all(other.startswith(prefix) for other in names):
            name = name.removeprefix(prefix)
    return spoken(name)
