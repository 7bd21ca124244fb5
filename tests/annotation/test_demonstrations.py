"""Demonstrations are begun within the target, sent once, sent again after feedback, never lost."""

import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation import services
from annotation.demonstration_selectors import (
    counter_drift_of,
    demonstration_draft,
    get_demonstration_for,
    get_open_assignment_for,
    revisions_of,
)
from annotation.errors import (
    AssignmentClosedError,
    AssignmentFullError,
    DemonstrationError,
    DemonstrationStateError,
    KeyReusedError,
    NotAllowedError,
    NotFoundError,
    RoundConfigError,
)
from annotation.models import Assignment, Demonstration, DemonstrationTurn, Draft
from annotation.services import NewRevision, NewTurn
from annotation.services.assignments import release_lapsed
from records.preferences import Axis
from tests.factories import (
    decide,
    make_annotator,
    make_demonstration,
    make_guidelines,
    make_lead,
    open_test_assignment,
    start_test_demonstration,
    words,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


def send(
    demonstration: Demonstration,
    revision: NewRevision | None = None,
    client_key: uuid.UUID | None = None,
) -> Demonstration:
    return services.submit_demonstration(
        author=demonstration.author,
        demonstration=demonstration,
        revision=revision or words(),
        client_key=client_key or uuid.uuid4(),
    )


def let_lapse(demonstration: Demonstration) -> None:
    Demonstration.objects.filter(pk=demonstration.pk).update(
        lease_expires_at=timezone.now() - timedelta(seconds=1)
    )


def test_a_sent_demonstration_holds_its_words_under_the_pinned_guidelines() -> None:
    assignment = open_test_assignment(axis=Axis.SAFETY, max_turns=2)
    revision = words("How do I pick a lock?", "Only your own.", "Why?", "The law.", axis="safety")
    demonstration = send(start_test_demonstration(make_annotator(), assignment), revision)

    (row,) = revisions_of(demonstration)
    assert demonstration.state == "submitted"
    assert row.guidelines == assignment.guidelines
    assert (row.number, row.written_by) == (1, demonstration.author)
    assert (row.risk_category, row.attack_vector) == ("illicit_and_criminal", "logic_manipulation")
    assert [(t.turn, t.prompt_text, t.response_text) for t in row.turns.all()] == [
        (0, "How do I pick a lock?", "Only your own."),
        (1, "Why?", "The law."),
    ]


def test_the_same_form_sent_twice_is_one_revision() -> None:
    demonstration, key = start_test_demonstration(make_annotator(), open_test_assignment()), None
    key = uuid.uuid4()
    first = send(demonstration, client_key=key)
    again = send(demonstration, client_key=key)
    assert first == again
    assert len(revisions_of(demonstration)) == 1


def test_a_key_is_not_used_for_another_demonstration() -> None:
    key = uuid.uuid4()
    send(start_test_demonstration(make_annotator(), open_test_assignment()), client_key=key)
    other = start_test_demonstration(make_annotator(), open_test_assignment())
    with pytest.raises(KeyReusedError):
        send(other, client_key=key)


def test_beginning_again_returns_the_one_that_is_being_written() -> None:
    author, assignment = make_annotator(), open_test_assignment()
    first = start_test_demonstration(author, assignment)
    assert start_test_demonstration(author, assignment) == first
    send(first)
    assert start_test_demonstration(author, assignment) != first
    assignment.refresh_from_db()
    assert assignment.num_reserved == 2


@pytest.mark.parametrize(
    ("revision", "field", "message"),
    [
        (NewRevision([]), "num_turns", "0 turns are not between 1 and 2"),
        (NewRevision([NewTurn("a", "b")] * 3), "num_turns", "3 turns are not between 1 and 2"),
        (NewRevision([NewTurn(" ", "b")]), "prompt_0", "write a prompt first"),
        (NewRevision([NewTurn("a", "b"), NewTurn("c", "")]), "response_1", "write a response"),
        (NewRevision([NewTurn("a", "x" * 20_001)]), "response_0", "20001 characters"),
        (NewRevision([NewTurn("[INST] a", "b")]), "prompt_0", "mark of the chat format"),
        (NewRevision([NewTurn("a", "b")], active_seconds=-1.0), "active_seconds", "-1.0"),
        (NewRevision([NewTurn("a", "b")], "illicit_and_criminal"), "risk_category", "helpfulness"),
    ],
    ids=lambda value: value if isinstance(value, str) and "_" in value else "",
)
def test_what_does_not_fit_is_refused_by_field(
    revision: NewRevision, field: str, message: str
) -> None:
    demonstration = start_test_demonstration(make_annotator(), open_test_assignment(max_turns=2))
    with pytest.raises(DemonstrationError, match=message) as refused:
        send(demonstration, revision)
    assert refused.value.field == field
    assert not DemonstrationTurn.objects.exists()


def test_a_safety_demonstration_names_its_risk_and_its_attack() -> None:
    demonstration = start_test_demonstration(
        make_annotator(), open_test_assignment(axis=Axis.SAFETY)
    )
    for revision, field in (
        (words(), "risk_category"),
        (words(axis="safety")._replace(attack_vector="charm"), "attack_vector"),
    ):
        with pytest.raises(DemonstrationError) as refused:
            send(demonstration, revision)
        assert refused.value.field == field


def test_no_assignment_takes_more_than_its_target() -> None:
    assignment = open_test_assignment(target_demonstrations=1)
    start_test_demonstration(make_annotator(), assignment)
    with pytest.raises(AssignmentFullError):
        start_test_demonstration(make_annotator(), assignment)
    with pytest.raises(IntegrityError, match="within_target"), transaction.atomic():
        Assignment.objects.filter(pk=assignment.pk).update(num_reserved=2)


@pytest.mark.django_db(transaction=True)
def test_of_many_who_begin_at_once_as_many_get_a_place_as_there_are() -> None:
    assignment = open_test_assignment(target_demonstrations=3)
    people = [make_annotator() for _ in range(8)]
    results = run_at_once(
        [lambda person=person: start_test_demonstration(person, assignment) for person in people]
    )
    assert sum(isinstance(result, Demonstration) for result in results) == 3
    assert sum(isinstance(result, AssignmentFullError) for result in results) == 5
    assert counter_drift_of(assignment) == {}


@pytest.mark.django_db(transaction=True)
def test_of_two_tabs_that_send_at_once_one_is_stored() -> None:
    demonstration = start_test_demonstration(make_annotator(), open_test_assignment())
    key = uuid.uuid4()
    results = run_at_once([lambda: send(demonstration, client_key=key)] * 4)
    assert results == [demonstration] * 4
    assert len(revisions_of(demonstration)) == 1


def test_a_lapsed_place_goes_to_somebody_else_and_the_words_wait_for_a_free_one() -> None:
    assignment = open_test_assignment(target_demonstrations=1)
    late = start_test_demonstration(make_annotator(), assignment)
    let_lapse(late)
    other = start_test_demonstration(make_annotator(), assignment)

    with pytest.raises(AssignmentFullError):
        send(late, words("My question", "My answer"))

    draft = demonstration_draft(late.author, late)
    assert (draft["prompt_0"], draft["response_0"]) == ("My question", "My answer")
    services.withdraw_demonstration(author=other.author, demonstration=other)
    assert send(late).state == "submitted"
    assert not Draft.objects.exists()
    assert counter_drift_of(assignment) == {}


def test_a_saved_draft_keeps_the_place() -> None:
    demonstration = start_test_demonstration(make_annotator(), open_test_assignment())
    let_lapse(demonstration)
    services.keep_demonstration_draft(
        person=demonstration.author, demonstration=demonstration, fields={"prompt_0": "Half a"}
    )
    assert release_lapsed(demonstration.assignment_id) == 0
    assert demonstration_draft(demonstration.author, demonstration) == {"prompt_0": "Half a"}


def test_nobody_keeps_a_draft_of_somebody_elses_demonstration() -> None:
    demonstration = start_test_demonstration(make_annotator(), open_test_assignment())
    with pytest.raises(NotFoundError):
        services.keep_demonstration_draft(
            person=make_annotator(), demonstration=demonstration, fields={}
        )


def test_what_is_being_reviewed_or_approved_is_not_sent_again() -> None:
    demonstration = make_demonstration()
    with pytest.raises(DemonstrationStateError, match="is submitted"):
        send(demonstration)
    decide(demonstration)
    with pytest.raises(DemonstrationStateError, match="is approved"):
        send(demonstration)


def test_a_closed_assignment_takes_what_was_begun_and_nothing_new() -> None:
    assignment, lead = open_test_assignment(), make_lead()
    begun = start_test_demonstration(make_annotator(), assignment)
    services.close_assignment(assignment=assignment, closed_by=lead)
    with pytest.raises(AssignmentClosedError):
        start_test_demonstration(make_annotator(), assignment)
    with pytest.raises(NotFoundError):
        get_open_assignment_for(make_annotator(), assignment.pk)
    begun.refresh_from_db()
    assert send(begun).state == "submitted"


def test_giving_up_frees_the_place_and_keeps_the_draft() -> None:
    demonstration = start_test_demonstration(make_annotator(), open_test_assignment())
    services.keep_demonstration_draft(
        person=demonstration.author, demonstration=demonstration, fields={"prompt_0": "Half a"}
    )
    services.withdraw_demonstration(author=demonstration.author, demonstration=demonstration)
    services.withdraw_demonstration(author=demonstration.author, demonstration=demonstration)
    assignment = Assignment.objects.get()
    assert assignment.num_reserved == 0
    assert Draft.objects.exists()
    with pytest.raises(DemonstrationStateError, match="is withdrawn"):
        send(demonstration)


def test_an_author_sees_their_own_only() -> None:
    demonstration = make_demonstration()
    assert get_demonstration_for(demonstration.author, demonstration.pk) == demonstration
    with pytest.raises(NotFoundError):
        get_demonstration_for(make_annotator(), demonstration.pk)
    with pytest.raises(NotFoundError):
        send_as_stranger(demonstration)


def send_as_stranger(demonstration: Demonstration) -> None:
    services.submit_demonstration(
        author=make_annotator(),
        demonstration=demonstration,
        revision=words(),
        client_key=uuid.uuid4(),
    )


def test_only_annotators_write_and_only_leads_open() -> None:
    assignment = open_test_assignment()
    with pytest.raises(NotAllowedError):
        start_test_demonstration(make_lead(), assignment)
    with pytest.raises(NotAllowedError):
        open_test_assignment(lead=make_annotator())


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": " "}, "name"),
        ({"target_demonstrations": 0}, "target_demonstrations"),
        ({"max_turns": 21}, "max_turns"),
        ({"axis": Axis.SAFETY}, "guidelines"),
    ],
)
def test_an_assignment_that_cannot_be_opened_names_the_setting(
    changes: dict[str, object], field: str
) -> None:
    lead = make_lead()
    settings: dict[str, object] = {
        "name": "Week 1",
        "axis": Axis.HELPFULNESS,
        "guidelines": make_guidelines(lead=lead),
        "target_demonstrations": 10,
        "max_turns": 2,
        "opened_by": lead,
    }
    with pytest.raises(RoundConfigError) as refused:
        services.open_assignment(**{**settings, **changes})  # type: ignore[arg-type]
    assert refused.value.field == field


def test_two_assignments_do_not_share_a_name() -> None:
    open_test_assignment("Week 1")
    with pytest.raises(RoundConfigError, match="already an assignment 'Week 1'"):
        open_test_assignment("Week 1")
