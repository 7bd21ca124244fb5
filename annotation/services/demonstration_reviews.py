"""Reviewing demonstrations: approve, edit and approve, reject with feedback, take back."""

import uuid
from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from annotation.access import REVIEWERS, require_role
from annotation.errors import DemonstrationError, DemonstrationStateError, KeyReusedError
from annotation.models import (
    Assignment,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    User,
)
from annotation.services.assignments import REVISION_LEASE, take_place
from annotation.services.demonstrations import (
    NewRevision,
    add_revision,
    check_revision,
    lock_demonstration,
)

MAX_FEEDBACK_CHARACTERS = 5000
Decision = DemonstrationReview.Decision


def review_demonstration(
    *,
    reviewer: User,
    revision: DemonstrationRevision,
    decision: str,
    client_key: uuid.UUID,
    feedback: str = "",
    categories: Sequence[str] = (),
    edited: NewRevision | None = None,
) -> DemonstrationReview:
    """Decide on a revision: `approved`, `edited` (and approved) or `rejected`.

    The decision is a row of its own and an edit a further revision; the author's own words stay.
    The same client key again returns the first decision.

    Args:
        reviewer: Not the author.
        revision: What the reviewer has read; it must still be the one to decide on.
        decision: One of `DemonstrationReview.Decision` but `reopened`.
        client_key: Made by the form that is submitted.
        feedback: What the author reads; a rejection needs it.
        categories: Which of `DemonstrationReview.Category` it falls under.
        edited: The words approved instead, where the decision is `edited`.

    Raises:
        NotAllowedError: The person is no reviewer.
        DemonstrationError: A value does not fit; names the field.
        DemonstrationStateError: It has been decided or revised meanwhile.
    """
    require_role(reviewer, REVIEWERS)
    _check_decision(decision, feedback, categories)
    repeated = _review_with(client_key, revision)
    if repeated is not None:
        return repeated
    try:
        with transaction.atomic():
            demonstration = lock_demonstration(revision.demonstration)
            _check_is_to_decide(demonstration, revision, reviewer)
            edited_revision = None
            if decision == Decision.EDITED:
                edited_revision = _store_edit(demonstration, revision, edited, reviewer)
            review = DemonstrationReview.objects.create(
                demonstration=demonstration,
                revision=revision,
                edited_revision=edited_revision,
                reviewer=reviewer,
                decision=decision,
                categories=list(categories),
                feedback=feedback.strip(),
                client_key=client_key,
            )
            _settle(demonstration, decision)
    except (IntegrityError, DemonstrationStateError):
        repeated = _review_with(client_key, revision)
        if repeated is None:
            raise
        return repeated
    return review


def reopen_demonstration(
    *, reviewer: User, demonstration: Demonstration, client_key: uuid.UUID, note: str = ""
) -> DemonstrationReview:
    """Take the last decision back: the revision that was decided on waits for a decision again.

    The decision stays, and this is a row after it.

    Raises:
        NotAllowedError: The person is no reviewer.
        DemonstrationStateError: There is no decision to take back.
        AssignmentFullError: It was rejected and its place has gone to somebody else.
    """
    require_role(reviewer, REVIEWERS)
    with transaction.atomic():
        locked = lock_demonstration(demonstration)
        repeated = DemonstrationReview.objects.filter(
            client_key=client_key, demonstration=locked
        ).first()
        if repeated is not None:
            return repeated
        was_approved = locked.state == Demonstration.State.APPROVED
        if not was_approved and locked.state != Demonstration.State.REJECTED:
            raise DemonstrationStateError(locked.state, "an approved or rejected one")
        last = locked.reviews.select_related("revision").latest("pk")
        if not locked.holds_slot:
            take_place(locked.assignment)
        locked.state, locked.holds_slot = Demonstration.State.SUBMITTED, True
        locked.current = last.revision
        locked.save(update_fields=["state", "holds_slot", "current"])
        if was_approved:
            _count_approved(locked.assignment_id, -1)
        return DemonstrationReview.objects.create(
            demonstration=locked,
            revision=last.revision,
            reviewer=reviewer,
            decision=Decision.REOPENED,
            feedback=note.strip(),
            client_key=client_key,
        )


def _check_decision(decision: str, feedback: str, categories: Sequence[str]) -> None:
    if decision not in (Decision.APPROVED, Decision.EDITED, Decision.REJECTED):
        message = f"{decision!r} is not one of approved, edited, rejected"
        raise DemonstrationError("decision", message)
    unknown = set(categories) - set(DemonstrationReview.Category.values)
    if unknown:
        known = ", ".join(DemonstrationReview.Category.values)
        raise DemonstrationError("categories", f"{sorted(unknown)} are not among {known}")
    if decision == Decision.REJECTED and not feedback.strip():
        raise DemonstrationError("feedback", "say what the author should change: it is empty")
    if len(feedback) > MAX_FEEDBACK_CHARACTERS:
        message = f"{len(feedback)} characters are more than {MAX_FEEDBACK_CHARACTERS}; shorten"
        raise DemonstrationError("feedback", message)


def _check_is_to_decide(
    demonstration: Demonstration, revision: DemonstrationRevision, reviewer: User
) -> None:
    if demonstration.author_id == reviewer.pk:
        raise DemonstrationError("decision", "nobody reviews a demonstration of their own")
    if demonstration.state != Demonstration.State.SUBMITTED:
        raise DemonstrationStateError(demonstration.state, "one that waits for review")
    if demonstration.current_id != revision.pk:
        raise DemonstrationStateError("revised since you opened it", "its newest revision")


def _store_edit(
    demonstration: Demonstration,
    revision: DemonstrationRevision,
    edited: NewRevision | None,
    reviewer: User,
) -> DemonstrationRevision:
    if edited is None:
        raise DemonstrationError("decision", "an edit comes with the words it makes")
    checked = check_revision(edited, demonstration.assignment)
    before = [(turn.prompt_text, turn.response_text) for turn in revision.turns.all()]
    labels = (revision.risk_category, revision.attack_vector)
    if before == [tuple(turn) for turn in checked.turns] and labels == (
        checked.risk_category,
        checked.attack_vector,
    ):
        raise DemonstrationError("decision", "nothing was changed: approve it as it is")
    return add_revision(demonstration, checked, reviewer, uuid.uuid4())


def _settle(demonstration: Demonstration, decision: str) -> None:
    """Move the locked demonstration on; the assignment, which all share, is locked last."""
    fields = ["state", "current", "num_revisions"]
    if decision == Decision.REJECTED:
        demonstration.state = Demonstration.State.REJECTED
        demonstration.lease_expires_at = timezone.now() + REVISION_LEASE
        fields.append("lease_expires_at")
    else:
        demonstration.state = Demonstration.State.APPROVED
        if decision == Decision.EDITED:
            demonstration.current = demonstration.revisions.latest("number")
    demonstration.save(update_fields=fields)
    # What a reviewer had typed is in the record now.
    demonstration.drafts.exclude(annotator=demonstration.author_id).delete()
    if demonstration.state == Demonstration.State.APPROVED:
        _count_approved(demonstration.assignment_id, 1)


def _count_approved(assignment_id: int, number: int) -> None:
    Assignment.objects.filter(pk=assignment_id).update(num_approved=F("num_approved") + number)


def _review_with(
    client_key: uuid.UUID, revision: DemonstrationRevision
) -> DemonstrationReview | None:
    review = DemonstrationReview.objects.filter(client_key=client_key).first()
    if review is not None and review.revision_id != revision.pk:
        raise KeyReusedError
    return review
