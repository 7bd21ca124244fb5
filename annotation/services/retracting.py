"""Taking back what one said last: a record of its own, and nothing is deleted."""

import uuid

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from annotation.access import ANNOTATORS, require_role
from annotation.errors import KeyReusedError, NotFoundError, RetractionError
from annotation.models import (
    Comparison,
    Dialogue,
    Exclusion,
    Judgement,
    Retraction,
    ReviewDecision,
    Round,
    Slot,
    SlotSkip,
    User,
)
from annotation.models.kinds import COUNTED_KINDS
from annotation.services.judging import lock_own, settle
from annotation.services.review_queue import queue_disagreement, unqueue_what_is_settled
from annotation.slots import lease_until


def retract_judgement(
    *, annotator: User, judgement: Judgement, client_key: uuid.UUID
) -> Retraction:
    """Take back the judgement that an annotator made last; its pair is to be judged again.

    Of a pair of their own the dialogue goes back to it, and it keeps its slot of the round. A pair
    that they did not write is theirs to judge again for as long as a lease; later one that others
    may judge is offered to them. Why it was asked makes no difference that an annotator could see.
    The same client key again, or a judgement taken back already, returns the first record.

    Raises:
        NotFoundError: The judgement is not this annotator's.
        RetractionError: It is not their last one, the dialogue has gone on or was imported, the
            round is closed, or others have looked at it since.
    """
    require_role(annotator, ANNOTATORS)
    if judgement.annotator_id != annotator.pk:
        raise NotFoundError("judgement", judgement.pk)
    is_own = judgement.slot == 0
    if is_own and judgement.comparison.dialogue.is_imported:
        raise RetractionError("what you said of an imported prompt stands")
    try:
        with transaction.atomic():
            slot = None if is_own else _lock_slot(judgement)
            comparison = lock_own(annotator, judgement.comparison) if slot is None else slot[0]
            active = Retraction.objects.filter(judgement=judgement, is_active=True).first()
            if active is not None:
                return active
            _check(annotator, judgement, comparison)
            retraction = Retraction.objects.create(judgement=judgement, client_key=client_key)
            _mark(judgement, is_retracted=True)
            if slot is None:
                _reopen(comparison)
            else:
                _reopen_slot(*slot)
    except IntegrityError:
        repeated = Retraction.objects.filter(client_key=client_key).first()
        if repeated is None or repeated.judgement_id != judgement.pk:
            raise KeyReusedError from None
        return repeated
    return retraction


def restore_judgement(*, annotator: User, retraction: Retraction) -> Judgement:
    """Let a judgement stand after all that was taken back, while its pair waits. Idempotent.

    Raises:
        NotFoundError: The judgement is not this annotator's.
        RetractionError: The pair has been judged anew, passed on or given to somebody else.
    """
    require_role(annotator, ANNOTATORS)
    judgement = retraction.judgement
    if judgement.annotator_id != annotator.pk:
        raise NotFoundError("judgement", judgement.pk)
    with transaction.atomic():
        slot = _lock_slot(judgement) if judgement.slot else None
        comparison = lock_own(annotator, judgement.comparison) if slot is None else slot[0]
        retraction.refresh_from_db()
        if not retraction.is_active:
            return judgement
        if slot is None:
            is_waiting = comparison.state == Comparison.State.READY
        else:
            is_waiting = _waits_for(annotator, slot[1])
        if not is_waiting:
            raise RetractionError("this pair has been dealt with since")
        retraction.is_active, retraction.ended_at = False, timezone.now()
        retraction.save(update_fields=["is_active", "ended_at"])
        _mark(judgement, is_retracted=False)
        if slot is None:
            settle(comparison, judgement, is_edited=False)
        else:
            _settle_slot(*slot, judgement)
    return judgement


def _check(annotator: User, judgement: Judgement, comparison: Comparison) -> None:
    """Raise unless the judgement may be taken back now; its pair is locked.

    Raises:
        RetractionError: Says why not.
    """
    if not comparison.round.is_open:
        raise RetractionError("this round is closed: what was said in it stands")
    is_own = judgement.slot == 0
    if is_own and comparison.dialogue.comparisons.filter(turn__gt=comparison.turn).exists():
        raise RetractionError("the dialogue has gone on since; tell a reviewer by a flag")
    newest = Judgement.objects.filter(annotator=annotator).order_by("-pk").first()
    if newest != judgement:
        raise RetractionError("only what you said last can be taken back")
    if _has_been_looked_at(judgement, comparison):
        raise RetractionError("somebody else has looked at this pair since")


def _has_been_looked_at(judgement: Judgement, comparison: Comparison) -> bool:
    """Whether others have built on a judgement.

    A pair that somebody else wrote was judged before; there what reviewers have done since counts,
    whatever the pair was asked for.
    """
    decisions = ReviewDecision.objects.filter(comparison=comparison, reversed_by__isnull=True)
    decisions = decisions.exclude(kind=ReviewDecision.Kind.UNDO)
    if judgement.slot:
        decisions = decisions.filter(created_at__gt=judgement.created_at)
    others = Judgement.objects.filter(comparison=comparison).exclude(pk=judgement.pk)
    return (
        decisions.exists()
        or Exclusion.objects.filter(judgement=judgement, is_active=True).exists()
        or (judgement.slot == 0 and others.exists())
    )


def _reopen(comparison: Comparison) -> None:
    """Lead the dialogue back to the pair; the round, which all share, is written last."""
    Comparison.objects.filter(pk=comparison.pk).update(
        state=Comparison.State.READY, lease_expires_at=lease_until()
    )
    Dialogue.objects.filter(pk=comparison.dialogue_id).update(
        num_turns=comparison.turn, state=Dialogue.State.OPEN, finished_at=None
    )
    Round.objects.filter(pk=comparison.round_id).update(num_judged=F("num_judged") - 1)


def _reopen_slot(comparison: Comparison, slot: Slot) -> None:
    """Make a slot its annotator's to judge again; the pair that they were given since stays theirs.

    It is therefore not leased, of which everybody has one at most.
    """
    slot.state, slot.offered_at = Slot.State.WITHDRAWN, lease_until()
    slot.save(update_fields=["state", "offered_at"])
    unqueue_what_is_settled(comparison)
    _count(slot, -1)


def _waits_for(annotator: User, slot: Slot) -> bool:
    """Whether a slot taken back is still to be judged by who took it back."""
    if SlotSkip.objects.filter(comparison=slot.comparison_id, annotator=annotator).exists():
        return False
    is_theirs = slot.state == Slot.State.WITHDRAWN and slot.annotator_id == annotator.pk
    return is_theirs or slot.state == Slot.State.FREE


def _settle_slot(comparison: Comparison, slot: Slot, judgement: Judgement) -> None:
    slot.state, slot.annotator_id = Slot.State.JUDGED, judgement.annotator_id
    slot.save(update_fields=["state", "annotator"])
    if slot.kind in COUNTED_KINDS:
        queue_disagreement(comparison)
    _count(slot, 1)


def _count(slot: Slot, change: int) -> None:
    """Count a slot as judged, or no more; the round, which all share, is written last."""
    if slot.kind in COUNTED_KINDS:
        judged = F("num_further_judged") + change
        Round.objects.filter(pk=slot.round_id).update(num_further_judged=judged)


def _lock_slot(judgement: Judgement) -> tuple[Comparison, Slot]:
    """Lock the comparison of a further judgement and its slot, in this order."""
    comparisons = Comparison.objects.select_related("round").select_for_update(
        of=("self",), no_key=True
    )
    comparison = comparisons.get(pk=judgement.comparison_id)
    slots = Slot.objects.select_for_update(no_key=True)
    return comparison, slots.get(comparison=comparison, number=judgement.slot)


def _mark(judgement: Judgement, *, is_retracted: bool) -> None:
    Judgement.with_retracted.filter(pk=judgement.pk).update(is_retracted=is_retracted)
    judgement.is_retracted = is_retracted
