"""What the pay report shows, on its page and as CSV."""

from collections.abc import Iterator
from dataclasses import dataclass

from annotation.models import User
from annotation.pay import PayRow, Span, pay_rows
from webapp.csv_lines import proven_lines

MAX_ROWS = 500
"""People on the page; the file has everybody."""
HEADER = (
    *("name", "first_day", "last_day", "judgements", "without_time", "too_disturbing"),
    *("demonstrations", "test_parts", "own_pairs_seconds", "others_pairs_seconds"),
    *("demonstrations_seconds", "active_seconds"),
)


@dataclass(frozen=True, kw_only=True)
class PayPage:
    """The report of a span."""

    span: Span
    rows: list[PayRow]
    """The first `MAX_ROWS` people."""
    total: PayRow
    """The sums over everybody."""
    num_people: int


def pay_page(lead: User, span: Span) -> PayPage:
    """Gather the report; one query, and no more rows are kept than are shown.

    Raises:
        NotAllowedError: The person is no lead.
    """
    shown: list[PayRow] = []
    sums = [0] * (len(PayRow._fields) - 1)
    num_people = 0
    for row in pay_rows(lead, span):
        num_people += 1
        sums = [total + number for total, number in zip(sums, row[1:], strict=True)]
        if num_people <= MAX_ROWS:
            shown.append(row)
    return PayPage(span=span, rows=shown, total=PayRow("", *sums), num_people=num_people)


def pay_csv(lead: User, span: Span) -> Iterator[str]:
    """Return the lines of the report: a person each, and the manifest (`webapp.csv_lines`).

    Raises:
        NotAllowedError: The person is no lead.
    """
    days = (span.first.isoformat(), span.last.isoformat())
    rows = ((row.username, *days, *row[1:], row.total_seconds) for row in pay_rows(lead, span))
    return proven_lines(HEADER, rows)
