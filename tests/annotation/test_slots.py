"""Further judgements: each slot goes to one annotator, once, and none is lost."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation import services
from annotation.errors import (
    AlreadyJudgedError,
    JudgementError,
    NotAllowedError,
    StateError,
)
from annotation.models import Judgement, Round, Slot, User
from annotation.scale import Side
from annotation.selectors import counter_drift, round_progress
from annotation.services import Overlap
from annotation.snapshots import preferences_of
from annotation.work import WorkKind, work_for
from records.dialogues import Dialogue as DialogueRecord
from tests.factories import (
    judge,
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
)

EVERYBODY_TWICE = Overlap(overlap_share=1.0, judgements_per_comparison=2)


def open_overlap_round(number: int = 2, **options: object) -> Round:
    overlap = Overlap(overlap_share=1.0, judgements_per_comparison=number)
    return open_test_round(overlap=overlap, **options)  # type: ignore[arg-type]


def claim(annotator: User) -> Slot:
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    return slot


def let_slot_lapse(slot: Slot) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Slot.objects.filter(pk=slot.pk).update(lease_expires_at=past)
    assert services.release_expired_leases() == 1
    slot.refresh_from_db()


@pytest.mark.django_db
def test_a_judged_comparison_is_offered_to_as_many_others_as_the_round_wants() -> None:
    round_ = open_overlap_round(3)
    judgement = make_judgement(round_=round_)

    slots = Slot.objects.order_by("number")

    assert [(slot.number, slot.kind, slot.state) for slot in slots] == [
        (1, "overlap", "free"),
        (2, "overlap", "free"),
    ]
    assert {slot.comparison for slot in slots} == {judgement.comparison}
    progress = round_progress(round_)
    assert (progress.num_further, progress.num_further_judged) == (2, 0)
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_a_share_of_comparisons_is_offered_drawn_by_their_secret_seeds() -> None:
    round_ = open_test_round(
        overlap=Overlap(overlap_share=0.5, judgements_per_comparison=2), max_turns=1
    )
    annotator = make_annotator()
    for _ in range(24):
        make_judgement(annotator, round_=round_)
    # 24 fair coins: 3 to 21 heads but for one case in 25,000.
    assert 3 <= Slot.objects.count() <= 21
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_skipped_pairs_and_rounds_without_overlap_offer_nothing() -> None:
    make_judgement()
    comparison = make_ready_comparison(round_=open_overlap_round())
    services.skip_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, reason="other"
    )
    assert not Slot.objects.exists()


@pytest.mark.django_db
def test_the_author_is_never_given_their_own_pair() -> None:
    author = make_annotator()
    make_judgement(author, round_=open_overlap_round())
    assert services.claim_slot(annotator=author) is None
    other = make_annotator()
    slot = claim(other)
    assert (slot.annotator, slot.state) == (other, "leased")
    with pytest.raises(IntegrityError, match="slot_not_for_author"), transaction.atomic():
        Slot.objects.filter(pk=slot.pk).update(annotator=author)


@pytest.mark.django_db
def test_nobody_is_given_the_same_comparison_twice() -> None:
    make_judgement(round_=open_overlap_round(3))
    reader = make_annotator()
    slot = claim(reader)
    judge_slot(slot)
    assert services.claim_slot(annotator=reader) is None
    with pytest.raises(IntegrityError, match="judgement_once_each"), transaction.atomic():
        Judgement.objects.filter(slot=0).update(annotator=reader)


@pytest.mark.django_db
def test_who_holds_a_slot_is_given_that_one_again() -> None:
    round_ = open_overlap_round()
    for _ in range(2):
        make_judgement(round_=round_)
    reader = make_annotator()
    assert claim(reader) == claim(reader)
    assert work_for(reader).slot == claim(reader)


@pytest.mark.django_db
def test_slots_are_given_in_the_order_in_which_they_were_offered() -> None:
    round_ = open_overlap_round()
    first, second = make_judgement(round_=round_), make_judgement(round_=round_)
    one, two = make_annotator(), make_annotator()
    assert claim(one).comparison == first.comparison
    assert claim(two).comparison == second.comparison
    assert services.claim_slot(annotator=make_annotator()) is None


@pytest.mark.django_db
def test_a_long_run_of_ones_own_pairs_hides_nothing_behind_it() -> None:
    """600 free slots of the annotator's own stand before one that is for them."""
    round_ = open_overlap_round()
    author = make_annotator()
    own = make_judgement(author, round_=round_).comparison
    Slot.objects.bulk_create(
        Slot(comparison=own, round=round_, number=number, kind="overlap", author=author)
        for number in range(2, 601)
    )
    wanted = make_judgement(round_=round_).comparison
    found = [services.claim_slot(annotator=author) for _ in range(2)]
    assert any(slot is not None and slot.comparison == wanted for slot in found)


@pytest.mark.django_db
def test_a_judged_slot_is_stored_with_its_number_and_counted() -> None:
    round_ = open_overlap_round()
    first = make_judgement(round_=round_)
    slot = claim(make_annotator())

    judgement = judge_slot(slot, side=Side.RIGHT)

    assert (judgement.comparison, judgement.slot, judgement.kind) == (
        first.comparison,
        1,
        "overlap",
    )
    assert (judgement.annotator, judgement.displayed_side) == (slot.annotator, "right")
    slot.refresh_from_db()
    assert slot.state == Slot.State.JUDGED
    assert round_progress(round_).num_further_judged == 1
    assert round_progress(round_).num_judged == 1
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_the_same_form_again_returns_the_same_judgement_and_another_is_refused() -> None:
    make_judgement(round_=open_overlap_round())
    slot, key = claim(make_annotator()), uuid.uuid4()
    first = judge_slot(slot, client_key=key)
    assert judge_slot(slot, client_key=key) == first
    with pytest.raises(AlreadyJudgedError):
        judge_slot(slot)
    assert Judgement.objects.filter(slot=1).count() == 1


@pytest.mark.django_db
def test_a_value_that_does_not_fit_leaves_the_slot_as_it_was() -> None:
    make_judgement(round_=open_overlap_round())
    slot = claim(make_annotator())
    assert slot.annotator is not None
    with pytest.raises(JudgementError, match="'banana' is not one of"):
        services.submit_slot(
            annotator=slot.annotator,
            slot=slot,
            chosen_sample_id=slot.comparison.samples.get(side="left").pk,
            rating="banana",
            safety_bin=None,
            client_key=uuid.uuid4(),
            active_seconds=1.0,
        )
    slot.refresh_from_db()
    assert slot.state == Slot.State.LEASED


@pytest.mark.django_db
def test_a_closed_round_gives_no_slot_but_takes_what_is_out() -> None:
    round_ = open_overlap_round(3)
    make_judgement(round_=round_)
    slot = claim(make_annotator())
    services.close_round(round_=round_, closed_by=make_lead())
    assert services.claim_slot(annotator=make_annotator()) is None
    assert judge_slot(slot).slot == 1


@pytest.mark.django_db
def test_own_ready_pairs_come_first_then_slots_then_writing() -> None:
    round_ = open_overlap_round()
    make_judgement(round_=round_)
    reader = make_annotator()
    start_test_dialogue(reader, round_)
    ready = make_ready_comparison(reader, round_=round_)

    assert services.take_work(annotator=reader).comparison == ready
    judge(ready)
    work = services.take_work(annotator=reader)
    assert work.kind is WorkKind.SLOT
    assert work.slot is not None
    judge_slot(work.slot)
    assert services.take_work(annotator=reader).kind is WorkKind.WRITE
    assert services.take_work(annotator=make_lead()).kind is WorkKind.NOTHING


@pytest.mark.django_db
def test_a_second_reading_goes_to_somebody_who_has_not_judged_the_pair() -> None:
    judgement = make_judgement()
    round_ = judgement.comparison.round
    slot = services.ask_second_reading(reviewer=make_reviewer(), comparison=judgement.comparison)
    assert services.claim_slot(annotator=judgement.annotator) is None
    reader = make_annotator()
    assert claim(reader) == slot
    second = judge_slot(claim(reader))
    assert (second.kind, second.slot) == ("second_reading", 1)
    assert counter_drift(round_) == {}
    with pytest.raises(StateError):
        services.ask_second_reading(reviewer=make_reviewer(), comparison=make_ready_comparison())
    with pytest.raises(NotAllowedError):
        services.ask_second_reading(reviewer=reader, comparison=judgement.comparison)


@pytest.mark.django_db
def test_each_judgement_of_a_comparison_is_a_preference_and_the_author_continues_it() -> None:
    round_ = open_overlap_round(3, max_turns=2)
    first = judge(make_ready_comparison(round_=round_, text="Question 0?"), side=Side.LEFT)
    second = judge(make_ready_comparison(dialogue=first.comparison.dialogue, text="Question 1?"))
    for _ in range(2):
        reader = make_annotator()
        judge_slot(claim(reader), side=Side.RIGHT)
        judge_slot(claim(reader), side=Side.RIGHT)

    rows = list(preferences_of([round_]))

    left = first.chosen_sample.text
    right = first.comparison.samples.get(side="right").text
    assert [row.chosen for row in rows[:3]] == [left, right, right]
    assert [row.preference_id for row in rows[::3]] == [str(first.uuid), str(second.uuid)]
    assert {row.prompt for row in rows[:3]} == {DialogueRecord.from_texts("Question 0?")}
    assert {row.prompt for row in rows[3:]} == {
        DialogueRecord.from_texts("Question 0?", left, "Question 1?")
    }
    assert len({row.annotator for row in rows}) == 3
    assert len({row.dialogue_id for row in rows}) == 1
