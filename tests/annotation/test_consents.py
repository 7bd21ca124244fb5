"""Consent: given, asked anew, taken back; what was taken back is in no snapshot any more."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.eligibility import Need, missing_in
from annotation.errors import ConsentError, KeyReusedError, NotAllowedError, StateError
from annotation.models import Comparison, Consent, ConsentDocument, Judgement, User, Withdrawal
from annotation.services import Guidance
from annotation.snapshots import freeze_snapshot, preferences_of
from annotation.withdrawals import reach_of
from records.errors import RecordError
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
)
from tests.registry.test_lineage import rejection_sampled, reward_model, sft

pytestmark = pytest.mark.django_db


def publish(version: str = "1") -> ConsentDocument:
    return services.publish_consent_document(
        version=version, text=f"Text of {version}.", created_by=make_lead()
    )


def withdraw(annotator: User) -> Withdrawal:
    return services.withdraw_consent(annotator=annotator, client_key=uuid.uuid4())


def needs(annotator: User) -> list[Need]:
    return [item.need for item in missing_in(annotator, open_test_round())]


def test_consent_comes_before_the_first_work_and_again_with_a_new_version() -> None:
    annotator = make_annotator()
    assert needs(annotator) == []
    first = publish("1")
    assert needs(annotator) == [Need.CONSENT]
    given = services.give_consent(annotator=annotator, document=first)
    assert services.give_consent(annotator=annotator, document=first) == given
    assert needs(annotator) == []

    second = publish("2")
    assert needs(annotator) == [Need.CONSENT]
    with pytest.raises(ConsentError, match="there is a newer version"):
        services.give_consent(annotator=annotator, document=first)
    services.give_consent(annotator=annotator, document=second)
    assert needs(annotator) == []


def test_a_version_has_one_text_and_comes_from_a_lead() -> None:
    publish("1")
    with pytest.raises(ConsentError, match="use a new version"):
        services.publish_consent_document(version="1", text="Other.", created_by=make_lead())
    for version, text in (("", "Text."), ("2", "  "), ("x" * 21, "Text.")):
        with pytest.raises(ConsentError, match="a version of 1 to 20 characters"):
            services.publish_consent_document(version=version, text=text, created_by=make_lead())
    for person in (make_annotator(), make_reviewer()):
        with pytest.raises(NotAllowedError):
            services.publish_consent_document(version="3", text="Text.", created_by=person)


def test_what_was_judged_before_a_withdrawal_is_in_no_snapshot_after_it() -> None:
    round_, annotator = open_test_round(max_turns=1), make_annotator()
    mine, other = make_judgement(annotator, round_=round_), make_judgement(round_=round_)
    withdraw(annotator)
    assert [p.preference_id for p in preferences_of([round_])] == [str(other.uuid)]
    assert Judgement.objects.filter(pk=mine.pk).exists(), "nothing is deleted"


def test_what_is_judged_after_coming_back_counts_and_the_earlier_work_does_not() -> None:
    round_, annotator, document = open_test_round(max_turns=1), make_annotator(), publish()
    services.give_consent(annotator=annotator, document=document)
    make_judgement(annotator, round_=round_)
    withdraw(annotator)
    assert needs(annotator) == [Need.CONSENT]
    services.give_consent(annotator=annotator, document=document)
    later = make_judgement(annotator, round_=round_)
    assert [p.preference_id for p in preferences_of([round_])] == [str(later.uuid)]


def test_withdrawn_turns_stay_history_of_nobody_and_open_dialogues_end() -> None:
    round_, annotator = open_test_round(max_turns=3), make_annotator()
    comparison = make_ready_comparison(annotator, round_=round_)
    idle = start_test_dialogue(annotator, round_)
    withdraw(annotator)
    comparison.refresh_from_db()
    idle.refresh_from_db()
    assert comparison.state == Comparison.State.SKIPPED
    assert not comparison.dialogue.is_open
    assert not idle.is_open
    with pytest.raises(StateError):
        judge(comparison)
    with pytest.raises(RecordError, match="at least one preference"):
        freeze_snapshot(rounds=[round_], name="week 1")


def test_one_key_is_one_withdrawal_and_nobody_elses() -> None:
    annotator, key = make_annotator(), uuid.uuid4()
    first = services.withdraw_consent(annotator=annotator, client_key=key)
    assert services.withdraw_consent(annotator=annotator, client_key=key) == first
    with pytest.raises(KeyReusedError):
        services.withdraw_consent(annotator=make_annotator(), client_key=key)
    assert Withdrawal.objects.count() == 1


def test_everything_that_learned_from_a_withdrawn_judgement_is_listed() -> None:
    round_, other_round = open_test_round(max_turns=1), open_test_round(max_turns=1)
    annotator = make_annotator()
    for _ in range(2):
        make_judgement(annotator, round_=round_)
    make_judgement(round_=round_)
    make_judgement(round_=other_round)
    held = freeze_snapshot(rounds=[round_, other_round], name="held")
    freeze_snapshot(rounds=[other_round], name="without them")
    first = withdraw(annotator)
    freeze_snapshot(rounds=[round_], name="after")

    reach = reach_of(first)
    assert reach.num_judgements == 2
    assert [(use.snapshot, use.num_judgements) for use in reach.snapshots] == [(held, 2)]
    assert (reach.reward_models, reach.policies) == ((), ())


def test_the_models_that_learned_from_such_a_snapshot_are_listed_too() -> None:
    annotator, round_ = make_annotator(), open_test_round(max_turns=1)
    make_judgement(annotator, round_=round_)
    held = freeze_snapshot(rounds=[round_], name="held")
    base = sft()
    reward_model_version = reward_model(base, held, "RM1")
    policy = rejection_sampled(base, reward_model_version, "V1")

    reach = reach_of(withdraw(annotator))

    assert reach.reward_models == (reward_model_version,)
    assert reach.policies == (policy,), "the base is older than the judgement"


def test_a_second_withdrawal_reaches_only_what_came_between() -> None:
    round_, annotator, document = open_test_round(max_turns=1), make_annotator(), publish()
    for number in range(2):
        services.give_consent(annotator=annotator, document=document)
        make_judgement(annotator, round_=round_)
        if number == 0:
            withdraw(annotator)
    second = freeze_snapshot(rounds=[round_], name="second")
    reach = reach_of(withdraw(annotator))
    assert reach.num_judgements == 1
    assert [(use.snapshot, use.num_judgements) for use in reach.snapshots] == [(second, 1)]


def test_the_database_keeps_one_consent_to_a_version_at_a_time() -> None:
    annotator, document = make_annotator(), publish()
    services.give_consent(annotator=annotator, document=document)
    with pytest.raises(IntegrityError, match="consent_given_once"), transaction.atomic():
        Consent.objects.create(annotator=annotator, document=document)


def test_a_withdrawal_gives_back_what_was_held_of_others() -> None:
    annotator = make_annotator()
    make_judgement(round_=open_overlap_round())
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    withdraw(annotator)
    assert services.release_expired_leases() == 1
    assert services.claim_slot(annotator=make_annotator()) == slot
    assert services.claim_slot(annotator=annotator) is None


def test_a_withdrawal_ends_dialogues_that_have_too_few_turns() -> None:
    round_ = open_test_round(guidance=Guidance(min_turns=2))
    dialogue = make_judgement(round_=round_).comparison.dialogue
    withdraw(dialogue.annotator)
    dialogue.refresh_from_db()
    assert not dialogue.is_open
