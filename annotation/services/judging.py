"""Judging: one atomic, idempotent write per comparison; passing on, flags, heartbeats."""

import uuid
from collections.abc import Mapping

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from annotation.access import ANNOTATORS, require_role
from annotation.errors import (
    AlreadyJudgedError,
    JudgementError,
    KeyReusedError,
    NotFoundError,
    StateError,
)
from annotation.models import Comparison, Dialogue, Judgement, Round, Sample, User
from annotation.scale import safety_bin_named
from annotation.services.review_queue import queue_flag
from annotation.slots import give_back_slot, lease_until, release_expired, take_slot
from records.preferences import Axis, Rating

MAX_ACTIVE_SECONDS = 24 * 3600.0


def submit_comparison(
    *,
    annotator: User,
    comparison: Comparison,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
    client_key: uuid.UUID,
    active_seconds: float,
) -> Judgement:
    """Store a judgement: which response is better, by how much, and in a safety round the bin.

    All or nothing; the same client key again returns the same judgement. A comparison whose lease
    has lapsed is still accepted while the round has a free slot.

    Args:
        annotator: Whose comparison it is.
        comparison: The comparison; its row is read anew.
        chosen_sample_id: One of its two samples, never a position or a text.
        rating: One of `records.preferences.Rating`.
        safety_bin: One of `records.preferences.SafetyBin`, or `scale.OTHER_SAFE`, which is refused
            with an explanation; None or empty in a helpfulness round.
        client_key: Made by the form that is submitted.
        active_seconds: Time the page was in front and used.

    Raises:
        NotFoundError: The comparison is not this annotator's.
        ContradictionError: An unsafe response is preferred to a safe one.
        JudgementError: Another value does not fit; names the field.
        AlreadyJudgedError: It was judged with another client key.
        StateError: It is not ready to be judged.
        RoundFullError: The lease has lapsed and others took the last slot.
    """
    require_role(annotator, ANNOTATORS)
    try:
        with transaction.atomic():
            locked = _lock_own(annotator, comparison)
            if locked.state == Comparison.State.JUDGED:
                raise AlreadyJudgedError
            if locked.state != Comparison.State.READY:
                raise StateError(locked.state, Comparison.State.READY)
            judgement = _build(
                locked, chosen_sample_id, rating, safety_bin, client_key, active_seconds
            )
            judgement.save(force_insert=True)
            _settle(locked)
    except (AlreadyJudgedError, IntegrityError):
        # The same form again; if at the same time, it has waited for the first one's lock.
        repeated = _judgement_of(client_key)
        if repeated is None:
            raise
        return _same(repeated, annotator, comparison)
    return judgement


def skip_comparison(
    *, annotator: User, comparison: Comparison, reason: str, note: str = ""
) -> Comparison:
    """Pass on a comparison that is not judged; its slot is free for others. Idempotent.

    The dialogue stays open: its author may write another prompt for this turn.

    Raises:
        NotFoundError: The comparison is not this annotator's.
        JudgementError: There is no such reason.
        StateError: It has been judged, or failed.
    """
    require_role(annotator, ANNOTATORS)
    if reason not in Comparison.SkipReason.values:
        reasons = ", ".join(Comparison.SkipReason.values)
        raise JudgementError("reason", f"{reason!r} is not one of {reasons}")
    with transaction.atomic():
        locked = _lock_own(annotator, comparison)
        if locked.state == Comparison.State.SKIPPED:
            return locked
        if not locked.is_live:
            raise StateError(locked.state, "a comparison that is not judged")
        held_slot = locked.holds_slot
        locked.state = Comparison.State.SKIPPED
        locked.skip_reason, locked.skip_note = reason, note
        locked.sampling_expires_at = None
        locked.holds_slot = False
        locked.save(
            update_fields=["state", "skip_reason", "skip_note", "sampling_expires_at", "holds_slot"]
        )
        locked.drafts.all().delete()
        if held_slot:
            give_back_slot(locked.round_id)
    return locked


def flag_comparison(*, annotator: User, comparison: Comparison, note: str) -> Comparison:
    """Bring a comparison before a reviewer; it may still be judged or passed on.

    Raises:
        NotFoundError: The comparison is not this annotator's.
    """
    require_role(annotator, ANNOTATORS)
    with transaction.atomic():
        locked = _lock_own(annotator, comparison)
        locked.is_flagged, locked.flag_note = True, note
        locked.save(update_fields=["is_flagged", "flag_note"])
        queue_flag(locked)
    return locked


def beat_comparison(*, annotator: User, comparison: Comparison) -> bool:
    """Keep the slot of a comparison that somebody is looking at; False if it no longer holds one.

    Raises:
        NotFoundError: The comparison is not this annotator's.
    """
    if comparison.dialogue.annotator_id != annotator.pk:
        raise NotFoundError("comparison", comparison.pk)
    live = Comparison.objects.live().filter(pk=comparison.pk, holds_slot=True)
    return live.update(lease_expires_at=lease_until()) == 1


def finish_dialogue(*, annotator: User, dialogue: Dialogue) -> Dialogue:
    """End a dialogue before it has all its turns; a pair not judged yet is passed on. Idempotent.

    Raises:
        NotFoundError: The dialogue is not this annotator's.
    """
    require_role(annotator, ANNOTATORS)
    if dialogue.annotator_id != annotator.pk:
        raise NotFoundError("dialogue", dialogue.pk)
    with transaction.atomic():
        locked = Dialogue.objects.select_for_update(no_key=True).get(pk=dialogue.pk)
        if not locked.is_open:
            return locked
        for comparison in Comparison.objects.live().filter(dialogue=locked):
            skip_comparison(
                annotator=annotator,
                comparison=comparison,
                reason=Comparison.SkipReason.OTHER,
                note="dialogue ended",
            )
        Dialogue.objects.filter(pk=locked.pk).update(
            state=Dialogue.State.FINISHED, finished_at=Now()
        )
        locked.drafts.all().delete()
        locked.refresh_from_db()
    return locked


def release_expired_leases() -> int:
    """Give back the slots of all rounds whose leases have lapsed; return how many.

    The comparisons stay as they are: their authors may still judge them while a slot is free.
    """
    released = 0
    unsettled = Round.objects.filter(num_reserved__gt=F("num_judged"))
    for round_id in unsettled.values_list("pk", flat=True):
        with transaction.atomic():
            released += release_expired(round_id)
    return released


def _build(
    comparison: Comparison,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
    client_key: uuid.UUID,
    active_seconds: float,
) -> Judgement:
    samples: Mapping[int, Sample] = {sample.pk: sample for sample in comparison.samples.all()}
    chosen = samples.get(chosen_sample_id)
    if chosen is None:
        raise JudgementError("chosen_sample_id", "choose one of the two responses shown")
    if rating not in list(Rating):
        raise JudgementError("rating", f"{rating!r} is not one of {', '.join(Rating)}")
    if not 0.0 <= active_seconds <= MAX_ACTIVE_SECONDS:
        raise JudgementError("active_seconds", f"{active_seconds} is not within a day")
    round_ = comparison.round
    return Judgement(
        comparison=comparison,
        annotator=comparison.dialogue.annotator,
        chosen_sample=chosen,
        displayed_side=chosen.side,
        axis=round_.axis,
        rating=rating,
        safety_bin=_checked_bin(Axis(round_.axis), safety_bin),
        guidelines_id=round_.guidelines_id,
        client_key=client_key,
        active_seconds=active_seconds,
    )


def _checked_bin(axis: Axis, safety_bin: str | None) -> str:
    if axis is not Axis.SAFETY:
        if safety_bin:
            raise JudgementError("safety_bin", f"a {axis} round does not ask which side is safe")
        return ""
    if not safety_bin:
        raise JudgementError("safety_bin", "say which of the two responses is safe")
    try:
        return safety_bin_named(safety_bin).value
    except JudgementError:
        raise
    except ValueError as error:
        raise JudgementError("safety_bin", str(error)) from error


def _settle(comparison: Comparison) -> None:
    """Move comparison, dialogue and round on; the round, which all share, is locked last."""
    dialogue, round_ = comparison.dialogue, comparison.round
    if not comparison.holds_slot:
        take_slot(round_)
    comparison.state = Comparison.State.JUDGED
    comparison.holds_slot = True
    comparison.save(update_fields=["state", "holds_slot"])
    num_turns = comparison.turn + 1
    values: dict[str, object] = {"num_turns": num_turns}
    if num_turns >= round_.max_turns or not round_.is_open:
        values |= {"state": Dialogue.State.FINISHED, "finished_at": Now()}
    Dialogue.objects.filter(pk=dialogue.pk).update(**values)
    comparison.drafts.all().delete()
    Round.objects.filter(pk=round_.pk).update(num_judged=F("num_judged") + 1)


def _lock_own(annotator: User, comparison: Comparison) -> Comparison:
    """Lock dialogue and comparison, in this order, until the transaction ends."""
    locked = (
        Comparison.objects.select_related("dialogue", "dialogue__annotator", "round")
        .select_for_update(of=("self", "dialogue"), no_key=True)
        .filter(pk=comparison.pk, dialogue__annotator=annotator)
        .first()
    )
    if locked is None:
        raise NotFoundError("comparison", comparison.pk)
    return locked


def _judgement_of(client_key: uuid.UUID) -> Judgement | None:
    return Judgement.objects.filter(client_key=client_key).first()


def _same(judgement: Judgement, annotator: User, comparison: Comparison) -> Judgement:
    if (judgement.annotator_id, judgement.comparison_id) != (annotator.pk, comparison.pk):
        raise KeyReusedError
    return judgement
