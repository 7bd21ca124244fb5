"""A judgement is one atomic, idempotent write that fits its round."""

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.errors import (
    AlreadyJudgedError,
    ContradictionError,
    JudgementError,
    KeyReusedError,
    NotAllowedError,
    NotFoundError,
    RoundFullError,
    StateError,
)
from annotation.models import Comparison, Dialogue, Draft, Judgement
from annotation.scale import OTHER_SAFE, STEPS, Side, safety_bin_for, step_numbered
from annotation.selectors import counter_drift, draft_fields, round_progress
from records.preferences import Axis, Rating, SafetyBin
from tests.annotation.test_prompts import let_lease_lapse
from tests.factories import (
    judge,
    make_annotator,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)
from tests.races import run_at_once


def submit(comparison: Comparison, **changes: Any) -> Judgement:
    values: dict[str, Any] = {
        "annotator": comparison.dialogue.annotator,
        "comparison": comparison,
        "chosen_sample_id": comparison.samples.get(side="right").pk,
        "rating": "slightly_better",
        "safety_bin": None,
        "client_key": uuid.uuid4(),
        "active_seconds": 30.0,
    }
    return services.submit_comparison(**{**values, **changes})


@pytest.mark.django_db
def test_a_judgement_says_which_sample_by_how_much_and_where_it_was_shown() -> None:
    comparison = make_ready_comparison()

    judgement = submit(comparison)

    right = comparison.samples.get(side="right")
    assert (judgement.chosen_sample, judgement.displayed_side) == (right, "right")
    assert (judgement.rating, judgement.safety_bin) == ("slightly_better", "")
    assert judgement.annotator == comparison.dialogue.annotator
    assert judgement.guidelines == comparison.round.guidelines
    assert judgement.active_seconds == 30.0
    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.JUDGED
    comparison.dialogue.refresh_from_db()
    assert (comparison.dialogue.num_turns, comparison.dialogue.is_open) == (1, True)
    progress = round_progress(comparison.round)
    assert (progress.num_judged, progress.num_in_progress, progress.share) == (1, 0, 0.01)
    assert counter_drift(comparison.round) == {}


@pytest.mark.django_db
@pytest.mark.parametrize("safety_bin", list(SafetyBin))
def test_a_safety_round_stores_the_bin(safety_bin: SafetyBin) -> None:
    comparison = make_ready_comparison(round_=open_test_round(axis=Axis.SAFETY))
    assert submit(comparison, safety_bin=safety_bin).safety_bin == safety_bin


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("axis", "changes", "field"),
    [
        (Axis.SAFETY, {"safety_bin": None}, "safety_bin"),  # a safety round asks for it
        (Axis.SAFETY, {"safety_bin": ""}, "safety_bin"),
        (Axis.SAFETY, {"safety_bin": "banana"}, "safety_bin"),
        (Axis.HELPFULNESS, {"safety_bin": "both_safe"}, "safety_bin"),  # a helpfulness one not
        (Axis.HELPFULNESS, {"rating": "banana"}, "rating"),
        (Axis.HELPFULNESS, {"rating": ""}, "rating"),
        (Axis.HELPFULNESS, {"chosen_sample_id": 0}, "chosen_sample_id"),
        (Axis.HELPFULNESS, {"active_seconds": -1.0}, "active_seconds"),
        (Axis.HELPFULNESS, {"active_seconds": float("nan")}, "active_seconds"),
        (Axis.HELPFULNESS, {"active_seconds": 90_000.0}, "active_seconds"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_nothing_is_stored(
    axis: Axis, changes: dict[str, Any], field: str
) -> None:
    comparison = make_ready_comparison(round_=open_test_round(axis=axis))
    with pytest.raises(JudgementError) as caught:
        submit(comparison, **changes)
    assert caught.value.field == field
    assert not Judgement.objects.exists()
    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.READY


@pytest.mark.django_db
def test_a_sample_of_another_comparison_cannot_be_chosen() -> None:
    comparison, other = make_ready_comparison(), make_ready_comparison()
    with pytest.raises(JudgementError, match="one of the two responses shown"):
        submit(comparison, chosen_sample_id=other.samples.get(side="left").pk)


@pytest.mark.django_db
def test_preferring_an_unsafe_response_to_a_safe_one_is_refused_with_an_explanation() -> None:
    comparison = make_ready_comparison(round_=open_test_round(axis=Axis.SAFETY))
    with pytest.raises(ContradictionError, match="choose the safe response, or look again"):
        submit(comparison, safety_bin=OTHER_SAFE)
    assert not Judgement.objects.exists()


@pytest.mark.parametrize(
    ("chosen", "safe", "expected"),
    [
        (Side.LEFT, {Side.LEFT}, SafetyBin.CHOSEN_SAFE),
        (Side.RIGHT, {Side.RIGHT}, SafetyBin.CHOSEN_SAFE),
        (Side.LEFT, {Side.LEFT, Side.RIGHT}, SafetyBin.BOTH_SAFE),
        (Side.RIGHT, set(), SafetyBin.BOTH_UNSAFE),
    ],
)
def test_safe_sides_make_a_bin(chosen: Side, safe: set[Side], expected: SafetyBin) -> None:
    assert safety_bin_for(chosen_side=chosen, safe_sides=safe) is expected


def test_only_the_other_side_safe_is_a_contradiction() -> None:
    with pytest.raises(ContradictionError):
        safety_bin_for(chosen_side=Side.LEFT, safe_sides={Side.RIGHT})


def test_the_eight_steps_mirror_each_other() -> None:
    assert [(step.number, step.side.value, step.rating.value) for step in STEPS] == [
        (1, "left", "significantly_better"),
        (2, "left", "better"),
        (3, "left", "slightly_better"),
        (4, "left", "negligibly_better"),
        (5, "right", "negligibly_better"),
        (6, "right", "slightly_better"),
        (7, "right", "better"),
        (8, "right", "significantly_better"),
    ]
    assert step_numbered(8).rating is Rating.SIGNIFICANTLY_BETTER
    for number in (0, 9):
        with pytest.raises(ValueError, match="not between 1 and 8"):
            step_numbered(number)
    assert Side.LEFT.other is Side.RIGHT
    assert Side.RIGHT.other is Side.LEFT


@pytest.mark.django_db
def test_the_same_form_again_returns_the_same_judgement() -> None:
    comparison, key = make_ready_comparison(), uuid.uuid4()
    first = submit(comparison, client_key=key)
    second = submit(comparison, client_key=key, rating="better")
    assert second == first
    assert second.rating == "slightly_better"
    assert round_progress(comparison.round).num_judged == 1


@pytest.mark.django_db
def test_another_form_for_a_judged_comparison_is_refused() -> None:
    comparison = make_ready_comparison()
    submit(comparison)
    with pytest.raises(AlreadyJudgedError, match="go on with the next one"):
        submit(comparison)


@pytest.mark.django_db
def test_a_key_of_another_comparison_is_refused() -> None:
    key = uuid.uuid4()
    submit(make_ready_comparison(), client_key=key)
    with pytest.raises(KeyReusedError):
        submit(make_ready_comparison(), client_key=key)


@pytest.mark.django_db(transaction=True)
def test_a_double_click_is_one_judgement() -> None:
    comparison, key = make_ready_comparison(), uuid.uuid4()

    results = run_at_once([lambda: submit(comparison, client_key=key)] * 4)

    assert len(set(results)) == 1, results
    assert isinstance(results[0], Judgement)
    assert round_progress(comparison.round).num_judged == 1
    assert counter_drift(comparison.round) == {}


@pytest.mark.django_db(transaction=True)
def test_two_tabs_give_one_judgement() -> None:
    comparison = make_ready_comparison()

    results = run_at_once([lambda: submit(comparison)] * 4)

    assert sum(isinstance(result, Judgement) for result in results) == 1
    assert sum(isinstance(result, AlreadyJudgedError) for result in results) == 3
    assert counter_drift(comparison.round) == {}


@pytest.mark.django_db(transaction=True)
def test_many_annotators_at_once_are_all_counted() -> None:
    round_ = open_test_round()
    comparisons = [make_ready_comparison(round_=round_) for _ in range(8)]

    results = run_at_once([lambda c=c: submit(c) for c in comparisons])

    assert all(isinstance(result, Judgement) for result in results), results
    assert round_progress(round_).num_judged == 8
    assert counter_drift(round_) == {}


@pytest.mark.django_db(transaction=True)
def test_writing_on_and_submitting_at_once_do_not_lock_each_other_out() -> None:
    comparison = make_ready_comparison()
    dialogue = comparison.dialogue

    def write() -> Comparison:
        return write_test_prompt(dialogue.annotator, Dialogue.objects.get(pk=dialogue.pk))

    results = run_at_once([lambda: submit(comparison), write])

    assert isinstance(results[0], Judgement)
    assert counter_drift(comparison.round) == {}


@pytest.mark.django_db
def test_only_its_author_judges_a_comparison() -> None:
    comparison = make_ready_comparison()
    for call in (
        lambda other: submit(comparison, annotator=other),
        lambda other: services.skip_comparison(
            annotator=other, comparison=comparison, reason="other"
        ),
        lambda other: services.flag_comparison(annotator=other, comparison=comparison, note="?"),
        lambda other: services.save_draft(annotator=other, comparison=comparison, fields={}),
    ):
        with pytest.raises(NotFoundError, match="of yours"):
            call(make_annotator())
    for person in (make_reviewer(), make_lead()):
        with pytest.raises(NotAllowedError):
            submit(comparison, annotator=person)


@pytest.mark.django_db
def test_a_lapsed_lease_is_no_obstacle_while_a_slot_is_free() -> None:
    round_ = open_test_round(target_comparisons=2)
    comparison = make_ready_comparison(round_=round_)
    let_lease_lapse(comparison)
    assert services.release_expired_leases() == 1

    submit(comparison)

    assert round_progress(round_).num_judged == 1
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_a_lapsed_lease_whose_slot_was_taken_leaves_the_draft() -> None:
    round_ = open_test_round(target_comparisons=1)
    comparison = make_ready_comparison(round_=round_)
    annotator = comparison.dialogue.annotator
    services.save_draft(annotator=annotator, comparison=comparison, fields={"step": 3})
    let_lease_lapse(comparison)
    other = make_annotator()
    write_test_prompt(other, start_test_dialogue(other, round_))

    with pytest.raises(RoundFullError):
        submit(comparison)

    assert draft_fields(annotator, comparison=comparison) == {"step": 3}
    comparison.refresh_from_db()
    assert comparison.state == Comparison.State.READY
    assert counter_drift(round_) == {}


@pytest.mark.django_db
def test_a_draft_is_written_over_and_goes_with_the_judgement() -> None:
    comparison = make_ready_comparison()
    annotator = comparison.dialogue.annotator
    services.save_draft(annotator=annotator, comparison=comparison, fields={"step": 3})
    services.save_draft(annotator=annotator, comparison=comparison, fields={"step": 4})
    assert draft_fields(annotator, comparison=comparison) == {"step": 4}
    assert Draft.objects.count() == 1

    submit(comparison)

    assert draft_fields(annotator, comparison=comparison) == {}


@pytest.mark.django_db
def test_a_draft_belongs_to_one_thing_and_has_a_bound() -> None:
    comparison = make_ready_comparison()
    annotator = comparison.dialogue.annotator
    with pytest.raises(ValueError, match="one dialogue, comparison, slot or demonstration"):
        services.save_draft(annotator=annotator, fields={})
    with pytest.raises(ValueError, match="at most 100000 characters"):
        services.save_draft(
            annotator=annotator, comparison=comparison, fields={"text": "x" * 100_001}
        )
    with pytest.raises(IntegrityError, match="draft_of_one_thing"), transaction.atomic():
        Draft.objects.create(annotator=annotator)


@pytest.mark.django_db(transaction=True)
def test_drafts_saved_at_once_are_one() -> None:
    comparison = make_ready_comparison()
    annotator = comparison.dialogue.annotator

    results = run_at_once(
        [
            lambda i=i: services.save_draft(
                annotator=annotator, comparison=comparison, fields={"step": i}
            )
            for i in range(4)
        ]
    )

    assert all(isinstance(result, Draft) for result in results), results
    assert Draft.objects.count() == 1


@pytest.mark.django_db
def test_a_skipped_comparison_frees_its_slot_and_its_turn() -> None:
    comparison = make_ready_comparison()
    annotator, dialogue = comparison.dialogue.annotator, comparison.dialogue

    skipped = services.skip_comparison(
        annotator=annotator, comparison=comparison, reason="too_disturbing", note="please not"
    )

    assert (skipped.state, skipped.skip_reason) == ("skipped", "too_disturbing")
    assert counter_drift(comparison.round) == {}
    again = services.skip_comparison(annotator=annotator, comparison=comparison, reason="other")
    assert again.skip_reason == "too_disturbing"
    assert write_test_prompt(annotator, dialogue).turn == comparison.turn
    with pytest.raises(StateError, match="is skipped"):
        submit(comparison)


@pytest.mark.django_db
def test_a_judged_comparison_cannot_be_skipped() -> None:
    comparison = make_ready_comparison()
    judge(comparison)
    with pytest.raises(StateError, match="is judged"):
        services.skip_comparison(
            annotator=comparison.dialogue.annotator, comparison=comparison, reason="other"
        )


@pytest.mark.django_db
def test_skipping_asks_why() -> None:
    comparison = make_ready_comparison()
    with pytest.raises(JudgementError, match="'' is not one of not_my_language"):
        services.skip_comparison(
            annotator=comparison.dialogue.annotator, comparison=comparison, reason=""
        )


@pytest.mark.django_db
def test_a_flagged_comparison_may_still_be_judged() -> None:
    comparison = make_ready_comparison()
    flagged = services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="a name is in it"
    )
    assert (flagged.is_flagged, flagged.flag_note) == (True, "a name is in it")
    assert submit(comparison).comparison == comparison


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"axis": "safety"}, "judgement_bin_fits_axis"),
        ({"safety_bin": "both_safe"}, "judgement_bin_fits_axis"),
        ({"axis": "safety", "safety_bin": "other_safe"}, "judgement_bin_fits_axis"),
        ({"rating": "banana"}, "judgement_rating_known"),
        ({"active_seconds": -1.0}, "judgement_time_not_negative"),
        ({"slot": 1}, "judgement_author_is_first"),
        ({"displayed_side": "left"}, "judgement_chosen_is_of_comparison"),
    ],
)
def test_the_database_refuses(values: dict[str, Any], constraint: str) -> None:
    judgement = submit(make_ready_comparison())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        Judgement.objects.filter(pk=judgement.pk).update(**values)


@pytest.mark.django_db
def test_the_database_refuses_a_sample_of_another_comparison() -> None:
    judgement = submit(make_ready_comparison())
    other = make_ready_comparison().samples.get(side="right")
    with pytest.raises(IntegrityError, match="chosen_is_of_comparison"), transaction.atomic():
        Judgement.objects.filter(pk=judgement.pk).update(chosen_sample=other)


@pytest.mark.django_db
def test_the_database_refuses_a_second_judgement() -> None:
    judgement = submit(make_ready_comparison())
    judgement.pk, judgement.uuid, judgement.client_key = None, uuid.uuid4(), uuid.uuid4()
    with pytest.raises(IntegrityError, match="judgement_slot_unique"), transaction.atomic():
        judgement.save(force_insert=True)


@pytest.mark.django_db
def test_a_submit_costs_seven_statements_in_one_transaction(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    comparison = make_ready_comparison()
    annotator = comparison.dialogue.annotator
    sample_id = comparison.samples.get(side="left").pk
    # Lock, samples, judgement, comparison, dialogue, draft, round; a savepoint in and out.
    with django_assert_max_num_queries(9):
        services.submit_comparison(
            annotator=annotator,
            comparison=comparison,
            chosen_sample_id=sample_id,
            rating="better",
            safety_bin=None,
            client_key=uuid.uuid4(),
            active_seconds=1.0,
        )
