"""Demonstrations as people read them: getters, the reviewers' queue, quality by vendor."""

from typing import Any, NamedTuple

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery

from annotation.access import ANNOTATORS, LEADS, REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.models import (
    Assignment,
    Demonstration,
    DemonstrationReview,
    DemonstrationRevision,
    DemonstrationSet,
    Draft,
    User,
)
from records.statistics import Proportion, wilson_proportion

Decision = DemonstrationReview.Decision


class VendorQuality(NamedTuple):
    """How one vendor's demonstrations were received."""

    vendor: str
    num_submitted: int
    """Demonstrations sent at least once."""
    num_approved: int
    num_waiting: int
    approved_at_once: Proportion
    """Of those decided on: approved as first sent, without an edit."""
    edited_at_once: Proportion
    rejected_at_once: Proportion
    mean_revisions: float | None
    """Revisions of an approved demonstration."""

    @property
    def shares(self) -> tuple[Proportion, Proportion, Proportion]:
        """How the first decisions fell: approved, edited, sent back."""
        return self.approved_at_once, self.edited_at_once, self.rejected_at_once


def get_open_assignment_for(annotator: User, pk: int) -> Assignment:
    """Return an open assignment that an annotator may write for.

    Raises:
        NotAllowedError: The person is no annotator.
        NotFoundError: There is no such open assignment.
    """
    require_role(annotator, ANNOTATORS)
    found = Assignment.objects.open().select_related("guidelines").filter(pk=pk).first()
    if found is None:
        raise NotFoundError("assignment", pk)
    return found


def get_assignment_for(lead: User, pk: int) -> Assignment:
    """Return an assignment for its lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    found = Assignment.objects.select_related("guidelines", "opened_by").filter(pk=pk).first()
    if found is None:
        raise NotFoundError("assignment", pk)
    return found


def get_demonstration_for(person: User, pk: int) -> Demonstration:
    """Return a demonstration of this annotator's own, or any that was sent, for a reviewer.

    Raises:
        NotAllowedError: The person is neither.
        NotFoundError: It is somebody else's, or there is none.
    """
    rows = Demonstration.objects.select_related("assignment__guidelines", "author", "current")
    if person.has_role(ANNOTATORS):
        rows = rows.filter(author=person)
    else:
        require_role(person, REVIEWERS)
        rows = rows.filter(current__isnull=False)
    found = rows.filter(pk=pk).first()
    if found is None:
        raise NotFoundError("demonstration", pk)
    return found


def get_demonstration_set_for(lead: User, pk: int) -> DemonstrationSet:
    """Return a frozen set for a lead.

    Raises:
        NotAllowedError: The person is no lead.
        NotFoundError: There is none.
    """
    require_role(lead, LEADS)
    found = DemonstrationSet.objects.select_related("artifact", "frozen_by").filter(pk=pk).first()
    if found is None:
        raise NotFoundError("demonstration set", pk)
    return found


def demonstration_draft(person: User, demonstration: Demonstration) -> dict[str, Any]:
    """Return the fields last kept for a form, or an empty mapping."""
    draft = Draft.objects.filter(annotator=person, demonstration=demonstration).first()
    return dict(draft.fields) if draft else {}


def demonstrations_to_review(
    *, after: int | None = None, axis: str = ""
) -> QuerySet[Demonstration]:
    """Return what waits for a reviewer, the oldest first, beyond id `after`."""
    waiting = Demonstration.objects.filter(state=Demonstration.State.SUBMITTED)
    if after is not None:
        waiting = waiting.filter(pk__gt=after)
    if axis:
        waiting = waiting.filter(assignment__axis=axis)
    return waiting.select_related("assignment", "author", "current").order_by("pk")


def revisions_of(demonstration: Demonstration) -> list[DemonstrationRevision]:
    """Return all revisions with their turns, the oldest first."""
    revisions = demonstration.revisions.select_related("written_by").prefetch_related("turns")
    return list(revisions.order_by("number"))


def reviews_of(demonstration: Demonstration) -> list[DemonstrationReview]:
    """Return all decisions, the oldest first."""
    reviews = demonstration.reviews.select_related("revision", "edited_revision", "reviewer")
    return list(reviews.order_by("pk"))


def vendor_quality() -> list[VendorQuality]:
    """Return the figures of every vendor, by name; the empty name stands for none."""
    first = DemonstrationReview.objects.filter(demonstration=OuterRef("pk")).order_by("pk")
    rows = (
        Demonstration.objects.filter(current__isnull=False)
        .annotate(first_decision=Subquery(first.values("decision")[:1]))
        .values(vendor=F("assignment__vendor"))
        .annotate(
            submitted=Count("pk"),
            approved=Count("pk", filter=Q(state=Demonstration.State.APPROVED)),
            waiting=Count("pk", filter=Q(state=Demonstration.State.SUBMITTED)),
            first_approved=Count("pk", filter=Q(first_decision=Decision.APPROVED)),
            first_edited=Count("pk", filter=Q(first_decision=Decision.EDITED)),
            first_rejected=Count("pk", filter=Q(first_decision=Decision.REJECTED)),
        )
        .order_by("assignment__vendor")
    )
    revisions = _revisions_by_vendor()
    return [_quality(dict(row), revisions.get(row["vendor"], 0)) for row in rows]


def counter_drift_of(assignment: Assignment) -> dict[str, tuple[int, int]]:
    """Return counters that differ from what they count: name to (stored, counted)."""
    row = Assignment.objects.get(pk=assignment.pk)
    counted = Demonstration.objects.filter(assignment=assignment).aggregate(
        num_reserved=Count("pk", filter=Q(holds_slot=True)),
        num_approved=Count("pk", filter=Q(state=Demonstration.State.APPROVED)),
    )
    return {
        name: (getattr(row, name), number)
        for name, number in counted.items()
        if getattr(row, name) != number
    }


def _revisions_by_vendor() -> dict[str, int]:
    """Return the revisions that authors wrote of approved demonstrations, by vendor."""
    rows = (
        DemonstrationRevision.objects.filter(
            demonstration__state=Demonstration.State.APPROVED,
            written_by=F("demonstration__author"),
        )
        .values_list("demonstration__assignment__vendor")
        .annotate(Count("pk"))
        .order_by()
    )
    return dict(rows)


def _quality(row: dict[str, Any], num_revisions: int) -> VendorQuality:
    decided = row["first_approved"] + row["first_edited"] + row["first_rejected"]
    approved = row["approved"]
    return VendorQuality(
        vendor=row["vendor"],
        num_submitted=row["submitted"],
        num_approved=approved,
        num_waiting=row["waiting"],
        approved_at_once=wilson_proportion(row["first_approved"], decided),
        edited_at_once=wilson_proportion(row["first_edited"], decided),
        rejected_at_once=wilson_proportion(row["first_rejected"], decided),
        mean_revisions=num_revisions / approved if approved else None,
    )
