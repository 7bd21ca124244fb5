"""Maintenance: nobody is given a new task, and what is in hand can be finished."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation import services
from annotation.desk import desk_of
from annotation.eligibility import Need, missing_in
from annotation.errors import (
    AlreadyPausedError,
    NotAllowedError,
    NotEligibleError,
    PausedError,
    PauseError,
    StateError,
)
from annotation.models import Comparison, Demonstration, Pause, Slot, User
from annotation.pauses import active_pause
from annotation.selectors import draft_fields
from annotation.services import PartFields
from annotation.services.pauses import MAX_DAYS
from annotation.work import NothingReason, WorkKind, work_for
from tests.annotation.test_plans import scans_of
from tests.annotation.test_slots import claim, let_slot_lapse, open_overlap_round
from tests.factories import (
    PAIR,
    judge,
    judge_slot,
    make_admin,
    make_annotator,
    make_judgement,
    make_lead,
    make_qualification,
    make_ready_comparison,
    make_reviewer,
    open_imported_round,
    open_test_assignment,
    open_test_round,
    pair_line,
    start_test_demonstration,
    start_test_dialogue,
    take_part,
    words,
    write_test_prompt,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


def pause(
    sentence: str = "We replace a disk.",
    *,
    back_at: datetime | None = None,
    ends_itself: bool = False,
    lead: User | None = None,
) -> Pause:
    return services.begin_pause(
        lead=lead or make_lead(), sentence=sentence, back_at=back_at, ends_itself=ends_itself
    )


def in_hours(number: float) -> datetime:
    return timezone.now() + timedelta(hours=number)


def let_pass(paused: Pause) -> Pause:
    """Let the time pass at which a pause was expected to end."""
    then, now = timezone.now() - timedelta(hours=2), timezone.now() - timedelta(hours=1)
    Pause.objects.filter(pk=paused.pk).update(begun_at=then, back_at=now)
    paused.refresh_from_db()
    return paused


# What is not given out


def test_nobody_is_given_a_new_task_and_everybody_is_told_why_and_until_when() -> None:
    annotator, round_ = make_annotator(), open_overlap_round()
    make_judgement(round_=round_)
    paused = pause("We replace a disk", back_at=in_hours(2))

    work = services.take_work(annotator=annotator)

    assert (work.kind, work.reason) == (WorkKind.NOTHING, NothingReason.MAINTENANCE)
    assert work.pause == work_for(annotator).pause == paused
    assert services.claim_slot(annotator=annotator) is None
    assert Slot.objects.get().state == Slot.State.FREE
    until = f"{paused.back_at:%d %b, %H:%M} UTC.".lstrip("0")
    expected = f"annotation is paused for maintenance: We replace a disk. Expected back: {until}"
    with pytest.raises(PausedError) as caught:
        start_test_dialogue(annotator, round_)
    assert str(caught.value) == expected
    with pytest.raises(PausedError, match="Expected back"):
        start_test_demonstration(annotator, open_test_assignment())
    assert not Demonstration.objects.exists()


def test_no_imported_item_is_given_out() -> None:
    with_item, without = make_annotator(), make_annotator()
    round_ = open_imported_round(pair_line("tea"), pair_line("milk"))
    held = start_test_dialogue(with_item, round_)
    pause()
    with pytest.raises(PausedError):
        start_test_dialogue(without, round_)
    work = services.take_work(annotator=with_item)
    assert (work.kind, work.dialogue) == (WorkKind.JUDGE, held)


def test_without_an_open_round_it_is_maintenance_that_is_told() -> None:
    pause()
    assert services.take_work(annotator=make_annotator()).reason is NothingReason.MAINTENANCE


def test_maintenance_is_told_before_what_else_is_missing() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    test = make_qualification()
    services.require_qualifications(lead=make_lead(), qualifications=[test], round_=round_)
    paused = pause()
    needs = [missing.need for missing in missing_in(annotator, round_)]
    assert needs == [Need.MAINTENANCE, Need.QUALIFICATION]
    assert services.take_work(annotator=annotator).reason is NothingReason.MAINTENANCE
    services.end_pause(lead=make_lead(), pause=paused)
    assert services.take_work(annotator=annotator).reason is NothingReason.NOT_YET


def test_no_test_is_begun_and_the_clock_of_no_part_is_set_running() -> None:
    annotator = make_annotator()
    begun = make_qualification(
        (PartFields("One", minutes=5, mark=1), [PAIR]), (PartFields("Two", minutes=5), [PAIR])
    )
    attempt = take_part(annotator, begun, 0)
    paused = pause()
    with pytest.raises(PausedError):
        services.start_attempt(annotator=annotator, qualification=make_qualification())
    with pytest.raises(PausedError):
        services.start_sitting(annotator=annotator, attempt=attempt)
    assert annotator.attempts.count() == attempt.sittings.count() == 1
    services.end_pause(lead=make_lead(), pause=paused)
    services.start_sitting(annotator=annotator, attempt=attempt)


# What is in hand


def test_a_dialogue_that_was_begun_is_judged_and_goes_on() -> None:
    annotator, round_ = make_annotator(), open_test_round(max_turns=2)
    comparison = make_ready_comparison(annotator, round_=round_)
    pause()

    work = services.take_work(annotator=annotator)
    assert (work.kind, work.comparison) == (WorkKind.JUDGE, comparison)
    judge(comparison)
    work = services.take_work(annotator=annotator)
    assert (work.kind, work.dialogue) == (WorkKind.WRITE, comparison.dialogue)
    judge(make_ready_comparison(dialogue=comparison.dialogue, text="And then?"))
    assert services.take_work(annotator=annotator).reason is NothingReason.MAINTENANCE


def test_what_else_is_missing_holds_a_message_back_as_ever() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    dialogue = start_test_dialogue(annotator, round_)
    services.require_qualifications(
        lead=make_lead(), qualifications=[make_qualification(name="Language")], round_=round_
    )
    pause()
    with pytest.raises(NotEligibleError, match="pass the test Language"):
        write_test_prompt(annotator, dialogue, "My careful words")
    assert draft_fields(annotator, dialogue=dialogue)["text"] == "My careful words"


def test_a_pair_of_others_that_is_held_is_found_again_judged_and_drafted() -> None:
    make_judgement(round_=open_overlap_round())
    reader = make_annotator()
    slot = claim(reader)
    pause()

    work = services.take_work(annotator=reader)
    assert (work.kind, work.slot) == (WorkKind.SLOT, slot)
    assert services.claim_slot(annotator=reader) == slot
    services.save_draft(annotator=reader, slot=slot, fields={"choice": "3"})
    assert draft_fields(reader, comparison=slot.comparison) == {"choice": "3"}
    judge_slot(slot)
    assert services.take_work(annotator=reader).reason is NothingReason.MAINTENANCE


def test_leases_are_kept_alive_by_signs_of_life() -> None:
    annotator, reader = make_annotator(), make_annotator()
    make_judgement(round_=open_overlap_round())
    slot, comparison = claim(reader), make_ready_comparison(annotator)
    soon = timezone.now() + timedelta(minutes=1)
    Slot.objects.filter(pk=slot.pk).update(lease_expires_at=soon)
    Comparison.objects.filter(pk=comparison.pk).update(lease_expires_at=soon)
    pause()
    assert services.beat_slot(annotator=reader, slot=slot)
    assert services.beat_comparison(annotator=annotator, comparison=comparison)
    for row in (slot, comparison):
        row.refresh_from_db()
        assert row.lease_expires_at is not None
        assert row.lease_expires_at > soon


def test_a_lease_that_lapses_meanwhile_leaves_the_draft_and_the_judgement_is_taken() -> None:
    make_judgement(round_=open_overlap_round())
    reader = make_annotator()
    slot = claim(reader)
    services.save_draft(annotator=reader, slot=slot, fields={"choice": "3"})
    pause()
    let_slot_lapse(slot)
    assert services.take_work(annotator=reader).reason is NothingReason.MAINTENANCE
    assert draft_fields(reader, comparison=slot.comparison) == {"choice": "3"}
    assert judge_slot(slot).slot == 1


def test_a_demonstration_and_a_part_that_were_begun_are_handed_in() -> None:
    annotator, test = make_annotator(), make_qualification()
    demonstration = start_test_demonstration(annotator, open_test_assignment())
    attempt = services.start_attempt(annotator=annotator, qualification=test)
    sitting = services.start_sitting(annotator=annotator, attempt=attempt)
    pause()

    begun = services.start_attempt(annotator=annotator, qualification=test)
    assert services.start_sitting(annotator=annotator, attempt=begun) == sitting
    services.submit_sitting(
        annotator=annotator, sitting=sitting, values={sitting.part.questions.get().pk: 0}
    )
    again = start_test_demonstration(annotator, demonstration.assignment)
    assert again == demonstration
    services.submit_demonstration(
        author=annotator, demonstration=again, revision=words(), client_key=uuid.uuid4()
    )
    assert Demonstration.objects.get().state == Demonstration.State.SUBMITTED


def test_the_same_start_sent_twice_is_found_though_a_pause_has_begun_meanwhile() -> None:
    annotator, round_, key = make_annotator(), open_test_round(), uuid.uuid4()
    first = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    pause()
    again = services.start_dialogue(annotator=annotator, round_=round_, client_key=key)
    assert again == first


def test_simulated_annotators_go_on() -> None:
    program, round_ = make_annotator(persona="careful"), open_test_round()
    pause()
    assert services.take_work(annotator=program).kind is WorkKind.START
    start_test_dialogue(program, round_)


# Beginning, changing, ending


@pytest.mark.parametrize("make_person", [make_annotator, make_reviewer])
def test_leads_and_admins_alone_pause_and_go_on(make_person: Callable[[], User]) -> None:
    person = make_person()
    with pytest.raises(NotAllowedError):
        pause(lead=person)
    paused = pause(lead=make_admin())
    with pytest.raises(NotAllowedError):
        services.end_pause(lead=person, pause=paused)
    with pytest.raises(NotAllowedError):
        services.change_pause(
            lead=person, pause=paused, sentence="Mine.", back_at=None, ends_itself=False
        )
    assert active_pause() == paused


@pytest.mark.parametrize(
    ("field", "bound", "values"),
    [
        ("sentence", "1 to 300", {"sentence": " \n "}),
        ("sentence", "this is 301", {"sentence": "x" * 301}),
        ("back_at", f"within the {MAX_DAYS} days", {"back_at": in_hours(-1)}),
        ("back_at", f"within the {MAX_DAYS} days", {"back_at": in_hours(24 * MAX_DAYS + 1)}),
        ("back_at", "say when", {"ends_itself": True}),
    ],
)
def test_a_pause_that_cannot_be_names_the_field_and_its_bound(
    field: str, bound: str, values: dict[str, object]
) -> None:
    with pytest.raises(PauseError, match=bound) as caught:
        pause(**values)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert not Pause.objects.exists()


def test_ending_it_twice_leaves_who_was_first() -> None:
    first, second, paused = make_lead(), make_lead(), pause()
    services.end_pause(lead=first, pause=paused)
    ended_at = paused.ended_at
    services.end_pause(lead=second, pause=paused)
    assert (paused.ended_by, paused.ended_at) == (first, ended_at)
    assert active_pause() is None
    pause()
    assert Pause.objects.count() == 2


def test_a_changed_pause_is_a_new_row_and_the_old_one_stays() -> None:
    lead, paused = make_lead(), pause("One hour.")
    changed = services.change_pause(
        lead=lead, pause=paused, sentence="Two  hours.", back_at=in_hours(2), ends_itself=False
    )
    paused.refresh_from_db()
    assert (paused.sentence, paused.ended_by, paused.is_active) == ("One hour.", lead, False)
    assert (changed.sentence, active_pause()) == ("Two hours.", changed)
    with pytest.raises(StateError, match="this pause is over"):
        services.change_pause(
            lead=lead, pause=paused, sentence="Three.", back_at=None, ends_itself=False
        )
    assert active_pause() == changed


def test_a_pause_ends_by_itself_where_that_was_asked_for_and_its_row_says_so() -> None:
    annotator, round_ = make_annotator(), open_test_round()
    paused = let_pass(pause(back_at=in_hours(1), ends_itself=True))

    assert active_pause() is None
    assert paused.over_at == paused.back_at
    assert services.take_work(annotator=annotator).round == round_
    services.end_pause(lead=make_lead(), pause=paused)
    assert (paused.ended_by, paused.ended_at) == (None, paused.back_at)
    newer = let_pass(pause(back_at=in_hours(1), ends_itself=True))
    pause()
    newer.refresh_from_db()
    assert (newer.is_active, newer.ended_at) == (False, newer.back_at)


def test_a_pause_that_takes_longer_goes_on_and_says_so() -> None:
    paused = let_pass(pause(back_at=in_hours(1)))
    assert active_pause() == paused
    assert paused.over_at is None
    assert paused.notice.endswith("UTC and takes longer.")


# Many hands


@pytest.mark.django_db(transaction=True)
def test_two_leads_at_once_begin_one_pause() -> None:
    leads = [make_lead(), make_lead(), make_lead()]
    let_pass(pause(back_at=in_hours(1), ends_itself=True))  # an earlier one, not marked yet
    results = run_at_once([lambda lead=lead: pause(lead=lead) for lead in leads])
    refused = [result for result in results if isinstance(result, AlreadyPausedError)]
    (begun,) = [result for result in results if isinstance(result, Pause)]
    assert len(refused) == 2, results
    assert active_pause() == begun
    assert Pause.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_who_change_a_pause_at_once_one_is_told_that_it_is_over() -> None:
    leads, paused = [make_lead(), make_lead()], pause()
    results = run_at_once(
        [
            lambda lead=lead: services.change_pause(
                lead=lead, pause=paused, sentence="Longer.", back_at=None, ends_itself=False
            )
            for lead in leads
        ]
    )
    (changed,) = [result for result in results if isinstance(result, Pause)]
    assert [type(r) for r in results if r != changed] == [StateError], results
    assert active_pause() == changed


# Cost


def test_every_step_looks_for_a_pause_in_the_index_of_those_that_hold() -> None:
    lead, annotator, round_ = make_lead(), make_annotator(), open_test_round()
    now = timezone.now()
    Pause.objects.bulk_create(
        Pause(sentence="Over.", begun_by=lead, is_active=False, ended_at=now) for _ in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE annotation_pause")

    with CaptureQueriesContext(connection) as captured:
        desk_of(annotator)
        missing_in(annotator, round_)

    asked = [query["sql"] for query in captured.captured_queries]
    assert len(asked) == 2, "the desk, and the facts of one round"
    for sql in asked:
        scans = [(node, index) for node, table, index in scans_of(sql) if "pause" in table]
        assert {index for _, index in scans} == {"annotation_pause_one_active"}, (sql, scans)
