"""The order of locks: a comparison before its dialogue, for everybody, so nobody waits for ever."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction

from annotation import services
from annotation.models import Comparison, Dialogue, Judgement, User
from annotation.selectors import counter_drift
from tests.factories import judge, make_annotator, make_ready_comparison

pytestmark = pytest.mark.django_db(transaction=True)


def finish(annotator: User, dialogue: Dialogue) -> Dialogue:
    """Finish a dialogue on a connection of its own."""
    try:
        return services.finish_dialogue(annotator=annotator, dialogue=dialogue)
    finally:
        connection.close()


def wait_for_somebody_who_waits() -> None:
    """Return once another connection waits for a lock."""
    deadline = time.monotonic() + 60.0
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
            if cursor.fetchone() is not None:
                return
            assert time.monotonic() < deadline, "nobody waited for a lock"
            time.sleep(0.01)


def test_who_finishes_a_dialogue_and_who_judges_its_pair_do_not_wait_for_each_other() -> None:
    annotator = make_annotator()
    comparison = make_ready_comparison(annotator)
    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            # Halfway through the locks of a judgement.
            Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
            finishing = other.submit(finish, annotator, comparison.dialogue)
            wait_for_somebody_who_waits()
            judgement = judge(comparison)
        finished = finishing.result(timeout=60)
    assert Judgement.objects.get() == judgement
    assert (finished.state, finished.num_turns) == ("finished", 1)
    assert counter_drift(comparison.round) == {}


def test_who_judges_a_pair_whose_dialogue_is_being_finished_is_told_that_it_was_passed_on() -> None:
    annotator = make_annotator()
    comparison = make_ready_comparison(annotator)
    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            services.finish_dialogue(annotator=annotator, dialogue=comparison.dialogue)
            judging = other.submit(_judge_elsewhere, comparison)
            wait_for_somebody_who_waits()
        error = judging.exception(timeout=60)
    assert str(error) == "this comparison is skipped; only ready allows this"
    assert not Judgement.objects.exists()
    assert counter_drift(comparison.round) == {}


def _judge_elsewhere(comparison: Comparison) -> Judgement:
    try:
        return judge(comparison)
    finally:
        connection.close()
