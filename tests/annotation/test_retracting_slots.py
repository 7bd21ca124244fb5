"""Taking back what one said of a pair of somebody else: the same for every kind, nothing lost."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from annotation import services
from annotation.errors import NotFoundError, RetractionError, SlotTakenError
from annotation.histories import retraction_of_slot
from annotation.models import (
    GoldComparison,
    Judgement,
    JudgementKind,
    Retraction,
    ReviewItem,
    Slot,
    User,
)
from annotation.scale import Side
from annotation.selectors import counter_drift, held_slot
from annotation.services import Overlap
from annotation.snapshots import preferences_of
from tests.annotation.test_slots import claim, open_overlap_round
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_reviewer,
    open_test_round,
)
from tests.races import run_at_once

KINDS = [kind for kind in JudgementKind if kind is not JudgementKind.AUTHOR]


def slot_of(kind: JudgementKind, annotator: User) -> Slot:
    """Return a slot of this kind that the annotator holds."""
    if kind is JudgementKind.OVERLAP:
        make_judgement(round_=open_overlap_round(max_turns=1))
    elif kind is JudgementKind.SECOND_READING:
        comparison = make_judgement(round_=open_test_round(max_turns=1)).comparison
        services.ask_second_reading(reviewer=make_reviewer(), comparison=comparison)
    elif kind is JudgementKind.GOLD:
        judgement = make_judgement(
            round_=open_test_round(overlap=Overlap(gold_share=1.0), max_turns=1)
        )
        services.declare_gold(
            comparison=judgement.comparison, expected_side=Side.LEFT, declared_by=make_lead()
        )
    else:
        overlap = Overlap(repeat_share=1.0, repeat_after=1)
        round_ = open_test_round(overlap=overlap, max_turns=1)
        for _ in range(2):
            make_judgement(annotator, round_=round_)
    slot = claim(annotator)
    assert slot.kind == kind
    return slot


def take_back(judgement: Judgement) -> Retraction:
    return services.retract_judgement(
        annotator=judgement.annotator, judgement=judgement, client_key=uuid.uuid4()
    )


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_back_counts_nowhere_and_is_judged_again(kind: JudgementKind) -> None:
    ana = make_annotator()
    slot = slot_of(kind, ana)
    first = judge_slot(slot)

    retraction = take_back(first)

    slot.refresh_from_db()
    assert (slot.state, slot.annotator) == ("withdrawn", ana)
    assert retraction_of_slot(slot, ana) == retraction
    assert counter_drift(slot.round) == {}
    assert not Judgement.objects.filter(pk=first.pk).exists()
    second = judge_slot(slot, side=Side.RIGHT)
    assert (second.kind, second.slot, second.displayed_side) == (kind, slot.number, "right")
    slot.refresh_from_db()
    assert slot.state == "judged"
    assert counter_drift(slot.round) == {}
    stored = Judgement.with_retracted.filter(slot=slot.number, annotator=ana)
    assert set(stored) == {first, second}
    assert take_back(second).judgement == second, "and once more"


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_it_stands_again_as_it_was(kind: JudgementKind) -> None:
    ana = make_annotator()
    slot = slot_of(kind, ana)
    judgement = judge_slot(slot)
    before = Slot.objects.filter(pk=slot.pk).values("state", "annotator", "kind").get()
    retraction = take_back(judgement)
    for _ in range(2):
        services.restore_judgement(annotator=ana, retraction=retraction)
    assert Judgement.objects.filter(pk=judgement.pk).exists()
    assert Slot.objects.filter(pk=slot.pk).values("state", "annotator", "kind").get() == before
    retraction.refresh_from_db()
    assert (retraction.is_active, retraction.ended_at is None) == (False, False)
    assert counter_drift(slot.round) == {}
    assert take_back(judgement) != retraction, "it may be taken back again"


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_judged_anew_or_passed_on_is_not_let_stand(kind: JudgementKind) -> None:
    ana = make_annotator()
    slot = slot_of(kind, ana)
    retraction = take_back(judge_slot(slot))
    second = judge_slot(slot, side=Side.RIGHT)
    with pytest.raises(RetractionError, match="dealt with since"):
        services.restore_judgement(annotator=ana, retraction=retraction)
    assert Judgement.objects.filter(slot=slot.number, annotator=ana).get() == second
    retraction = take_back(second)
    slot.refresh_from_db()
    services.skip_slot(annotator=ana, slot=slot, reason="other")
    with pytest.raises(RetractionError, match="dealt with since"):
        services.restore_judgement(annotator=ana, retraction=retraction)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_why_it_is_refused_does_not_depend_on_the_kind(kind: JudgementKind) -> None:
    ana = make_annotator()
    slot = slot_of(kind, ana)
    judgement = judge_slot(slot)
    with pytest.raises(NotFoundError):
        services.retract_judgement(
            annotator=make_annotator(), judgement=judgement, client_key=uuid.uuid4()
        )
    services.accept_comparison(
        reviewer=make_reviewer(), comparison=slot.comparison, client_key=uuid.uuid4()
    )
    with pytest.raises(RetractionError, match="somebody else has looked at this pair since"):
        take_back(judgement)
    services.close_round(round_=slot.round, closed_by=slot.round.opened_by)
    with pytest.raises(RetractionError, match="this round is closed"):
        take_back(Judgement.objects.select_related("comparison__round").get(pk=judgement.pk))


@pytest.mark.django_db
def test_only_what_was_said_last_is_taken_back() -> None:
    ana = make_annotator()
    round_ = open_overlap_round(max_turns=1)
    for _ in range(2):
        make_judgement(round_=round_)
    first = judge_slot(claim(ana))
    second = judge_slot(claim(ana))
    with pytest.raises(RetractionError, match="only what you said last"):
        take_back(first)
    take_back(second)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", KINDS)
def test_the_pair_given_since_stays_theirs(kind: JudgementKind) -> None:
    ana = make_annotator()
    judgement = judge_slot(slot_of(kind, ana))
    make_judgement(round_=open_overlap_round(max_turns=1))
    following = claim(ana)
    take_back(judgement)
    assert held_slot(ana) == following
    judge_slot(Slot.objects.get(comparison=judgement.comparison, number=judgement.slot))
    assert claim(ana) == following


@pytest.mark.django_db
def test_what_is_not_judged_anew_goes_to_others_and_is_not_lost() -> None:
    ana, ben = make_annotator(), make_annotator()
    slot = slot_of(JudgementKind.OVERLAP, ana)
    retraction = take_back(judge_slot(slot))
    assert services.claim_slot(annotator=ben) is None
    assert services.release_expired_leases() == 0
    past = timezone.now() - timedelta(seconds=1)
    Slot.objects.filter(pk=slot.pk).update(offered_at=past)

    assert services.release_expired_leases() == 1

    assert services.claim_slot(annotator=ana) is None, "they have said something of it"
    assert claim(ben) == slot
    slot.refresh_from_db()
    with pytest.raises(RetractionError, match="dealt with since"):
        services.restore_judgement(annotator=ana, retraction=retraction)
    with pytest.raises(SlotTakenError):
        judge_slot(slot, annotator=ana)
    judge_slot(slot)
    assert counter_drift(slot.round) == {}


@pytest.mark.django_db
def test_passed_on_after_all_it_goes_to_others_at_once() -> None:
    ana, ben = make_annotator(), make_annotator()
    slot = slot_of(JudgementKind.OVERLAP, ana)
    take_back(judge_slot(slot))
    slot.refresh_from_db()
    services.skip_slot(annotator=ana, slot=slot, reason="other")
    assert claim(ben) == slot


@pytest.mark.django_db
def test_a_repeat_taken_back_is_not_asked_a_second_time() -> None:
    ana = make_annotator()
    slot = slot_of(JudgementKind.REPEAT, ana)
    take_back(judge_slot(slot))
    again = services.claim_slot(annotator=ana)
    assert again is None or again.comparison != slot.comparison


@pytest.mark.django_db
def test_reviewers_are_not_asked_about_what_was_taken_back() -> None:
    ana = make_annotator()
    disputed = judge_slot(slot_of(JudgementKind.OVERLAP, ana), side=Side.RIGHT)
    assert ReviewItem.objects.get().source == "disagreement"
    retraction = take_back(disputed)
    assert not ReviewItem.objects.exists()
    services.restore_judgement(annotator=ana, retraction=retraction)
    assert ReviewItem.objects.get().source == "disagreement"

    ben = make_annotator()
    missed = judge_slot(slot_of(JudgementKind.GOLD, ben), side=Side.RIGHT)
    assert GoldComparison.objects.exists()
    assert ReviewItem.objects.filter(source="gold_miss").exists()
    take_back(missed)
    assert not ReviewItem.objects.filter(source="gold_miss").exists()


@pytest.mark.django_db
def test_a_snapshot_holds_what_stands() -> None:
    slot = slot_of(JudgementKind.OVERLAP, make_annotator())
    judgement = judge_slot(slot)
    assert len(list(preferences_of([slot.round]))) == 2
    take_back(judgement)
    assert len(list(preferences_of([slot.round]))) == 1


@pytest.mark.django_db(transaction=True)
def test_pressed_twice_at_the_same_moment_it_is_one_record() -> None:
    judgement = judge_slot(slot_of(JudgementKind.OVERLAP, make_annotator()))
    results = run_at_once([lambda: take_back(judgement)] * 4)
    assert len({result.pk for result in results if isinstance(result, Retraction)}) == 1
    assert not [result for result in results if isinstance(result, Exception)]
    assert counter_drift(judgement.comparison.round) == {}
