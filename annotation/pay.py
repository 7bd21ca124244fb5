"""What people did in a span of days, one row each: what pay is worked out from."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from django.db import connection

from annotation.access import LEADS, require_role
from annotation.models import User


class Span(NamedTuple):
    """Days of UTC, the last one included."""

    first: date
    last: date

    @property
    def num_days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1


class PayRow(NamedTuple):
    """One person's work of a span. Times are whole seconds, so that columns add up."""

    username: str
    num_judgements: int
    """Judgements that stand; what was taken back counts in the time alone."""
    num_unmeasured: int
    """Judgements, taken back or not, whose time was not measured: made without JavaScript."""
    num_disturbing: int
    """Pairs passed on as too disturbing."""
    num_demonstrations: int
    """Demonstrations sent for the first time."""
    num_parts: int
    """Parts of tests and tutorials handed in; their time is not measured."""
    own_seconds: int
    """Active time of judging pairs whose prompt was their own or imported for them."""
    other_seconds: int
    """Active time of judging pairs of others: overlap, gold, repeats, second readings."""
    demonstration_seconds: int
    """Active time of all revisions sent."""

    @property
    def total_seconds(self) -> int:
        """Active time of every kind."""
        return self.own_seconds + self.other_seconds + self.demonstration_seconds


# Each table is read by an index on the time, within the span; judgements person by person.
PAY = """
    WITH disturbing AS (
        SELECT annotator_id, count(*) AS num FROM (
            SELECT dialogue.annotator_id FROM annotation_comparison comparison
            JOIN annotation_dialogue dialogue ON dialogue.id = comparison.dialogue_id
            WHERE comparison.skip_reason = 'too_disturbing'
                AND comparison.created_at >= %(start)s AND comparison.created_at < %(end)s
            UNION ALL
            SELECT annotator_id FROM annotation_slotskip
            WHERE reason = 'too_disturbing' AND created_at >= %(start)s AND created_at < %(end)s
        ) skipped GROUP BY annotator_id
    ), written AS (
        SELECT written_by_id AS annotator_id, sum(active_seconds) AS seconds,
            count(*) FILTER (WHERE number = 1) AS num
        FROM annotation_demonstrationrevision
        WHERE created_at >= %(start)s AND created_at < %(end)s
        GROUP BY written_by_id
    ), handed_in AS (
        SELECT attempt.annotator_id, count(*) AS num
        FROM annotation_sitting sitting
        JOIN annotation_attempt attempt ON attempt.id = sitting.attempt_id
        WHERE sitting.submitted_at >= %(start)s AND sitting.submitted_at < %(end)s
        GROUP BY attempt.annotator_id
    )
    SELECT person.username, judged.num, judged.num_unmeasured, COALESCE(disturbing.num, 0),
        COALESCE(written.num, 0), COALESCE(handed_in.num, 0),
        judged.own_seconds, judged.other_seconds, COALESCE(written.seconds, 0)
    FROM annotation_user person
    CROSS JOIN LATERAL (
        SELECT count(*) AS num_all,
            count(*) FILTER (WHERE NOT is_retracted) AS num,
            count(*) FILTER (WHERE active_seconds = 0) AS num_unmeasured,
            COALESCE(sum(active_seconds) FILTER (WHERE kind = 'author'), 0) AS own_seconds,
            COALESCE(sum(active_seconds) FILTER (WHERE kind <> 'author'), 0) AS other_seconds
        FROM annotation_judgement
        WHERE annotator_id = person.id AND created_at >= %(start)s AND created_at < %(end)s
    ) judged
    LEFT JOIN disturbing ON disturbing.annotator_id = person.id
    LEFT JOIN written ON written.annotator_id = person.id
    LEFT JOIN handed_in ON handed_in.annotator_id = person.id
    WHERE person.persona = '' AND (
        judged.num_all > 0 OR disturbing.num > 0 OR written.num IS NOT NULL OR handed_in.num > 0
    )
    ORDER BY person.username
"""


def pay_rows(lead: User, span: Span) -> Iterator[PayRow]:
    """Yield a row for everybody who worked in the span, by name, in constant memory.

    People are named, as on the page of accounts; of what they judged nothing is told but how much
    and how long. Programs are left out. The cost is that of the span's rows and one look into an
    index for each account.

    Raises:
        NotAllowedError: The person is no lead.
    """
    require_role(lead, LEADS)
    return _rows(span)


def pay_parameters(span: Span) -> dict[str, datetime]:
    """Return the values of `PAY`."""
    start = datetime.combine(span.first, time(), tzinfo=UTC)
    return {"start": start, "end": start + timedelta(days=span.num_days)}


def last_full_week(today: date) -> Span:
    """Return the last week, Monday to Sunday, that is over."""
    sunday = today - timedelta(days=today.isoweekday())
    return Span(sunday - timedelta(days=6), sunday)


def _rows(span: Span) -> Iterator[PayRow]:
    with connection.chunked_cursor() as cursor:
        cursor.execute(PAY, pay_parameters(span))
        for username, *numbers in cursor:
            yield PayRow(username, *(round(number) for number in numbers))
