"""What the pages on quality show: reports as they were kept, sorted and worded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import QuerySet

from annotation.access import LEADS, require_role
from annotation.errors import NotFoundError
from annotation.models import Judgement, QualityReport, Round, User
from annotation.quality.estimates import Estimate
from annotation.quality.measuring import Figures
from annotation.quality.weights import Weighting
from records.preferences import Rating
from webapp.drawing import format_percent
from webapp.plots import Bar, BarSeries, Plot, bar_chart
from webapp.quality_cells import (
    ANNOTATOR_COLUMNS,
    COEFFICIENT,
    DIRECTION,
    HABITS,
    Cell,
    Column,
    agreement_columns,
    cells_of,
    list_columns,
)

FEW_SHARED = 30
"""Below so many comparisons judged by two people, intervals of agreement say next to nothing."""
PAGE_SIZE = 50
MAX_ROWS = 200
"""Rounds in the list, the newest ones."""
MAX_BARS = 8
MAX_NEW = 1000
"""Judgements since a report are counted up to this."""
SCOPES = ("rounds", "guidelines", "axes")
_SCOPES: dict[str, dict[str, Any]] = {
    "rounds": {"round__isnull": False},
    "guidelines": {"guidelines__isnull": False},
    "axes": {"round__isnull": True, "guidelines__isnull": True},
}


class Row(NamedTuple):
    """One line of a table."""

    name: str
    note: str
    pk: int | None
    """Of the report; None where nothing is measured yet, or for an annotator."""
    num_judgements: int
    cells: tuple[Cell, ...]
    """None at all where nothing is measured yet."""
    measured_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class QualityList:
    """All rounds, versions of the guidelines, or axes."""

    scope: str
    columns: Sequence[Column]
    rows: list[Row]
    plot: Plot


@dataclass(frozen=True, kw_only=True)
class QualityPage:
    """One report."""

    report: QualityReport
    title: str
    scope: str
    figures: Figures
    num_new: int
    """Judgements made since, up to `MAX_NEW`."""
    agreement: tuple[Cell, ...]
    habits: tuple[Cell, ...]
    ratings: Plot
    by_weights: Plot
    columns: Sequence[Column]
    annotators: list[Row]
    page: int
    num_pages: int

    @property
    def num_shared_missing(self) -> int:
        """How many more comparisons two people must judge before intervals are worth reading."""
        return max(0, FEW_SHARED - self.figures.num_shared)


def get_quality_report_for(lead: User, pk: int) -> QualityReport:
    """Return a report for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is no such report.
    """
    require_role(lead, LEADS)
    related = QualityReport.objects.select_related("round", "guidelines")
    report = related.filter(pk=pk).first()
    if report is None:
        raise NotFoundError("report", pk)
    return report


def quality_list(scope: str, *, sort: str, weights: str) -> QualityList:
    """Return the reports of a scope; two queries, and no judgement is read."""
    columns = list_columns(weights)
    rows = [_report_row(values, columns) for values in _reports(scope)]
    if scope == "rounds":
        rows += _unmeasured_rounds()
    return QualityList(
        scope=scope,
        columns=columns,
        rows=sorted_rows(rows, columns, sort),
        plot=_agreement_plot(rows),
    )


def quality_page(report: QualityReport, *, sort: str, weights: str, page: int) -> QualityPage:
    """Return everything one report says; the annotators a page at a time."""
    figures = Figures.from_json(report.figures)
    rows = [
        Row(who.pseudonym, "", None, who.num_judgements, cells_of(ANNOTATOR_COLUMNS, who.numbers))
        for who in figures.annotators
    ]
    ranked = sorted_rows(rows, ANNOTATOR_COLUMNS, sort)
    num_pages = max(1, -(-len(ranked) // PAGE_SIZE))
    page = min(max(1, page), num_pages)
    title, scope = _title_of(report)
    return QualityPage(
        report=report,
        title=title,
        scope=scope,
        figures=figures,
        num_new=_num_new(report),
        agreement=cells_of(agreement_columns(weights), figures.numbers),
        habits=cells_of(HABITS, figures.numbers),
        ratings=_rating_plot(figures.numbers),
        by_weights=_weights_plot(figures.numbers),
        columns=ANNOTATOR_COLUMNS,
        annotators=ranked[(page - 1) * PAGE_SIZE : page * PAGE_SIZE],
        page=page,
        num_pages=num_pages,
    )


def sorted_rows(rows: Iterable[Row], columns: Sequence[Column], sort: str) -> list[Row]:
    """Return the rows by a column, falling with `-` before it; those without the number come last.

    A column that is not there leaves the order as it is.
    """
    rows = list(rows)
    key, is_falling = sort.removeprefix("-"), sort.startswith("-")
    if key == "judged":
        return sorted(rows, key=lambda row: row.num_judgements, reverse=is_falling)
    place = next((n for n, column in enumerate(columns) if column.key == key), None)
    if place is None:
        return rows
    ranked = []
    unranked = []
    for row in rows:
        value = row.cells[place].estimate.value if row.cells else None
        if value is None:
            unranked.append(row)
        else:
            ranked.append((value, row))
    ranked.sort(key=lambda item: item[0], reverse=is_falling)
    return [row for _, row in ranked] + unranked


def _reports(scope: str) -> QuerySet[QualityReport, Any]:
    """Return the newest reports of a scope, without what they say of single annotators."""
    return (
        QualityReport.objects.filter(**_SCOPES[scope])
        .order_by("-round_id", "-guidelines_id", "axis")
        .values(
            "pk",
            "axis",
            "round__name",
            "round__axis",
            "guidelines__version",
            "guidelines__axis",
            "num_judgements",
            "measured_at",
            "figures__numbers",
        )[:MAX_ROWS]
    )


def _report_row(values: Mapping[str, Any], columns: Sequence[Column]) -> Row:
    numbers = {name: Estimate(*value) for name, value in values["figures__numbers"].items()}
    name = values["round__name"] or values["guidelines__version"] or values["axis"]
    return Row(
        name=name,
        note=values["round__axis"] or values["guidelines__axis"] or "",
        pk=values["pk"],
        num_judgements=values["num_judgements"],
        cells=cells_of(columns, numbers),
        measured_at=values["measured_at"],
    )


def _unmeasured_rounds() -> list[Row]:
    rounds = Round.objects.filter(quality__isnull=True).order_by("-pk")[:MAX_ROWS]
    return [Row(r.name, r.axis, None, r.num_judged, ()) for r in rounds]


def _title_of(report: QualityReport) -> tuple[str, str]:
    """Return what the report is about, and the scope it is listed under."""
    if report.round is not None:
        return report.round.name, "rounds"
    if report.guidelines is not None:
        return f"{report.guidelines.axis} guidelines {report.guidelines.version}", "guidelines"
    return report.axis, "axes"


def _num_new(report: QualityReport) -> int:
    newer = Judgement.objects.filter(pk__gt=report.last_judgement)
    if report.round_id is not None:
        newer = newer.filter(comparison__round=report.round_id)
    elif report.guidelines_id is not None:
        newer = newer.filter(guidelines=report.guidelines_id)
    else:
        newer = newer.filter(axis=report.axis)
    return newer[:MAX_NEW].count()


def _agreement_plot(rows: Sequence[Row]) -> Plot:
    """Return the share of pairs of judgements of one direction, by round, oldest first."""
    shown = [
        (row.name, cell)
        for row in rows
        for cell in row.cells
        if cell.column.key == DIRECTION.key and cell.estimate.value is not None
    ][:MAX_BARS]
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name, _ in shown]
    if len(set(names)) < len(names):  # a bar is found by its label
        names = [f"{number}: {name[:9]}" for number, name in enumerate(names, start=1)]
    bars = [_bar(name, cell) for name, (_, cell) in zip(names, shown, strict=True)]
    return _share_chart("agreement", "Same direction", "share of pairs", bars[::-1])


def _weights_plot(numbers: Mapping[str, Estimate]) -> Plot:
    """Return Gwet's coefficient under every weighting: how much the choice matters."""
    bars = []
    for weighting in Weighting:
        value, low, high, n = numbers[f"gwet_{weighting}"]
        if value is not None:
            bars.append(Bar(weighting.value, value, low, high, note=f"{n:,}"))
    return bar_chart(
        plot_id="by-weights",
        title="Gwet's coefficient by weights",
        value_label="AC1 with identity, AC2 with others",
        write=COEFFICIENT.write,
        series=[BarSeries("comparisons", bars)],
    )


def _rating_plot(numbers: Mapping[str, Estimate]) -> Plot:
    bars = []
    for rating in Rating:
        value, low, high, n = numbers[f"rating_{rating}"]
        if value is not None:
            bars.append(Bar(rating.partition("_")[0], value, low, high, note=f"{n:,}"))
    return _share_chart("ratings", "Ratings", "share of judgements", bars)


def _bar(label: str, cell: Cell) -> Bar:
    value, low, high, n = cell.estimate
    assert value is not None, cell.column.key
    return Bar(label, value, low, high, note=f"{n:,}")


def _share_chart(plot_id: str, title: str, value_label: str, bars: Sequence[Bar]) -> Plot:
    return bar_chart(
        plot_id=plot_id,
        title=title,
        value_label=value_label,
        write=format_percent,
        y_range=(0.0, 1.0),
        series=[BarSeries("judgements", bars)],
    )
