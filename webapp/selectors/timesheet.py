"""Who judged how much and how long, by pseudonym, round and day: what pay is worked out from."""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from annotation.models import Judgement
from webapp.csv_lines import proven_lines

HEADER = ("annotator", "round", "axis", "day", "judgements", "active_seconds", "without_time")
_ROWS_AT_ONCE = 500


def timesheet_csv(month: date) -> Iterator[str]:
    """Return the lines of a month's timesheet, days in UTC (`webapp.csv_lines`)."""
    return proven_lines(HEADER, _rows(month))


def month_named(text: str) -> date:
    """Return the first day of a month written as 2026-11; of the current one where it is not."""
    try:
        return (
            datetime.strptime(text, "%Y-%m").replace(tzinfo=timezone.get_current_timezone()).date()
        )
    except ValueError:
        return timezone.now().date().replace(day=1)


def _rows(month: date) -> Iterator[tuple[Any, ...]]:
    # Time spent on what was taken back is time worked.
    dates = {"created_at__date__gte": month, "created_at__date__lt": _next(month)}
    rows = (
        Judgement.with_retracted.filter(**dates)
        .annotate(day=TruncDate("created_at"))
        .values_list("annotator__pseudonym", "comparison__round__name", "axis", "day")
        .annotate(
            number=Count("pk", filter=Q(is_retracted=False)),
            seconds=Sum("active_seconds"),
            unmeasured=Count("pk", filter=Q(active_seconds=0)),
        )
        .order_by("annotator__pseudonym", "comparison__round__name", "day")
    )
    for *names, day, number, seconds, unmeasured in rows.iterator(chunk_size=_ROWS_AT_ONCE):
        yield (*names, day.isoformat(), number, round(seconds), unmeasured)


def _next(month: date) -> date:
    is_last = month.month == 12
    return date(month.year + is_last, 1 if is_last else month.month + 1, 1)
