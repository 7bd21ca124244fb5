"""Next and submit among 20,000 comparisons: few statements, and none reads a table through."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation import services
from annotation.models import Comparison, ImportedItem, Round, User
from annotation.selectors import get_slot_to_judge_for
from annotation.services import Overlap
from annotation.work import WorkKind
from benchmarks import annotator_seed
from tests.factories import (
    judge,
    make_annotator,
    open_imported_round,
    open_test_round,
    pair_line,
    start_test_dialogue,
)

pytestmark = pytest.mark.django_db(transaction=True)

NUM_ROWS = 20_000
BIG = {
    f"annotation_{name}"
    for name in ("dialogue", "comparison", "sample", "judgement", "slot", "importeditem")
}


@pytest.fixture
def reader() -> User:
    """Return an annotator of a round of many comparisons whose further judgements wait."""
    round_ = open_test_round(
        target_comparisons=NUM_ROWS + 1,
        overlap=Overlap(overlap_share=1.0, judgements_per_comparison=2),
    )
    annotator_seed.fill(
        annotator_seed.Seed(
            round_id=round_.pk,
            guidelines_id=round_.guidelines_id,
            policy_id=round_.variants.first().policy_id,  # type: ignore[union-attr]
            author_ids=[make_annotator().pk for _ in range(3)],
            reader_names=[],
        ),
        first=1,
        last=NUM_ROWS,
    )
    return make_annotator()


@pytest.fixture
def imported(reader: User) -> Round:
    """Return a round of many items beside the round of many comparisons; half are judged."""
    round_ = open_imported_round(pair_line("first"), pair_line("second"), pair_line("third"))
    template = round_.items.get(key="third")
    rows = [
        ImportedItem(
            round=round_,
            key=f"item {number}",
            turns=template.turns,
            responses=template.responses,
            state="finished" if number % 2 else "free",
            num_judged=number % 2,
            offered_at=template.offered_at,
        )
        for number in range(NUM_ROWS)
    ]
    ImportedItem.objects.bulk_create(rows, batch_size=2000)
    Round.objects.filter(pk=round_.pk).update(target_comparisons=NUM_ROWS)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE annotation_importeditem, annotation_dialogue")
    return Round.objects.get(pk=round_.pk)


def loop(reader: User, slot_id: int) -> int:
    """Judge a slot as the page does, and take the next one; return its id."""
    slot = get_slot_to_judge_for(reader, slot_id)
    services.submit_slot(
        annotator=reader,
        slot=slot,
        chosen_sample_id=slot.left_id,
        rating="better",
        safety_bin=None,
        client_key=uuid.uuid4(),
        active_seconds=1.0,
    )
    work = services.take_work(annotator=reader)
    assert work.kind is WorkKind.SLOT
    assert work.slot is not None
    return work.slot.pk


def scans_of(sql: str) -> Iterator[tuple[str, str, str]]:
    """Yield (node, table, index) of each scan in the plan of a statement."""
    with connection.cursor() as cursor:
        # What a prepared statement is planned for in the end: no values in particular.
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute("EXPLAIN (FORMAT JSON) " + sql)
        (plans,) = cursor.fetchone()
    nodes: list[dict[str, Any]] = [
        (json.loads(plans) if isinstance(plans, str) else plans)[0]["Plan"]
    ]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Scan" in node["Node Type"]:
            yield node["Node Type"], node.get("Relation Name", ""), node.get("Index Name", "")


def test_next_and_submit_take_few_statements_and_only_index_scans(reader: User) -> None:
    work = services.take_work(annotator=reader)
    assert work.slot is not None
    second = loop(reader, work.slot.pk)

    with CaptureQueriesContext(connection) as captured:
        loop(reader, second)

    messages = [query["sql"] for query in captured.captured_queries]
    # Some statements travel together.
    statements = [sql for message in messages for sql in message.split("; ")]
    statements = [sql for sql in statements if sql not in ("BEGIN", "COMMIT")]
    # The slot; the judgement, its settlement; the desk; the claim, the next slot.
    assert len(statements) <= 6, statements
    assert len(messages) <= 6, "the judgement has BEGIN and COMMIT, and no other statement"
    indexes = set()
    for sql in statements:
        for node, table, index in scans_of(sql):
            assert (node, table in BIG) != ("Seq Scan", True), (table, sql)
            indexes.add(index)
    assert "annotation_slot_queue" in indexes


def test_an_imported_item_is_taken_and_judged_by_index_scans_alone(imported: Round) -> None:
    annotator = make_annotator()
    judge(Comparison.objects.get(dialogue=start_test_dialogue(annotator, imported)))

    with CaptureQueriesContext(connection) as captured:
        dialogue = start_test_dialogue(annotator, imported)
        judge(Comparison.objects.get(dialogue=dialogue))

    indexes = set()
    for query in captured.captured_queries:
        if not query["sql"].startswith(("SELECT", "UPDATE", "WITH", "INSERT")):
            continue
        for node, table, index in scans_of(query["sql"]):
            assert (node, table in BIG) != ("Seq Scan", True), (table, query["sql"])
            indexes.add(index)
    assert "annotation_item_queue" in indexes


def test_no_statement_of_the_loop_is_planned_a_second_time(reader: User) -> None:
    connection.close()  # what other tests have prepared goes with it
    work = services.take_work(annotator=reader)
    assert work.slot is not None
    slot_id = work.slot.pk
    for _ in range(3):
        slot_id = loop(reader, slot_id)

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE name LIKE 'concord%'"
        )
        plans = {name: (generic, custom) for name, generic, custom in cursor.fetchall()}

    assert plans["concord_claim"] == (4, 0)
    assert plans["concord_judge"] == (3, 0)
    assert all(custom == 0 for _, custom in plans.values()), plans
