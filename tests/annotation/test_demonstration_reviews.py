"""Every decision on a demonstration is a row; the author's words stay; what is approved freezes."""

import uuid

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.demonstration_selectors import (
    VendorQuality,
    counter_drift_of,
    demonstrations_to_review,
    get_demonstration_for,
    reviews_of,
    revisions_of,
    vendor_quality,
)
from annotation.demonstration_sets import freeze_demonstrations
from annotation.errors import (
    AssignmentFullError,
    DemonstrationError,
    DemonstrationStateError,
    NotAllowedError,
    NotFoundError,
)
from annotation.models import (
    Assignment,
    Demonstration,
    DemonstrationReview,
    DemonstrationSet,
    DemonstrationSetItem,
    Draft,
)
from annotation.services.assignments import release_lapsed
from records.dialogues import Dialogue as DialogueRecord
from records.errors import RecordError
from records.preferences import Axis
from records.prompts import Demonstration as DemonstrationRecord
from records.prompts import read_demonstrations
from records.statistics import wilson_proportion
from registry.errors import NameTakenError
from tests.annotation.test_demonstrations import let_lapse, send
from tests.factories import (
    decide,
    make_annotator,
    make_demonstration,
    make_lead,
    make_reviewer,
    open_test_assignment,
    start_test_demonstration,
    words,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


def test_approving_counts_and_keeps_the_words() -> None:
    demonstration = make_demonstration("Hello?", "Hello.")
    reviewer = make_reviewer()
    review = decide(demonstration, reviewer=reviewer)
    assert (review.decision, review.reviewer, review.revision.number) == ("approved", reviewer, 1)
    assert demonstration.state == "approved"
    assert Assignment.objects.get().num_approved == 1
    assert counter_drift_of(demonstration.assignment) == {}


def test_an_edit_is_a_further_revision_and_the_authors_stays() -> None:
    demonstration = make_demonstration("Hello?", "Hallo.")
    reviewer = make_reviewer()
    review = decide(demonstration, "edited", reviewer=reviewer, edited=words("Hello?", "Hello."))

    first, second = revisions_of(demonstration)
    assert (first.written_by, second.written_by) == (demonstration.author, reviewer)
    assert [t.response_text for r in (first, second) for t in r.turns.all()] == ["Hallo.", "Hello."]
    assert (review.revision, review.edited_revision) == (first, second)
    assert (demonstration.state, demonstration.current) == ("approved", second)


def test_an_edit_that_changes_nothing_is_refused() -> None:
    demonstration = make_demonstration("Hello?", "Hello.")
    with pytest.raises(DemonstrationError, match="nothing was changed"):
        decide(demonstration, "edited", edited=words("Hello?", "Hello. "))
    with pytest.raises(DemonstrationError, match="comes with the words"):
        decide(demonstration, "edited")
    demonstration.refresh_from_db()
    assert demonstration.state == "submitted"


def test_a_rejected_one_comes_back_with_feedback_and_may_be_sent_again() -> None:
    demonstration = make_demonstration()
    services.review_demonstration(
        reviewer=make_reviewer(),
        revision=demonstration.current,  # type: ignore[arg-type] # it was sent
        decision="rejected",
        feedback="It explains how.",
        categories=["promotes_crime", "dangerous_behaviour"],
        client_key=uuid.uuid4(),
    )
    demonstration.refresh_from_db()
    assert demonstration.state == "rejected"
    (review,) = reviews_of(demonstration)
    assert review.feedback == "It explains how."
    assert review.categories == ["promotes_crime", "dangerous_behaviour"]

    send(demonstration, words("Hello?", "A better answer."))
    decide(demonstration)
    assert [row.number for row in revisions_of(demonstration)] == [1, 2]
    assert [row.decision for row in reviews_of(demonstration)] == ["rejected", "approved"]


def test_a_rejection_needs_feedback() -> None:
    demonstration = make_demonstration()
    with pytest.raises(DemonstrationError, match="say what the author should change") as refused:
        decide(demonstration, "rejected", feedback="  ")
    assert refused.value.field == "feedback"
    review = decide(demonstration, "rejected")
    with pytest.raises(IntegrityError, match="rejected_has_feedback"), transaction.atomic():
        DemonstrationReview.objects.filter(pk=review.pk).update(feedback="")
    with pytest.raises(IntegrityError, match="categories_known"), transaction.atomic():
        DemonstrationReview.objects.filter(pk=review.pk).update(categories=["mood"])


def test_unknown_decisions_and_categories_are_refused() -> None:
    demonstration = make_demonstration()
    with pytest.raises(DemonstrationError, match="'reopened' is not one of"):
        decide(demonstration, "reopened")
    assert demonstration.current is not None
    with pytest.raises(DemonstrationError, match="mood"):
        services.review_demonstration(
            reviewer=make_reviewer(),
            revision=demonstration.current,
            decision="approved",
            categories=["mood"],
            client_key=uuid.uuid4(),
        )


def test_nobody_decides_on_what_has_been_decided_or_revised() -> None:
    demonstration = make_demonstration()
    seen = demonstration.current
    assert seen is not None
    decide(demonstration, "rejected")
    send(demonstration, words("Hello?", "Second try."))
    with pytest.raises(DemonstrationStateError, match="revised since you opened it"):
        services.review_demonstration(
            reviewer=make_reviewer(), revision=seen, decision="approved", client_key=uuid.uuid4()
        )
    decide(demonstration)
    with pytest.raises(DemonstrationStateError, match="is approved"):
        decide(demonstration, "rejected")


@pytest.mark.django_db(transaction=True)
def test_of_two_reviewers_at_once_one_decides() -> None:
    demonstration = make_demonstration()
    assert demonstration.current is not None
    revision = demonstration.current
    reviewers = [make_reviewer() for _ in range(4)]
    results = run_at_once(
        [
            lambda person=person: services.review_demonstration(
                reviewer=person, revision=revision, decision="approved", client_key=uuid.uuid4()
            )
            for person in reviewers
        ]
    )
    assert sum(isinstance(result, DemonstrationReview) for result in results) == 1
    assert sum(isinstance(result, DemonstrationStateError) for result in results) == 3
    assert Assignment.objects.get().num_approved == 1


def test_the_same_decision_sent_twice_is_stored_once() -> None:
    demonstration, reviewer, key = make_demonstration(), make_reviewer(), uuid.uuid4()
    assert demonstration.current is not None
    first, second = (
        services.review_demonstration(
            reviewer=reviewer, revision=demonstration.current, decision="approved", client_key=key
        )
        for _ in range(2)
    )
    assert first == second
    assert Assignment.objects.get().num_approved == 1


def test_nobody_reviews_their_own_and_annotators_review_nothing() -> None:
    demonstration = make_demonstration()
    with pytest.raises(NotAllowedError):
        decide(demonstration, reviewer=make_annotator())
    author = demonstration.author
    author.role = "reviewer"
    services.save_account(user=author)
    with pytest.raises(DemonstrationError, match="of their own"):
        decide(demonstration, reviewer=author)


def test_a_decision_is_taken_back_by_a_further_row() -> None:
    demonstration = make_demonstration("Hello?", "Hallo.")
    decide(demonstration, "edited", edited=words("Hello?", "Hello."))
    back = services.reopen_demonstration(
        reviewer=make_reviewer(),
        demonstration=demonstration,
        note="too soon",
        client_key=uuid.uuid4(),
    )
    demonstration.refresh_from_db()
    assert (back.decision, back.feedback) == ("reopened", "too soon")
    assert demonstration.state == "submitted"
    assert demonstration.current is not None
    assert demonstration.current.number == 1
    assert Assignment.objects.get().num_approved == 0
    assert len(revisions_of(demonstration)) == 2
    decide(demonstration)
    assert [row.decision for row in reviews_of(demonstration)] == ["edited", "reopened", "approved"]
    with_words = revisions_of(demonstration)[0]
    assert demonstration.current == with_words


def test_a_rejection_is_taken_back_only_while_there_is_a_place() -> None:
    assignment = open_test_assignment(target_demonstrations=1)
    demonstration = make_demonstration(assignment=assignment)
    decide(demonstration, "rejected")
    let_lapse(demonstration)
    assert release_lapsed(assignment.pk) == 1
    other = start_test_demonstration(make_annotator(), assignment)
    with pytest.raises(AssignmentFullError):
        reopen(demonstration)
    services.withdraw_demonstration(author=other.author, demonstration=other)
    reopen(demonstration)
    demonstration.refresh_from_db()
    assert (demonstration.state, demonstration.holds_slot) == ("submitted", True)
    assert counter_drift_of(assignment) == {}


def test_there_is_nothing_to_take_back_before_a_decision() -> None:
    with pytest.raises(DemonstrationStateError, match="is submitted"):
        reopen(make_demonstration())


def reopen(demonstration: Demonstration) -> DemonstrationReview:
    return services.reopen_demonstration(
        reviewer=make_reviewer(), demonstration=demonstration, client_key=uuid.uuid4()
    )


def test_the_queue_is_the_oldest_first_by_id_and_axis() -> None:
    first, second, third = (make_demonstration() for _ in range(3))
    safety = make_demonstration(assignment=open_test_assignment(axis=Axis.SAFETY))
    decide(second)
    assert list(demonstrations_to_review()) == [first, third, safety]
    assert list(demonstrations_to_review(after=first.pk)) == [third, safety]
    assert list(demonstrations_to_review(axis="safety")) == [safety]


def test_a_reviewer_sees_what_was_sent_and_nothing_unfinished() -> None:
    sent = make_demonstration()
    unfinished = start_test_demonstration(make_annotator(), open_test_assignment())
    assert get_demonstration_for(make_reviewer(), sent.pk) == sent
    with pytest.raises(NotFoundError):
        get_demonstration_for(make_reviewer(), unfinished.pk)


def test_a_reviewers_draft_goes_with_the_decision_and_the_authors_stays_apart() -> None:
    demonstration, reviewer = make_demonstration(), make_reviewer()
    for person in (reviewer, demonstration.author):
        services.keep_demonstration_draft(
            person=person, demonstration=demonstration, fields={"feedback": person.username}
        )
    decide(demonstration, reviewer=reviewer)
    assert Draft.objects.get().annotator == demonstration.author


def test_vendors_are_told_apart_by_how_their_first_submissions_fare() -> None:
    # North: one approved at once, one rejected and then approved, one waits. South: one edited.
    north, south = open_test_assignment(vendor="North"), open_test_assignment(vendor="South")
    decide(make_demonstration(assignment=north))
    second = make_demonstration(assignment=north)
    decide(second, "rejected")
    send(second, words("Hello?", "Again."))
    decide(second)
    make_demonstration(assignment=north)
    decide(make_demonstration("Hi?", "Hallo.", assignment=south), "edited", edited=words())

    assert vendor_quality() == [
        VendorQuality(
            vendor="North",
            num_submitted=3,
            num_approved=2,
            num_waiting=1,
            approved_at_once=wilson_proportion(1, 2),
            edited_at_once=wilson_proportion(0, 2),
            rejected_at_once=wilson_proportion(1, 2),
            mean_revisions=1.5,
        ),
        VendorQuality(
            vendor="South",
            num_submitted=1,
            num_approved=1,
            num_waiting=0,
            approved_at_once=wilson_proportion(0, 1),
            edited_at_once=wilson_proportion(1, 1),
            rejected_at_once=wilson_proportion(0, 1),
            mean_revisions=1.0,
        ),
    ]


def test_a_set_holds_each_turn_of_what_is_approved_as_sft_reads_it() -> None:
    assignment = open_test_assignment("Week 1", vendor="North")
    approved = make_demonstration("One?", "1.", "Two?", "2.", assignment=assignment)
    decide(approved)
    edited = make_demonstration("Three?", "4.", assignment=assignment)
    decide(edited, "edited", edited=words("Three?", "3."))
    make_demonstration("Waits?", "Yes.", assignment=assignment)
    decide(make_demonstration("Bad?", "Yes.", assignment=assignment), "rejected")
    decide(make_demonstration("Elsewhere?", "Yes."))

    made = freeze_demonstrations(assignments=[assignment], name="set 1", frozen_by=make_lead())

    rows = list(read_demonstrations(made.artifact.location))
    assert rows == [
        DemonstrationRecord(
            prompt=DialogueRecord.from_texts("One?"),
            response="1.",
            source=approved.author.pseudonym,
        ),
        DemonstrationRecord(
            prompt=DialogueRecord.from_texts("One?", "1.", "Two?"),
            response="2.",
            source=approved.author.pseudonym,
        ),
        DemonstrationRecord(
            prompt=DialogueRecord.from_texts("Three?"),
            response="3.",
            source=edited.author.pseudonym,
        ),
    ]
    assert made.artifact.kind == "demonstrations"
    assert made.manifest["num_rows"] == 3
    assert made.manifest["num_demonstrations"] == 2
    assert made.manifest["num_by_vendor"] == {"North": 2}
    assert made.manifest["num_by_axis"] == {"helpfulness": 2}
    items = DemonstrationSetItem.objects.filter(demonstration_set=made)
    assert {item.revision_id for item in items} == {approved.current_id, edited.current_id}


def test_equal_demonstrations_freeze_to_equal_bytes_and_one_taken_back_is_left_out() -> None:
    one, two = open_test_assignment(), open_test_assignment()
    first, second = make_demonstration(assignment=one), make_demonstration(assignment=two)
    for demonstration in (first, second):
        decide(demonstration)
    lead = make_lead()

    a = freeze_demonstrations(assignments=[one, two], name="a", frozen_by=lead)
    b = freeze_demonstrations(assignments=[two, one], name="b", frozen_by=lead)
    assert a.artifact == b.artifact

    reopen(second)
    c = freeze_demonstrations(assignments=[one, two], name="c", frozen_by=lead)
    assert c.artifact != a.artifact
    assert c.manifest["num_demonstrations"] == 1
    assert freeze_demonstrations(assignments=[one, two], name="a", frozen_by=lead) == a


def test_a_set_has_a_name_of_its_own_and_something_in_it() -> None:
    lead, assignment = make_lead(), open_test_assignment("Week 1")
    with pytest.raises(RecordError, match="none of their demonstrations is approved"):
        freeze_demonstrations(assignments=[assignment], name="a", frozen_by=lead)
    assert not DemonstrationSet.objects.exists()
    decide(make_demonstration(assignment=assignment))
    freeze_demonstrations(assignments=[assignment], name="a", frozen_by=lead)
    with pytest.raises(NameTakenError, match="'a'"):
        freeze_demonstrations(assignments=[open_test_assignment()], name="a", frozen_by=lead)
    with pytest.raises(RecordError, match="name"):
        freeze_demonstrations(assignments=[assignment], name=" ", frozen_by=lead)
    with pytest.raises(NotAllowedError):
        freeze_demonstrations(assignments=[assignment], name="b", frozen_by=make_reviewer())


def test_what_an_author_took_back_is_in_no_later_set() -> None:
    assignment = open_test_assignment()
    stays, leaves = make_annotator(), make_annotator()
    for author, text in ((stays, "Hello."), (leaves, "Goodbye.")):
        decide(make_demonstration("Hello?", text, author=author, assignment=assignment))
    services.withdraw_consent(annotator=leaves, client_key=uuid.uuid4())
    made = freeze_demonstrations(assignments=[assignment], name="after", frozen_by=make_lead())
    rows = list(read_demonstrations(made.artifact.location))
    assert [row.response for row in rows] == ["Hello."]
