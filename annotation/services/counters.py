"""Counters: what rounds and assignments count as they go is counted anew, and differences kept."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from annotation.demonstration_selectors import counter_drift_of
from annotation.models import Assignment, CounterCheck, Round
from annotation.selectors import counter_drift

logger = logging.getLogger(__name__)


def check_counters() -> CounterCheck:
    """Count anew, and store and log what differs; nothing is mended.

    A counter is changed in the transaction of what it counts, so a difference is an error of ours.
    Each round is looked at in one snapshot of the database: work that goes on is no drift. It is
    called outside of any transaction.
    """
    found: list[dict[str, Any]] = []
    num_checked = 0
    for round_ in Round.objects.order_by("pk"):
        num_checked += 1
        with _one_snapshot():
            found += _rows("round", round_.name, counter_drift(round_))
    for assignment in Assignment.objects.order_by("pk"):
        num_checked += 1
        with _one_snapshot():
            found += _rows("assignment", assignment.name, counter_drift_of(assignment))
    for row in found:
        logger.error("A counter differs from what it counts: %s", row)
    with transaction.atomic():
        return CounterCheck.objects.create(num_checked=num_checked, drift=found)


@contextmanager
def _one_snapshot() -> Iterator[None]:
    """Let all statements see the database as it was at the first of them."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _rows(what: str, name: str, drift: Mapping[str, tuple[int, int]]) -> list[dict[str, Any]]:
    return [
        {"what": what, "name": name, "counter": counter, "stored": stored, "counted": counted}
        for counter, (stored, counted) in drift.items()
    ]
