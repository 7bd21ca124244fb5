"""Reviewing: judgements that must not be learned from are excluded, never deleted."""

from django.db import transaction
from django.db.models import F

from annotation.access import REVIEWERS, require_role
from annotation.errors import JudgementError
from annotation.models import Exclusion, Judgement, Round, User


def exclude_judgement(
    *, reviewer: User, judgement: Judgement, reason: str, note: str = ""
) -> Exclusion:
    """Keep a judgement out of all snapshots frozen from now on. The first exclusion stands.

    Raises:
        NotAllowedError: The person is no reviewer.
        JudgementError: There is no such reason.
    """
    require_role(reviewer, REVIEWERS)
    if reason not in Exclusion.Reason.values:
        reasons = ", ".join(Exclusion.Reason.values)
        raise JudgementError("reason", f"{reason!r} is not one of {reasons}")
    with transaction.atomic():
        exclusion, is_new = Exclusion.objects.get_or_create(
            judgement=judgement, defaults={"reviewer": reviewer, "reason": reason, "note": note}
        )
        if is_new:
            Round.objects.filter(comparisons=judgement.comparison_id).update(
                num_excluded=F("num_excluded") + 1
            )
    return exclusion
