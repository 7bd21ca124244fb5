"""The plots of a report on a reward model: one axis of `rewardmodels evaluate`, drawn."""

from collections.abc import Iterable, Mapping
from typing import Any

from records.preferences import Rating
from webapp.drawing import format_percent
from webapp.plots import Bar, BarSeries, Plot, Series, bar_chart, line_plot
from webapp.run_plots import accuracy_bars, score_histogram_plot

_MAX_ROUNDS = 12


def plots_of_axis(axis: str, report: Mapping[str, Any]) -> list[Plot]:
    """Return the plots of one axis; those without values are left out."""
    plots = [
        _accuracy(axis, report),
        _rounds(axis, report),
        _bins(axis, report),
        _reliability(axis, report),
        _agreement(axis, report),
        _length(axis, report),
        score_histogram_plot(report["score_histogram"], f"{axis}-histogram", "Scores, held-out"),
    ]
    return [plot for plot in plots if plot.rows]


def _accuracy(axis: str, report: Mapping[str, Any]) -> Plot:
    previous = report.get("previous") or {}
    return _bars(
        f"{axis}-accuracy",
        "Accuracy by rating",
        [
            ("this version", accuracy_bars(report["accuracy"])),
            ("predecessor", accuracy_bars(previous.get("accuracy"))),
            ("longer response", accuracy_bars(report["length_baseline"]["accuracy"])),
        ],
    )


def _rounds(axis: str, report: Mapping[str, Any]) -> Plot:
    bars = accuracy_bars(report["accuracy_by_round"])[-_MAX_ROUNDS:]
    return _bars(f"{axis}-rounds", "Accuracy by held-out round", [("accuracy", bars)])


def _bins(axis: str, report: Mapping[str, Any]) -> Plot:
    known = {k: v for k, v in report["accuracy_by_safety_bin"].items() if k != "no_bin"}
    title = "Accuracy by safety bin"
    return _bars(f"{axis}-bins", title, [("accuracy", accuracy_bars(known))])


def _length(axis: str, report: Mapping[str, Any]) -> Plot:
    """Return how often people and model prefer the longer response, and how often it is right."""
    bias = report["length_bias"]
    figures = {
        "people prefer": bias["human_prefers_longer"],
        "model prefers": bias["model_prefers_longer"],
        "longer right": bias["accuracy_longer_chosen"],
        "shorter right": bias["accuracy_shorter_chosen"],
    }
    title = "The longer response"
    series = [("share", accuracy_bars(figures))]
    return _bars(f"{axis}-length", title, series, "preferred; right where it was chosen or not")


def _bars(
    plot_id: str, title: str, series: Iterable[tuple[str, Any]], label: str = "accuracy"
) -> Plot:
    return bar_chart(
        plot_id=plot_id,
        title=title,
        series=[BarSeries(name, bars) for name, bars in series],
        value_label=label,
        y_range=(0.0, 1.0),
        reference=0.5,
        write=format_percent,
    )


def _reliability(axis: str, report: Mapping[str, Any]) -> Plot:
    """Return how often the model was right over how sure it was; the diagonal is calibrated."""
    bins = [item for item in report["reliability"] if item["n"]]
    lines = [
        Series("was right", [(b["confidence"], b["accuracy"]["value"]) for b in bins]),
        Series("calibrated", [(b["confidence"], b["confidence"]) for b in bins]),
        Series("95% low", [(b["confidence"], b["accuracy"]["low"]) for b in bins]),
        Series("95% high", [(b["confidence"], b["accuracy"]["high"]) for b in bins]),
    ]
    return line_plot(
        plot_id=f"{axis}-reliability",
        title="Calibration",
        x_label="confidence",
        series=lines,
        y_range=(0.0, 1.0),
    )


def _agreement(axis: str, report: Mapping[str, Any]) -> Plot:
    agreement = report.get("human_agreement") or {"levels": []}
    points = [(level["median"], level["mean_difference"]) for level in agreement["levels"]]
    return line_plot(
        plot_id=f"{axis}-agreement",
        title="Score difference by people's median rating",
        x_label="median rating, −4 to 4",
        series=[Series("mean difference", points)],
    )


def scaling_plots(versions: Iterable[Mapping[str, Any]]) -> list[Plot]:
    """Return held-out accuracy over training pairs and over parameters, one line for each scope.

    Args:
        versions: `scope` and `metrics` of each reward model; those without the numbers are left
            out. Where several share an x, their pairs are taken together.
    """
    rows = list(versions)
    scopes = list(dict.fromkeys(row["scope"] for row in rows))
    plots = []
    for key, label, title in (
        ("num_train", "training pairs", "Accuracy over data"),
        ("num_parameters", "parameters", "Accuracy over model size"),
    ):
        series = [
            Series(scope, _pooled((r["metrics"] for r in rows if r["scope"] == scope), key))
            for scope in scopes
        ]
        plots.append(line_plot(plot_id=f"scaling-{key}", title=title, x_label=label, series=series))
    return [plot for plot in plots if len(plot.rows) > 1]


def data_curve(results: Iterable[Mapping[str, Any]]) -> Plot:
    """Return the accuracies of runs on the same held-out pairs, over those they learned from.

    Args:
        results: The results of the runs; one bar for each, with its 95% interval.
    """
    known = [result for result in results if result.get("num_train")]
    rows = sorted(known, key=lambda result: result["num_train"])
    series = []
    for name, label in (("overall", "all pairs"), (Rating.SIGNIFICANTLY_BETTER, "significantly")):
        bars = [
            Bar(f"{row['num_train']:,}", item["value"], item["low"], item["high"], f"{item['n']:,}")
            for row in rows
            if (item := row["accuracy"].get(name)) and item["value"] is not None
        ]
        series.append(BarSeries(label, bars))
    return _bars("data-curve", "Accuracy over training pairs", series, "accuracy, held-out pairs")


def _pooled(metrics: Iterable[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Return (x, accuracy) in order of x; models of one x are pooled by their numbers of pairs."""
    sums: dict[float, tuple[float, int]] = {}
    for values in metrics:
        overall = (values.get("accuracy") or {}).get("overall") or {}
        x, value, count = values.get(key), overall.get("value"), overall.get("n")
        if x and value is not None and count:
            right, total = sums.get(float(x), (0.0, 0))
            sums[float(x)] = (right + value * count, total + count)
    return [(x, right / total) for x, (right, total) in sorted(sums.items())]
