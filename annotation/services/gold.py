"""Gold: a lead declares what the right answer to a comparison is, and may take that back."""

from django.db import transaction
from django.db.models.functions import Now

from annotation.access import LEADS, require_role
from annotation.errors import JudgementError, StateError
from annotation.models import Comparison, GoldComparison, User
from annotation.scale import Side
from annotation.services.verdicts import checked_bin
from records.preferences import Axis


def declare_gold(
    *,
    comparison: Comparison,
    expected_side: Side,
    declared_by: User,
    expected_bin: str = "",
    note: str = "",
) -> GoldComparison:
    """Declare which response of a pair is better: from now on it is put silently before others.

    Declaring the same again returns the first row, and serves it again where it was retired.

    Raises:
        NotAllowedError: `declared_by` is no lead.
        StateError: The comparison has no two responses, or was given up.
        ContradictionError: Only the response that is not expected is called safe.
        JudgementError: The bin does not fit the round, or there is another answer already.
    """
    require_role(declared_by, LEADS)
    if comparison.state not in (Comparison.State.READY, Comparison.State.JUDGED):
        raise StateError(comparison.state, "a comparison with two responses")
    safety_bin = checked_bin(Axis(comparison.round.axis), expected_bin)
    sample = comparison.samples.get(side=expected_side)
    values = {
        "round_id": comparison.round_id,
        "expected_sample": sample,
        "expected_side": expected_side.value,
        "expected_bin": safety_bin,
        "note": note,
        "declared_by": declared_by,
    }
    with transaction.atomic():
        gold, is_new = GoldComparison.objects.get_or_create(comparison=comparison, defaults=values)
        if not is_new and (gold.expected_side, gold.expected_bin) != (expected_side, safety_bin):
            raise JudgementError("expected_side", "this comparison has another answer already")
        return serve_gold(gold=gold, served_by=declared_by)


def retire_gold(*, gold: GoldComparison, retired_by: User) -> GoldComparison:
    """Put a gold comparison before nobody any more; what was judged of it stays. Idempotent.

    Raises:
        NotAllowedError: `retired_by` is no lead.
    """
    require_role(retired_by, LEADS)
    GoldComparison.objects.filter(pk=gold.pk, retired_at__isnull=True).update(retired_at=Now())
    gold.refresh_from_db()
    return gold


def serve_gold(*, gold: GoldComparison, served_by: User) -> GoldComparison:
    """Put a retired gold comparison before annotators again. Idempotent.

    Raises:
        NotAllowedError: `served_by` is no lead.
    """
    require_role(served_by, LEADS)
    GoldComparison.objects.filter(pk=gold.pk).update(retired_at=None)
    gold.refresh_from_db()
    return gold
