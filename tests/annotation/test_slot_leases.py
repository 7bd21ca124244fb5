"""Slots in somebody's hands: leases lapse, drafts outlive them, and pairs are passed on."""

from datetime import timedelta

import pytest
from django.utils import timezone

from annotation import services
from annotation.errors import (
    JudgementError,
    NotAllowedError,
    NotFoundError,
    SlotTakenError,
)
from annotation.models import Slot, SlotSkip
from annotation.selectors import counter_drift, draft_fields, get_slot_for, round_progress
from tests.annotation.test_slots import claim, let_slot_lapse, open_overlap_round
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_reviewer,
)


@pytest.mark.django_db
def test_a_lapsed_lease_frees_the_slot_and_its_draft_may_still_be_submitted() -> None:
    round_ = open_overlap_round()
    make_judgement(round_=round_)
    reader = make_annotator()
    slot = claim(reader)
    services.save_draft(annotator=reader, slot=slot, fields={"choice": "3"})
    let_slot_lapse(slot)
    assert slot.state == Slot.State.FREE
    assert draft_fields(reader, comparison=slot.comparison) == {"choice": "3"}

    judge_slot(slot)

    assert draft_fields(reader, comparison=slot.comparison) == {}
    assert round_progress(round_).num_further_judged == 1
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_a_lapsed_slot_that_others_hold_leaves_the_draft_and_says_so() -> None:
    make_judgement(round_=open_overlap_round())
    reader, other = make_annotator(), make_annotator()
    slot = claim(reader)
    services.save_draft(annotator=reader, slot=slot, fields={"choice": "3"})
    let_slot_lapse(slot)
    assert claim(other) == slot
    with pytest.raises(SlotTakenError, match="kept as a draft"):
        judge_slot(slot, annotator=reader)
    assert draft_fields(reader, comparison=slot.comparison) == {"choice": "3"}
    assert get_slot_for(reader, slot.pk) == slot, "the draft keeps the way back"


@pytest.mark.django_db
def test_another_free_slot_of_the_same_comparison_takes_a_late_judgement() -> None:
    round_ = open_overlap_round(3)
    make_judgement(round_=round_)
    reader, other = make_annotator(), make_annotator()
    slot = claim(reader)
    assert slot.number == 1
    services.save_draft(annotator=reader, slot=slot, fields={"choice": "3"})
    Slot.objects.filter(number=2).update(offered_at=timezone.now() + timedelta(hours=1))
    let_slot_lapse(slot)
    assert claim(other) == slot
    assert judge_slot(slot, annotator=reader).slot == 2
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_a_sign_of_life_keeps_the_lease_and_a_lapsed_one_has_none() -> None:
    make_judgement(round_=open_overlap_round())
    reader = make_annotator()
    slot = claim(reader)
    Slot.objects.update(lease_expires_at=timezone.now() + timedelta(seconds=2))
    assert services.beat_slot(annotator=reader, slot=slot)
    slot.refresh_from_db()
    assert slot.lease_expires_at is not None
    assert slot.lease_expires_at > timezone.now() + timedelta(minutes=20)
    let_slot_lapse(slot)
    assert not services.beat_slot(annotator=reader, slot=slot)


@pytest.mark.django_db
def test_who_passes_on_is_not_asked_again_and_others_are() -> None:
    make_judgement(round_=open_overlap_round())
    reader = make_annotator()
    slot = claim(reader)
    for _ in range(2):
        services.skip_slot(annotator=reader, slot=slot, reason="no_expertise", note="law")
    skip = SlotSkip.objects.get()
    assert (skip.annotator, skip.kind, skip.reason, skip.note) == (
        reader,
        "overlap",
        "no_expertise",
        "law",
    )
    assert services.claim_slot(annotator=reader) is None
    assert claim(make_annotator()) == slot
    with pytest.raises(JudgementError, match="'' is not one of"):
        services.skip_slot(annotator=reader, slot=slot, reason="")


@pytest.mark.django_db
def test_what_several_people_flag_is_all_kept() -> None:
    comparison = make_judgement(round_=open_overlap_round()).comparison
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="a name"
    )
    reader = make_annotator()
    slot = claim(reader)
    for _ in range(2):
        services.flag_slot(annotator=reader, slot=slot, note="an address")
    comparison.refresh_from_db()
    assert comparison.flag_note == "a name\n\nan address"


@pytest.mark.django_db
def test_a_slot_is_nobody_elses() -> None:
    make_judgement(round_=open_overlap_round())
    slot, stranger = claim(make_annotator()), make_annotator()
    for call in (
        lambda: get_slot_for(stranger, slot.pk),
        lambda: services.skip_slot(annotator=stranger, slot=slot, reason="other"),
        lambda: services.flag_slot(annotator=stranger, slot=slot, note="x"),
        lambda: services.save_draft(annotator=stranger, slot=slot, fields={}),
    ):
        with pytest.raises(NotFoundError, match="of yours"):
            call()
    assert not services.beat_slot(annotator=stranger, slot=slot)
    with pytest.raises(SlotTakenError):
        judge_slot(slot, annotator=stranger)
    for person in (make_lead(), make_reviewer()):
        with pytest.raises(NotAllowedError):
            services.claim_slot(annotator=person)
