"""Who may work in which round: one place decides, and says what is missing."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.eligibility import Missing, Need, missing_for, missing_in
from annotation.errors import NotEligibleError, QualificationError
from annotation.models import (
    Attempt,
    Dialogue,
    Draft,
    Qualification,
    Requirement,
    Round,
    Slot,
    User,
)
from annotation.selectors import open_rounds
from annotation.services import PartFields, QuestionFields
from annotation.work import NothingReason, WorkKind, work_for
from records.preferences import Axis
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    grade_all,
    judge,
    judge_slot,
    make_annotator,
    make_guidelines,
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    open_test_round,
    start_test_dialogue,
    take_part,
    write_test_prompt,
)

pytestmark = pytest.mark.django_db


def require(qualification: Qualification, *, round_: Round) -> None:
    services.require_qualifications(lead=make_lead(), qualifications=[qualification], round_=round_)


def words(annotator: User, round_: Round) -> list[str]:
    return [item.message for item in missing_in(annotator, round_)]


def test_nothing_is_asked_where_nothing_is_defined() -> None:
    assert missing_in(make_annotator(), open_test_round(axis=Axis.SAFETY)) == ()


def test_a_required_test_is_missing_until_it_is_passed_and_again_once_the_pass_expires() -> None:
    annotator, round_, other = make_annotator(), open_test_round(), open_test_round()
    test = make_qualification(name="Language", valid_days=30)
    require(test, round_=round_)

    assert missing_in(annotator, other) == ()
    assert missing_in(annotator, round_) == (
        Missing(Need.QUALIFICATION, "pass the test Language", test.pk),
    )
    take_part(annotator, test, submits=False)
    assert words(annotator, round_) == ["go on with Language, which you have begun"]
    take_part(annotator, test, 1)
    assert words(annotator, round_) == ["you have not passed Language yet"]
    take_part(annotator, test, 0)
    assert missing_in(annotator, round_) == ()
    Attempt.objects.filter(state="passed").update(expires_at=timezone.now())
    assert words(annotator, round_) == ["your pass of Language has expired: take it again"]


def test_a_test_that_is_being_graded_is_missing_and_says_so() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    written = QuestionFields("written", "Explain why the sky is blue.")
    test = make_qualification(
        (PartFields("I", rule="mean_grade", mark=4), [written]), name="Language"
    )
    require(test, round_=round_)
    attempt = take_part(annotator, test, "Light is scattered.")
    assert words(annotator, round_) == ["your answers to Language are being graded"]
    grade_all(attempt, 4)
    assert missing_in(annotator, round_) == ()


def test_an_axis_requires_for_all_of_its_rounds_and_tutorials_come_first() -> None:
    annotator = make_annotator()
    test, tutorial = (
        make_qualification(name="Language"),
        make_qualification(name="First pairs", kind="tutorial"),
    )
    services.require_qualifications(
        lead=make_lead(), qualifications=[test, tutorial], axis=Axis.SAFETY
    )
    safety, helpful = open_test_round(axis=Axis.SAFETY), open_test_round()
    require(test, round_=safety)
    missing = missing_for(annotator, [safety, helpful])
    assert missing[helpful.pk] == ()
    assert [item.message for item in missing[safety.pk]] == [
        "go through the tutorial First pairs",
        "pass the test Language",  # required twice, asked for once
    ]


def test_what_is_required_is_replaced_and_a_draft_cannot_be_required() -> None:
    lead, round_ = make_lead(), open_test_round()
    one, two = make_qualification(), make_qualification()
    for wanted in ([one, two], [two]):
        services.require_qualifications(lead=lead, qualifications=wanted, round_=round_)
    assert [item.qualification for item in Requirement.objects.all()] == [two]
    with pytest.raises(QualificationError, match="still requires it; lift that first"):
        services.retire_qualification(lead=lead, qualification=two)
    draft = services.copy_qualification(lead=lead, qualification=one)
    with pytest.raises(QualificationError, match="is draft"):
        services.require_qualifications(lead=lead, qualifications=[draft], round_=round_)


def test_who_is_not_qualified_begins_no_dialogue_and_is_told_what_is_missing() -> None:
    annotator, round_ = make_annotator(), open_test_round("Week 14")
    require(make_qualification(name="Language"), round_=round_)

    work = work_for(annotator)
    assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.NOT_YET)
    assert [item.message for item in work.missing] == ["pass the test Language"]
    with pytest.raises(NotEligibleError, match="you cannot work in 'Week 14' now: pass the test"):
        start_test_dialogue(annotator, round_)
    assert not Dialogue.objects.exists()

    free = open_test_round()
    assert work_for(annotator).round == free


def test_a_pass_that_expires_keeps_the_words_and_lets_the_open_pair_be_judged() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    comparison = make_ready_comparison(annotator, round_=round_)
    require(make_qualification(), round_=round_)

    assert work_for(annotator).kind is WorkKind.JUDGE
    judge(comparison)
    assert work_for(annotator).reason is NothingReason.NOT_YET
    with pytest.raises(NotEligibleError):
        write_test_prompt(annotator, comparison.dialogue, "My careful words")
    assert Draft.objects.get().fields["text"] == "My careful words"


def test_new_guidelines_are_confirmed_before_going_on() -> None:
    annotator, first = make_annotator(), open_test_round()
    start_test_dialogue(annotator, first)
    assert missing_in(annotator, first) == ()
    make_guidelines()
    second, safety = open_test_round(), open_test_round(axis=Axis.SAFETY)

    assert missing_in(annotator, safety) == (), "the first version on an axis is begun with"
    (missing,) = missing_in(annotator, second)
    assert (missing.need, missing.pk) == (Need.GUIDELINES, second.guidelines_id)
    with pytest.raises(NotEligibleError, match="see what is new"):
        start_test_dialogue(annotator, second)

    for _ in range(2):
        confirmation = services.confirm_guidelines(
            annotator=annotator, guidelines=second.guidelines
        )
    assert confirmation.earlier == first.guidelines
    assert missing_in(annotator, second) == missing_in(annotator, first) == ()


def test_simulated_annotators_are_asked_for_nothing() -> None:
    round_ = open_test_round()
    require(make_qualification(), round_=round_)
    services.publish_consent_document(version="1", text="Text.", created_by=make_lead())
    assert missing_in(make_annotator(persona="careful"), round_) == ()


def test_asking_costs_the_same_for_many_rounds(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    annotator = make_annotator()
    for _ in range(5):
        open_test_round()
    rounds = list(open_rounds())
    with django_assert_num_queries(1):
        missing_for(annotator, rounds)
    for round_ in rounds:
        require(make_qualification(), round_=round_)
    services.save_wellbeing_choices(
        annotator=annotator, covers_responses=True, opted_out=["violence"]
    )
    # The facts; requirements and attempts; warnings and what is not wanted.
    with django_assert_num_queries(5):
        assert all(missing_for(annotator, rounds).values())


def test_the_same_start_sent_twice_is_found_though_the_pass_has_expired_meanwhile() -> None:
    annotator, round_, key = make_annotator(), open_test_round(), uuid.uuid4()
    first = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    require(make_qualification(), round_=round_)
    again = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    assert again == first
    assert timezone.now() - first.created_at < timedelta(minutes=5)


def opt_out(annotator: User, *categories: str) -> None:
    services.save_wellbeing_choices(
        annotator=annotator, covers_responses=True, opted_out=categories
    )


def test_further_judgements_are_leased_only_where_nothing_is_missing() -> None:
    annotator, asked = make_annotator(), open_overlap_round()
    test = make_qualification()
    make_judgement(round_=asked)
    require(test, round_=asked)

    assert services.claim_slot(annotator=annotator) is None
    assert services.take_work(annotator=annotator).reason is NothingReason.NOT_YET
    assert Slot.objects.get().state == Slot.State.FREE

    free = open_overlap_round()
    make_judgement(round_=free)
    work = services.take_work(annotator=annotator)
    assert (work.kind, work.round) == (WorkKind.SLOT, free)
    assert work.slot is not None
    judge_slot(work.slot)
    take_part(annotator, test, 0)
    assert services.take_work(annotator=annotator).round == asked


def test_an_opt_out_holds_a_leased_pair_back_and_refuses_no_judgement() -> None:
    annotator, unsafe = make_annotator(), open_overlap_round(axis=Axis.SAFETY)
    make_judgement(round_=unsafe)
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    other = open_overlap_round()
    make_judgement(round_=other)
    opt_out(annotator, "hateful_and_harmful")

    assert services.claim_slot(annotator=annotator) is None
    work = services.take_work(annotator=annotator)
    assert (work.kind, work.round) == (WorkKind.START, other)
    assert judge_slot(slot).slot == 1
    assert services.take_work(annotator=annotator).kind is WorkKind.SLOT


def test_a_pass_that_expires_leaves_a_leased_pair_alone() -> None:
    annotator, round_ = make_annotator(), open_overlap_round()
    make_judgement(round_=round_)
    slot = services.claim_slot(annotator=annotator)
    require(make_qualification(), round_=round_)

    assert services.claim_slot(annotator=annotator) == slot
    assert work_for(annotator).slot == slot
    assert services.take_work(annotator=annotator).slot == slot


def test_a_pair_that_is_held_back_does_not_stand_before_one_that_is_not() -> None:
    annotator = make_annotator()
    make_ready_comparison(annotator, round_=open_test_round(axis=Axis.SAFETY))
    ready = make_ready_comparison(annotator, round_=open_test_round())
    opt_out(annotator, "hateful_and_harmful")
    assert services.take_work(annotator=annotator).comparison == ready
