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
    User,
)
from annotation.services.judging import lock_own, settle
from annotation.slots import lease_until


def retract_judgement(
    *, annotator: User, judgement: Judgement, client_key: uuid.UUID
) -> Retraction:
    """Take back the judgement that an annotator made last; its pair is to be judged again.

    The dialogue goes back to that pair, which keeps its slot of the round. The same client key
    again, or a judgement taken back already, returns the first record.

    Raises:
        NotFoundError: The judgement is not this annotator's.
        RetractionError: It is not their last one or of a pair of somebody else's, the dialogue has
            gone on, the round is closed, or others have looked at it since.
    """
    require_role(annotator, ANNOTATORS)
    if judgement.annotator_id != annotator.pk:
        raise NotFoundError("judgement", judgement.pk)
    if judgement.slot != 0:
        raise RetractionError("what you said of somebody else's pair stands")
    if judgement.comparison.dialogue.is_imported:
        raise RetractionError("what you said of an imported prompt stands")
    try:
        with transaction.atomic():
            comparison = lock_own(annotator, judgement.comparison)
            active = Retraction.objects.filter(judgement=judgement, is_active=True).first()
            if active is not None:
                return active
            _check(annotator, judgement, comparison)
            retraction = Retraction.objects.create(judgement=judgement, client_key=client_key)
            _reopen(judgement, comparison)
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
        RetractionError: The pair has been judged anew or passed on.
    """
    require_role(annotator, ANNOTATORS)
    judgement = retraction.judgement
    with transaction.atomic():
        comparison = lock_own(annotator, judgement.comparison)
        retraction.refresh_from_db()
        if retraction.is_active:
            if comparison.state != Comparison.State.READY:
                raise RetractionError("this pair has been dealt with since")
            retraction.is_active, retraction.ended_at = False, timezone.now()
            retraction.save(update_fields=["is_active", "ended_at"])
            _mark(judgement, is_retracted=False)
            settle(comparison, judgement, is_edited=False)
    return judgement


def _check(annotator: User, judgement: Judgement, comparison: Comparison) -> None:
    """Raise unless the judgement may be taken back now; the dialogue is locked.

    Raises:
        RetractionError: Says why not.
    """
    if not comparison.round.is_open:
        raise RetractionError("this round is closed: what was said in it stands")
    if comparison.dialogue.comparisons.filter(turn__gt=comparison.turn).exists():
        raise RetractionError("the dialogue has gone on since; tell a reviewer by a flag")
    newest = Judgement.objects.filter(annotator=annotator).order_by("-pk").first()
    if newest != judgement:
        raise RetractionError("only what you said last can be taken back")
    decisions = ReviewDecision.objects.filter(comparison=comparison, reversed_by__isnull=True)
    if (
        Judgement.objects.filter(comparison=comparison).exclude(pk=judgement.pk).exists()
        or decisions.exclude(kind=ReviewDecision.Kind.UNDO).exists()
        or Exclusion.objects.filter(judgement=judgement, is_active=True).exists()
    ):
        raise RetractionError("somebody else has looked at this pair since")


def _reopen(judgement: Judgement, comparison: Comparison) -> None:
    """Lead the dialogue back to the pair; the round, which all share, is written last."""
    _mark(judgement, is_retracted=True)
    Comparison.objects.filter(pk=comparison.pk).update(
        state=Comparison.State.READY, lease_expires_at=lease_until()
    )
    Dialogue.objects.filter(pk=comparison.dialogue_id).update(
        num_turns=comparison.turn, state=Dialogue.State.OPEN, finished_at=None
    )
    Round.objects.filter(pk=comparison.round_id).update(num_judged=F("num_judged") - 1)


def _mark(judgement: Judgement, *, is_retracted: bool) -> None:
    Judgement.with_retracted.filter(pk=judgement.pk).update(is_retracted=is_retracted)
    judgement.is_retracted = is_retracted
