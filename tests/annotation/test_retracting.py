"""Taking back what one said last: a record, reversible, while nobody has built on it."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.errors import KeyReusedError, NotFoundError, RetractionError
from annotation.exposure import exposure_of
from annotation.histories import history_of, last_to_take_back, retraction_of
from annotation.models import Comparison, Dialogue, Judgement, Retraction, ReviewItem, User
from annotation.scale import Side
from annotation.selectors import counter_drift
from annotation.snapshots import preferences_of
from records.preferences import Axis, Rating
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge,
    judge_slot,
    make_annotator,
    make_judgement,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    write_test_prompt,
)
from tests.races import run_at_once


def take_back(judgement: Judgement, *, annotator: User | None = None) -> Retraction:
    return services.retract_judgement(
        annotator=annotator or judgement.annotator, judgement=judgement, client_key=uuid.uuid4()
    )


@pytest.mark.django_db
def test_what_is_taken_back_counts_nowhere_and_its_pair_is_to_be_judged_again() -> None:
    judgement = make_judgement(round_=open_test_round(max_turns=1))
    comparison, dialogue = judgement.comparison, judgement.comparison.dialogue

    retraction = take_back(judgement)

    assert (retraction.is_active, retraction.ended_at) == (True, None)
    comparison.refresh_from_db()
    dialogue.refresh_from_db()
    assert comparison.state == Comparison.State.READY
    assert (dialogue.num_turns, dialogue.state) == (0, Dialogue.State.OPEN)
    assert not Judgement.objects.exists()
    stored = Judgement.with_retracted.get()
    assert (stored.rating, stored.chosen_sample_id) == (
        judgement.rating,
        judgement.chosen_sample_id,
    )
    assert list(preferences_of([comparison.round])) == []
    assert history_of(dialogue) is None
    assert counter_drift(comparison.round) == {}


@pytest.mark.django_db
def test_another_judgement_takes_its_place_and_both_stay() -> None:
    first = make_judgement()
    take_back(first)
    comparison = Comparison.objects.get()

    second = judge(comparison, side=Side.RIGHT, rating=Rating.SLIGHTLY_BETTER)

    assert list(Judgement.objects.all()) == [second]
    assert Judgement.with_retracted.count() == 2
    (preference,) = preferences_of([comparison.round])
    assert preference.preference_id == str(second.uuid)
    history = history_of(Dialogue.objects.get())
    assert history is not None
    assert history.turns[-1].text == second.chosen_sample.text
    assert counter_drift(comparison.round) == {}
    with pytest.raises(RetractionError, match="dealt with since"):
        services.restore_judgement(annotator=first.annotator, retraction=Retraction.objects.get())


@pytest.mark.django_db
def test_it_stands_again_when_its_annotator_says_so_and_may_be_taken_back_once_more() -> None:
    judgement = make_judgement()
    retraction = take_back(judgement)
    for _ in range(2):  # the second time changes nothing
        assert (
            services.restore_judgement(annotator=judgement.annotator, retraction=retraction)
            == judgement
        )
    retraction.refresh_from_db()
    assert retraction.ended_at is not None
    assert list(Judgement.objects.all()) == [judgement]
    assert Dialogue.objects.get().num_turns == 1
    assert counter_drift(judgement.comparison.round) == {}

    take_back(judgement)
    assert [row.is_active for row in Retraction.objects.order_by("pk")] == [False, True]


@pytest.mark.django_db
def test_the_same_form_twice_is_one_record() -> None:
    judgement = make_judgement()
    key = uuid.uuid4()
    first, second = (
        services.retract_judgement(
            annotator=judgement.annotator, judgement=judgement, client_key=key
        )
        for _ in range(2)
    )
    assert first == second
    other = make_judgement()
    with pytest.raises(KeyReusedError):
        services.retract_judgement(annotator=other.annotator, judgement=other, client_key=key)
    assert Judgement.objects.get() == other


@pytest.mark.django_db
def test_a_judgement_form_sent_again_after_it_was_taken_back_changes_nothing() -> None:
    key = uuid.uuid4()
    judgement = judge(make_ready_comparison(), client_key=key)
    take_back(judgement)
    assert judge(judgement.comparison, client_key=key) == judgement
    assert not Judgement.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("since", "message"),
    [
        ("a prompt", "gone on"),
        ("a later judgement", "said last"),
        ("a closed round", "closed"),
        ("a decision", "somebody else"),
        ("an exclusion", "somebody else"),
        ("another reader", "somebody else"),
    ],
)
def test_it_stands_once_somebody_has_built_on_it(since: str, message: str) -> None:
    ana = make_annotator()
    judgement = make_judgement(ana, round_=open_overlap_round())
    comparison = judgement.comparison
    if since == "a prompt":
        write_test_prompt(ana, comparison.dialogue, "And soft?")
    elif since == "a later judgement":
        make_judgement(ana)
    elif since == "a closed round":
        services.close_round(round_=comparison.round, closed_by=comparison.round.opened_by)
    elif since == "a decision":
        services.accept_comparison(
            reviewer=make_reviewer(), comparison=comparison, client_key=uuid.uuid4()
        )
    elif since == "an exclusion":
        services.exclude_judgement(reviewer=make_reviewer(), judgement=judgement, reason="spam")
    else:
        slot = services.claim_slot(annotator=make_annotator())
        assert slot is not None
        judge_slot(slot)
    with pytest.raises(RetractionError, match=message):
        take_back(judgement)
    assert Judgement.objects.filter(pk=judgement.pk).exists()
    assert not Retraction.objects.exists()


@pytest.mark.django_db
def test_nobody_takes_back_or_restores_what_somebody_else_said() -> None:
    judgement = make_judgement(round_=open_overlap_round())
    stranger = make_annotator()
    with pytest.raises(NotFoundError):
        take_back(judgement, annotator=stranger)
    retraction = take_back(judgement)
    with pytest.raises(NotFoundError):
        services.restore_judgement(annotator=stranger, retraction=retraction)


@pytest.mark.django_db
def test_a_disagreement_that_a_new_judgement_brings_is_put_before_reviewers() -> None:
    judgement = make_judgement(round_=open_overlap_round())
    take_back(judgement)
    slot = services.claim_slot(annotator=make_annotator())
    assert slot is not None
    judge_slot(slot, side=Side.RIGHT)
    assert not ReviewItem.objects.exists()
    judge(Comparison.objects.get(), side=Side.LEFT)
    assert ReviewItem.objects.get().source == ReviewItem.Source.DISAGREEMENT
    assert counter_drift(judgement.comparison.round) == {}


@pytest.mark.django_db
def test_the_page_learns_what_may_be_taken_back_and_what_was() -> None:
    judgement = make_judgement()
    dialogue = Dialogue.objects.get()
    assert last_to_take_back(dialogue) == judgement.comparison
    assert retraction_of(judgement.comparison) is None
    retraction = take_back(judgement)
    dialogue.refresh_from_db()
    assert last_to_take_back(dialogue) is None
    assert retraction_of(judgement.comparison) == retraction


@pytest.mark.django_db
def test_the_database_keeps_one_standing_judgement_of_a_slot() -> None:
    judgement = make_judgement()
    take_back(judgement)
    judge(Comparison.objects.get())
    with pytest.raises(IntegrityError), transaction.atomic():
        Judgement.with_retracted.filter(pk=judgement.pk).update(is_retracted=False)


@pytest.mark.django_db(transaction=True)
def test_taking_back_and_going_on_at_the_same_moment_leave_one_of_the_two() -> None:
    judgement = make_judgement()
    dialogue = Dialogue.objects.get()
    results = run_at_once(
        [
            lambda: take_back(judgement),
            lambda: write_test_prompt(judgement.annotator, dialogue, "And soft?"),
        ]
    )
    assert sum(isinstance(result, Exception) for result in results) == 1, results
    has_gone_on = Comparison.objects.filter(turn=1).exists()
    assert Retraction.objects.exists() != has_gone_on
    assert Judgement.objects.exists() == has_gone_on
    assert counter_drift(judgement.comparison.round) == {}


@pytest.mark.django_db
def test_what_is_taken_back_was_read_all_the_same() -> None:
    judgement = make_judgement(round_=open_test_round(axis=Axis.SAFETY))
    before = exposure_of(judgement.annotator).seconds_today
    assert before == judgement.active_seconds
    take_back(judgement)
    assert exposure_of(judgement.annotator).seconds_today == before
