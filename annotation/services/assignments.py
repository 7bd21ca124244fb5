"""Assignments: campaigns of writing demonstrations, opened and closed, and their places.

A place is taken by one UPDATE whose WHERE holds the target, so no two people get the last one. It
is held while a demonstration is written, reviewed and once it is approved; while it is the author's
turn there is a lease, after which the place may go to somebody else.
"""

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from annotation.access import LEADS, require_role
from annotation.errors import AssignmentFullError, RoundConfigError
from annotation.models import Assignment, Demonstration, Guidelines, User
from records.preferences import Axis

WRITING_LEASE = timedelta(hours=2)
"""How long a place is kept for an author who saves no draft."""
REVISION_LEASE = timedelta(days=3)
"""How long it is kept for an author whose demonstration came back with feedback."""
MAX_TURNS = 20


def open_assignment(
    *,
    name: str,
    axis: Axis,
    guidelines: Guidelines,
    target_demonstrations: int,
    max_turns: int,
    opened_by: User,
    vendor: str = "",
) -> Assignment:
    """Open an assignment: from now on annotators find it.

    Args:
        name: What people call it; unique.
        axis: Helpfulness or safety; for safety the prompt names its risk and its attack.
        guidelines: A version of this axis's guidelines.
        target_demonstrations: How many are wanted; never exceeded.
        max_turns: Exchanges in one demonstration, at most.
        opened_by: A lead.
        vendor: Vendor or team whose people write; empty for none.

    Raises:
        NotAllowedError: `opened_by` is no lead.
        RoundConfigError: A setting does not fit; names it.
    """
    require_role(opened_by, LEADS)
    if not name.strip():
        raise RoundConfigError("name", "must not be empty")
    if guidelines.axis != axis:
        raise RoundConfigError("guidelines", f"{guidelines} are for another axis than {axis}")
    if target_demonstrations < 1:
        raise RoundConfigError("target_demonstrations", f"{target_demonstrations} is below 1")
    if not 1 <= max_turns <= MAX_TURNS:
        raise RoundConfigError("max_turns", f"{max_turns} is not between 1 and {MAX_TURNS}")
    try:
        with transaction.atomic():
            return Assignment.objects.create(
                name=name.strip(),
                axis=axis.value,
                guidelines=guidelines,
                vendor=vendor.strip(),
                target_demonstrations=target_demonstrations,
                max_turns=max_turns,
                opened_by=opened_by,
            )
    except IntegrityError as error:
        if Assignment.objects.filter(name=name.strip()).exists():
            raise RoundConfigError("name", f"there is already an assignment {name!r}") from error
        raise


def close_assignment(*, assignment: Assignment, closed_by: User) -> Assignment:
    """Take no new demonstrations; those in somebody's hands may still be sent. Idempotent.

    Raises:
        NotAllowedError: `closed_by` is no lead.
    """
    require_role(closed_by, LEADS)
    Assignment.objects.filter(pk=assignment.pk, state=Assignment.State.OPEN).update(
        state=Assignment.State.CLOSED, closed_at=Now()
    )
    assignment.refresh_from_db()
    return assignment


def take_place(assignment: Assignment) -> None:
    """Count one more demonstration; lapsed leases are given back first if the target is reached.

    Raises:
        AssignmentFullError: Every place is taken.
    """
    if not _take(assignment.pk) and not (release_lapsed(assignment.pk) and _take(assignment.pk)):
        raise AssignmentFullError(assignment.name)


def give_back_places(assignment_id: int, num_places: int = 1) -> None:
    """Count places as free; the caller changes the demonstrations in the same transaction."""
    Assignment.objects.filter(pk=assignment_id).update(num_reserved=F("num_reserved") - num_places)


def release_lapsed(assignment_id: int, limit: int = 1000) -> int:
    """Give back the places of authors who have left, and return how many; their words stay."""
    lapsed = Demonstration.objects.filter(
        assignment=assignment_id,
        holds_slot=True,
        state__in=Demonstration.IN_HANDS,
        lease_expires_at__lt=timezone.now(),
    )
    locked = lapsed.order_by("pk").select_for_update(skip_locked=True, no_key=True)
    ids = list(locked.values_list("pk", flat=True)[:limit])
    if ids:
        Demonstration.objects.filter(pk__in=ids).update(holds_slot=False)
        give_back_places(assignment_id, len(ids))
    return len(ids)


def _take(assignment_id: int) -> bool:
    free = Assignment.objects.filter(pk=assignment_id, num_reserved__lt=F("target_demonstrations"))
    return free.update(num_reserved=F("num_reserved") + 1) == 1
