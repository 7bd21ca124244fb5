"""The nightly check of counters: what differs is kept, and work that goes on is no difference."""

import threading

import pytest
from django.db import connection

from annotation import services
from annotation.models import CounterCheck, Round
from annotation.selectors import newest_drift
from tests.factories import (
    make_annotator,
    make_demonstration,
    make_judgement,
    open_test_assignment,
    open_test_round,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_counters_that_are_right_are_counted_and_nothing_is_kept_of_them() -> None:
    make_judgement()
    make_demonstration(assignment=open_test_assignment())
    check = services.check_counters()
    assert (check.num_checked, check.drift) == (2, [])
    assert newest_drift() is None


def test_what_differs_is_kept_until_a_later_check_finds_nothing() -> None:
    round_ = make_judgement(round_=open_test_round("Week 14")).comparison.round
    Round.objects.filter(pk=round_.pk).update(num_reserved=3)
    check = services.check_counters()
    assert check.drift == [
        {
            "what": "round",
            "name": "Week 14",
            "counter": "num_reserved",
            "stored": 3,
            "counted": 1,
        }
    ]
    assert newest_drift() == check
    Round.objects.filter(pk=round_.pk).update(num_reserved=1)
    services.check_counters()
    assert newest_drift() is None
    assert CounterCheck.objects.count() == 2


def test_judgements_that_come_meanwhile_are_no_drift() -> None:
    round_ = open_test_round(max_turns=1, target_comparisons=1000)
    annotator = make_annotator()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            make_judgement(annotator, round_=round_)
        connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        checks = [services.check_counters() for _ in range(10)]
    finally:
        is_over.set()
        worker.join()
    assert [check.drift for check in checks] == [[]] * 10
