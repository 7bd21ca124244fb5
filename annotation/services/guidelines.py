"""Guidelines are confirmed: the first version by beginning with it, a later one by a look at it."""

from django.db import transaction

from annotation.access import ANNOTATORS, require_role
from annotation.models import Guidelines, GuidelinesConfirmation, User


def confirm_guidelines(*, annotator: User, guidelines: Guidelines) -> GuidelinesConfirmation:
    """Record that the annotator has seen what is new in this version. Idempotent.

    Raises:
        NotAllowedError: The person is no annotator.
    """
    require_role(annotator, ANNOTATORS)
    with transaction.atomic():
        confirmation, _ = GuidelinesConfirmation.objects.get_or_create(
            annotator=annotator,
            guidelines=guidelines,
            defaults={"earlier": last_confirmed(annotator, guidelines)},
        )
    return confirmation


def begin_with_guidelines(*, annotator: User, guidelines: Guidelines) -> None:
    """Record the first version that somebody works by on an axis; later ones are confirmed."""
    known = GuidelinesConfirmation.objects.filter(
        annotator=annotator, guidelines__axis=guidelines.axis
    )
    if not known.exists():
        GuidelinesConfirmation.objects.get_or_create(annotator=annotator, guidelines=guidelines)


def last_confirmed(annotator: User, guidelines: Guidelines) -> Guidelines | None:
    """Return the version on this axis that the annotator confirmed last, other than this one."""
    rows = GuidelinesConfirmation.objects.filter(
        annotator=annotator, guidelines__axis=guidelines.axis
    ).exclude(guidelines=guidelines)
    last = rows.select_related("guidelines").order_by("-pk").first()
    return None if last is None else last.guidelines
