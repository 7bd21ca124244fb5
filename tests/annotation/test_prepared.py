"""Prepared query sets: the rows of the query set they were made from, whatever the values."""

import asyncio
import threading

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from annotation.models import Comparison
from annotation.prepared import Prepared
from tests.factories import make_judgement

pytestmark = pytest.mark.django_db


def build(annotator: int, turn: int) -> QuerySet[Comparison]:
    rows = Comparison.objects.filter(dialogue__annotator=annotator, turn=turn)
    return rows.select_related("dialogue__round").order_by("pk")


def test_rows_are_those_of_the_query_set_with_other_values_each_time() -> None:
    comparisons = [make_judgement().comparison for _ in range(3)]
    prepared = Prepared("test", build, "annotator", "turn")
    for comparison in comparisons:
        annotator = comparison.dialogue.annotator_id
        with CaptureQueriesContext(connection) as captured:
            (row,) = prepared.rows(annotator=annotator, turn=0)
            assert row.dialogue.round.name == comparison.round.name
        sent = [q["sql"] for q in captured.captured_queries if not q["sql"].startswith("PREPARE")]
        assert len(sent) == 1, "what select_related names comes along"
        assert [row] == list(build(annotator, 0))
        assert vars(row).keys() == vars(build(annotator, 0)[0]).keys()
        assert prepared.rows(annotator=annotator, turn=1) == []
        assert prepared.first(annotator=annotator, turn=1) is None


def test_a_missing_value_is_named() -> None:
    with pytest.raises(KeyError, match="turn"):
        Prepared("test", build, "annotator", "turn").rows(annotator=1)


@pytest.mark.django_db(transaction=True)
def test_connections_do_not_share_a_compiled_query(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (make_judgement().comparison for _ in range(2))
    prepared = Prepared("test", build, "annotator", "turn")
    assert prepared.first(annotator=first.dialogue.annotator_id, turn=0) == first
    found = []

    def ask() -> None:
        found.append(prepared.first(annotator=second.dialogue.annotator_id, turn=0))
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [second]
    # A thread has a second connection while an event loop runs in it.
    connection.close()
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

    async def ask_in_a_loop() -> None:
        ask()

    asyncio.run(ask_in_a_loop())
    assert found == [second, second]
    assert prepared.first(annotator=first.dialogue.annotator_id, turn=0) == first
