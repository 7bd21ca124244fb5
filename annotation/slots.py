"""The slots of a round: who holds one, for how long, and how it is given back.

A comparison's slot 0 is its author's and counts towards the round's target; further ones are rows
of `Slot`. A round hands out as many comparisons as its target. Taking a slot is one UPDATE whose
WHERE holds the bound, so no two people get the last one. A slot is held by a comparison until it is
judged, given up, or its lease lapses; after that it may be taken again as long as one is free.
"""

import random
from datetime import datetime, timedelta

from django.db.models import F
from django.utils import timezone

from annotation.errors import RoundFullError
from annotation.items import offer_lapsed_again
from annotation.models import Comparison, JudgementKind, Round, Slot

LEASE = timedelta(minutes=30)
"""How long a slot is kept for an annotator who shows no sign of life."""


def lease_until() -> datetime:
    """Return when a lease that begins now lapses."""
    return timezone.now() + LEASE


def take_slot(round_: Round) -> None:
    """Count one more comparison of the round as taken; lapsed leases are given back first if full.

    Raises:
        RoundFullError: Every slot is judged or in somebody's hands.
    """
    if _take(round_.pk) or (release_expired(round_.pk) and _take(round_.pk)):
        return
    raise RoundFullError(round_.name, next_free_at(round_))


def give_back_slot(round_id: int, num_slots: int = 1) -> None:
    """Count slots as free; the caller changes the comparisons in the same transaction."""
    Round.objects.filter(pk=round_id).update(num_reserved=F("num_reserved") - num_slots)


def release_expired(round_id: int, limit: int = 1000) -> int:
    """Give back the slots of a round whose leases have lapsed, and return how many."""
    held = Comparison.objects.holding().filter(round=round_id, lease_expires_at__lt=timezone.now())
    locked = held.order_by("pk").select_for_update(skip_locked=True, no_key=True)
    ids = list(locked.values_list("pk", flat=True)[:limit])
    if ids:
        Comparison.objects.filter(pk__in=ids).update(holds_slot=False)
        offer_lapsed_again(ids)
        give_back_slot(round_id, len(ids))
    return len(ids)


def next_free_at(round_: Round) -> datetime | None:
    """Return when the first lease of the round lapses; None if none is out."""
    held = Comparison.objects.holding().filter(round=round_)
    return held.order_by("lease_expires_at").values_list("lease_expires_at", flat=True).first()


def number_slots(comparison: Comparison, number: int) -> range:
    """Return the numbers of the comparison's next slots; its row is locked by the caller."""
    first = comparison.num_slots
    comparison.num_slots += number
    comparison.save(update_fields=["num_slots"])
    return range(first, first + number)


def offer_overlap(comparison: Comparison) -> int:
    """Offer further judgements of a share of comparisons, drawn by its seed; return how many.

    The comparison's row is locked by the caller, who counts what was offered.
    """
    round_ = comparison.round
    number = round_.judgements_per_comparison - 1
    drawn = random.Random(f"{comparison.seed} {comparison.pk} overlap").random()
    if drawn >= round_.overlap_share or not number:
        return 0
    Slot.objects.bulk_create(
        Slot(
            comparison=comparison,
            round=round_,
            number=slot_number,
            kind=JudgementKind.OVERLAP,
            author_id=comparison.dialogue.annotator_id,
        )
        for slot_number in number_slots(comparison, number)
    )
    return number


def _take(round_id: int) -> bool:
    free = Round.objects.filter(pk=round_id, num_reserved__lt=F("target_comparisons"))
    return free.update(num_reserved=F("num_reserved") + 1) == 1
