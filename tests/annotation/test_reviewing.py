"""Every decision on a comparison is a record, and so is taking it back; snapshots follow."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.errors import DecisionError, JudgementError, NotAllowedError
from annotation.models import (
    Comparison,
    Correction,
    Exclusion,
    Judgement,
    ReviewDecision,
    ReviewItem,
    Round,
    User,
)
from annotation.scale import Side
from annotation.selectors import counter_drift, round_progress
from annotation.snapshots import freeze_snapshot, preferences_of
from records.dialogues import Dialogue as DialogueRecord
from records.preferences import Axis, Preference, Rating, SafetyBin
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


def flag(comparison: Comparison, note: str = "odd") -> ReviewItem:
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note=note
    )
    return comparison.review_items.get(source="flag")


def correct(
    judgement: Judgement,
    side: Side,
    rating: Rating = Rating.SLIGHTLY_BETTER,
    *,
    safety_bin: str | None = None,
    reviewer: User | None = None,
) -> Correction:
    return services.correct_judgement(
        reviewer=reviewer or make_reviewer(),
        judgement=judgement,
        chosen_sample_id=judgement.comparison.samples.get(side=side).pk,
        rating=rating,
        safety_bin=safety_bin,
        client_key=uuid.uuid4(),
    )


def exclude(judgement: Judgement) -> ReviewDecision:
    exclusion = services.exclude_judgement(
        reviewer=make_reviewer(), judgement=judgement, reason="spam"
    )
    return exclusion.decision


def undo(decision: ReviewDecision) -> ReviewDecision:
    return services.undo_decision(
        reviewer=make_reviewer(), decision=decision, client_key=uuid.uuid4()
    )


def only(round_: Round) -> Preference:
    (preference,) = preferences_of([round_])
    return preference


def test_accepting_settles_what_waited_and_says_who() -> None:
    judgement, reviewer = make_judgement(), make_reviewer()
    item = flag(judgement.comparison)
    decision = services.accept_comparison(
        reviewer=reviewer, comparison=judgement.comparison, client_key=uuid.uuid4(), note="fine"
    )
    item.refresh_from_db()
    assert (item.state, item.decided_by) == ("decided", decision)
    assert (decision.kind, decision.reviewer, decision.note) == ("accept", reviewer, "fine")


def test_one_decision_settles_every_reason_to_look() -> None:
    comparison = make_judgement().comparison
    flag(comparison)
    services.queue_gold_miss(comparison=comparison, reason="The gold answer is B.")
    services.accept_comparison(
        reviewer=make_reviewer(), comparison=comparison, client_key=uuid.uuid4()
    )
    assert set(comparison.review_items.values_list("state", flat=True)) == {"decided"}


def test_what_is_unclear_waits_for_a_lead_and_needs_a_note() -> None:
    comparison = make_judgement().comparison
    item = flag(comparison)
    with pytest.raises(JudgementError, match="what the guidelines leave open"):
        services.report_unclear(
            reviewer=make_reviewer(), comparison=comparison, client_key=uuid.uuid4(), note=" "
        )
    unclear = services.report_unclear(
        reviewer=make_reviewer(),
        comparison=comparison,
        client_key=uuid.uuid4(),
        note="Is slang allowed?",
    )
    item.refresh_from_db()
    assert (item.state, item.decided_by) == ("unclear", unclear)
    accepted = services.accept_comparison(
        reviewer=make_reviewer(), comparison=comparison, client_key=uuid.uuid4()
    )
    undo(accepted)
    item.refresh_from_db()
    assert (item.state, item.decided_by) == ("unclear", unclear)
    undo(unclear)
    item.refresh_from_db()
    assert (item.state, item.decided_by) == ("open", None)


def test_excluded_re_included_and_excluded_again_snapshots_follow() -> None:
    round_ = open_test_round()
    judgement = make_judgement(round_=round_)
    whole = freeze_snapshot(rounds=[round_], name="whole")

    first = exclude(judgement)
    assert list(preferences_of([round_])) == []
    assert round_progress(round_).num_excluded == 1

    undo(first)
    assert only(round_).preference_id == str(judgement.uuid)
    assert round_progress(round_).num_excluded == 0
    assert freeze_snapshot(rounds=[round_], name="again").artifact == whole.artifact

    second = exclude(judgement)
    assert second != first
    assert list(preferences_of([round_])) == []
    assert counter_drift(round_) == {}
    assert Exclusion.objects.count() == 2
    assert [row.kind for row in ReviewDecision.objects.order_by("pk")] == [
        "exclude",
        "undo",
        "exclude",
    ]


def test_a_correction_stands_in_snapshots_and_the_judgement_stays() -> None:
    round_, reviewer = open_test_round(), make_reviewer()
    judgement = make_judgement(round_=round_)
    before = only(round_)
    correction = correct(judgement, Side.RIGHT, Rating.NEGLIGIBLY_BETTER, reviewer=reviewer)

    after = only(round_)
    assert (after.chosen, after.rejected) == (before.rejected, before.chosen)
    assert (after.chosen_policy, after.rejected_policy) == (
        before.rejected_policy,
        before.chosen_policy,
    )
    assert after.rating is Rating.NEGLIGIBLY_BETTER
    assert after.annotator == reviewer.pseudonym
    assert after.preference_id == before.preference_id
    unchanged = Judgement.objects.get(pk=judgement.pk)
    assert (unchanged.chosen_sample, unchanged.rating) == (judgement.chosen_sample, "better")

    undo(correction.decision)
    assert only(round_) == before


def test_later_turns_still_answer_to_the_response_that_was_chosen_then() -> None:
    round_ = open_test_round(max_turns=2)
    first = judge(make_ready_comparison(round_=round_, text="Question 0?"))
    judge(make_ready_comparison(dialogue=first.comparison.dialogue, text="Question 1?"))
    correct(first, Side.RIGHT)
    corrected, later = preferences_of([round_])
    assert corrected.rejected == first.chosen_sample.text
    assert later.prompt == DialogueRecord.from_texts(
        "Question 0?", first.chosen_sample.text, "Question 1?"
    )


def test_a_correction_in_a_safety_round_names_the_bin() -> None:
    round_ = open_test_round(axis=Axis.SAFETY)
    judgement = make_judgement(round_=round_)
    with pytest.raises(JudgementError, match="say which of the two") as refused:
        correct(judgement, Side.RIGHT)
    assert refused.value.field == "safety_bin"
    with pytest.raises(JudgementError, match="prefer a response that you call unsafe"):
        correct(judgement, Side.RIGHT, safety_bin="other_safe")
    correct(judgement, Side.RIGHT, safety_bin="chosen_safe")
    assert only(round_).safety_bin is SafetyBin.CHOSEN_SAFE


def test_a_correction_differs_and_fits() -> None:
    judgement = make_judgement()
    with pytest.raises(JudgementError, match="accept it instead"):
        correct(judgement, Side.LEFT, Rating.BETTER)
    with pytest.raises(JudgementError, match="does not ask"):
        correct(judgement, Side.RIGHT, safety_bin="both_safe")
    other = make_ready_comparison()
    with pytest.raises(JudgementError, match="one of the two responses"):
        services.correct_judgement(
            reviewer=make_reviewer(),
            judgement=judgement,
            chosen_sample_id=other.samples.get(side=Side.LEFT).pk,
            rating="better",
            safety_bin=None,
            client_key=uuid.uuid4(),
        )
    correction = correct(judgement, Side.RIGHT)
    with pytest.raises(IntegrityError, match="chosen_is_of_comparison"), transaction.atomic():
        Correction.objects.filter(pk=correction.pk).update(displayed_side="left")


def test_one_correction_holds_at_a_time_and_none_beside_an_exclusion() -> None:
    judgement = make_judgement()
    first = correct(judgement, Side.RIGHT)
    with pytest.raises(DecisionError, match="corrected already"):
        correct(judgement, Side.RIGHT, Rating.BETTER)
    undo(first.decision)
    exclusion = exclude(judgement)
    with pytest.raises(DecisionError, match="is excluded"):
        correct(judgement, Side.RIGHT, Rating.BETTER)
    undo(exclusion)
    correct(judgement, Side.RIGHT, Rating.BETTER)
    with pytest.raises(IntegrityError, match="correction_one_active"), transaction.atomic():
        Correction.objects.filter(pk=first.pk).update(is_active=True)


def test_taking_back_twice_is_one_record_and_is_not_taken_back_itself() -> None:
    judgement = make_judgement()
    decision = exclude(judgement)
    first = undo(decision)
    assert undo(decision) == first
    assert round_progress(judgement.comparison.round).num_excluded == 0
    with pytest.raises(DecisionError, match="decide anew"):
        undo(first)


def test_the_same_form_sent_twice_is_one_decision() -> None:
    judgement, reviewer, key = make_judgement(), make_reviewer(), uuid.uuid4()
    for _ in range(2):
        services.accept_comparison(
            reviewer=reviewer, comparison=judgement.comparison, client_key=key
        )
    assert ReviewDecision.objects.count() == 1
    key = uuid.uuid4()
    made = [
        services.exclude_judgement(
            reviewer=reviewer, judgement=judgement, reason="spam", client_key=key
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    undo(made[0].decision)
    again = services.exclude_judgement(
        reviewer=reviewer, judgement=judgement, reason="spam", client_key=key
    )
    assert again == made[0]
    assert round_progress(judgement.comparison.round).num_excluded == 0


@pytest.mark.django_db(transaction=True)
def test_of_many_reviewers_at_once_one_excludes_and_the_counter_is_right() -> None:
    judgement = make_judgement()
    reviewers = [make_reviewer() for _ in range(6)]
    results = run_at_once(
        [
            lambda person=person: services.exclude_judgement(
                reviewer=person, judgement=judgement, reason="spam"
            )
            for person in reviewers
        ]
    )
    assert len({result.pk for result in results if isinstance(result, Exclusion)}) == 1
    assert all(isinstance(result, Exclusion) for result in results)
    assert counter_drift(judgement.comparison.round) == {}
    assert round_progress(judgement.comparison.round).num_excluded == 1


def test_annotators_decide_nothing() -> None:
    judgement = make_judgement()
    person = make_annotator()
    decision = exclude(judgement)
    with pytest.raises(NotAllowedError):
        services.accept_comparison(
            reviewer=person, comparison=judgement.comparison, client_key=uuid.uuid4()
        )
    with pytest.raises(NotAllowedError):
        correct(judgement, Side.RIGHT, reviewer=person)
    with pytest.raises(NotAllowedError):
        services.undo_decision(reviewer=person, decision=decision, client_key=uuid.uuid4())
