"""Many people at the queue of slots at once, and what the database refuses whoever asks."""

import threading

import pytest
from django.db import IntegrityError, connection, transaction

from annotation import services
from annotation.models import Comparison, Judgement, Slot, User
from annotation.selectors import counter_drift, round_progress
from annotation.services import Overlap
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
)
from tests.races import run_at_once

EVERYBODY_TWICE = Overlap(overlap_share=1.0, judgements_per_comparison=2)


@pytest.mark.django_db(transaction=True)
def test_two_tabs_claim_one_slot() -> None:
    round_ = open_overlap_round()
    for _ in range(4):
        make_judgement(round_=round_)
    reader = make_annotator()
    results = run_at_once([lambda: services.claim_slot(annotator=reader)] * 4)
    assert all(isinstance(result, Slot) for result in results), results
    assert len(set(results)) == 1
    assert Slot.objects.filter(state="leased").count() == 1


@pytest.mark.django_db(transaction=True)
def test_sixty_four_annotators_at_once_judge_every_slot_once() -> None:
    """24 comparisons of one author, 3 further judgements each, and 64 people at the same queue."""
    round_ = open_overlap_round(4, max_turns=1, target_comparisons=24)
    author = make_annotator()
    comparisons = [make_judgement(author, round_=round_).comparison for _ in range(24)]
    readers = [make_annotator() for _ in range(64)]
    failures: list[BaseException] = []
    barrier = threading.Barrier(64)

    def work(reader: User) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=60)
            while (slot := services.claim_slot(annotator=reader)) is not None:
                judge_slot(slot)
        except BaseException as error:  # noqa: BLE001 - the test looks at what was raised
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert failures == []
    assert not Slot.objects.exclude(state="judged").exists()
    assert Judgement.objects.filter(kind="overlap").count() == 72
    for comparison in comparisons:
        numbers = comparison.judgements.order_by("slot").values_list("slot", flat=True)
        assert list(numbers) == [0, 1, 2, 3]
        assert comparison.judgements.values("annotator").distinct().count() == 4
    progress = round_progress(round_)
    assert (progress.num_further, progress.num_further_judged) == (72, 72)
    assert counter_drift(round_) == {}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"number": 0}, "slot_number_bound"),
        ({"kind": "author"}, "slot_kind_known"),
        ({"state": "lost"}, "slot_state_known"),
        ({"state": "leased"}, "slot_lease_has_end"),
        ({"state": "judged"}, "slot_taken_by_somebody"),
        ({"kind": "gold"}, "slot_silent_never_free"),
    ],
)
def test_the_database_refuses(values: dict[str, object], constraint: str) -> None:
    make_judgement(round_=open_overlap_round())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Slot.objects.update(**values)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"slot": 1}, "judgement_author_is_first"),
        ({"kind": "overlap"}, "judgement_author_is_first"),
        ({"kind": "whim", "slot": 1}, "judgement_kind_known"),
    ],
)
def test_the_database_refuses_a_judgement(values: dict[str, object], constraint: str) -> None:
    judgement = make_judgement()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Judgement.objects.filter(pk=judgement.pk).update(**values)
    assert Comparison.objects.get().num_slots == 1
