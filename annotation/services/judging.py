"""Judging: one atomic, idempotent write per comparison; passing on, flags, heartbeats."""

import uuid
from collections.abc import Sequence

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now

from annotation.access import ANNOTATORS, require_role
from annotation.errors import (
    AlreadyJudgedError,
    JudgementError,
    NotFoundError,
    SlotTakenError,
    StateError,
    TooFewTurnsError,
)
from annotation.histories import may_finish
from annotation.models import Comparison, Dialogue, Judgement, Round, User
from annotation.queue import release_lapsed
from annotation.scale import Side
from annotation.services.items import end_dialogue, go_on_with_item, pass_on_item, take_back
from annotation.services.review_queue import queue_disagreement, queue_flag
from annotation.services.verdicts import (
    Verdict,
    judgement_from,
    repeated_judgement,
    store_judgement,
)
from annotation.slots import (
    give_back_slot,
    lease_until,
    offer_overlap,
    release_expired,
    take_slot,
)


def submit_comparison(
    *,
    annotator: User,
    comparison: Comparison,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
    client_key: uuid.UUID,
    active_seconds: float,
    neither_reasons: Sequence[str] = (),
    neither_note: str = "",
    edited_text: str = "",
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
        neither_reasons: Why neither response is acceptable; the choice stands all the same.
        neither_note: Anything the annotator adds to that.
        edited_text: The chosen response made better: ranked above both, it continues the dialogue.

    Raises:
        NotFoundError: The comparison is not this annotator's.
        ContradictionError: An unsafe response is preferred to a safe one.
        JudgementError: Another value does not fit; names the field.
        AlreadyJudgedError: It was judged with another client key.
        StateError: It is not ready to be judged.
        RoundFullError: The lease has lapsed and others took the last slot.
        SlotTakenError: The lease has lapsed and somebody else was given the imported item.
    """
    require_role(annotator, ANNOTATORS)
    verdict = Verdict(
        chosen_sample_id=chosen_sample_id,
        rating=rating,
        safety_bin=safety_bin,
        client_key=client_key,
        active_seconds=active_seconds,
        neither_reasons=neither_reasons,
        neither_note=neither_note,
        edited_text=edited_text,
    )
    try:
        with transaction.atomic():
            locked = lock_own(annotator, comparison)
            if locked.state == Comparison.State.JUDGED:
                raise AlreadyJudgedError
            if locked.state != Comparison.State.READY:
                raise StateError(locked.state, Comparison.State.READY)
            judgement = judgement_from(
                verdict,
                comparison=locked,
                annotator=locked.dialogue.annotator,
                sides={sample.pk: Side(sample.side) for sample in locked.samples.all()},
            )
            store_judgement(judgement, verdict)
            settle(locked, judgement, is_edited=bool(edited_text.strip()))
    except SlotTakenError:
        end_dialogue(comparison.dialogue)
        raise
    except (AlreadyJudgedError, IntegrityError):
        # The same form again; if at the same time, it has waited for the first one's lock.
        repeated = repeated_judgement(client_key, annotator, comparison.pk)
        if repeated is None:
            raise
        return repeated
    return judgement


def skip_comparison(
    *, annotator: User, comparison: Comparison, reason: str, note: str = ""
) -> Comparison:
    """Pass on a comparison that is not judged; its slot is free for others. Idempotent.

    The dialogue stays open: its author may write another prompt for this turn. An imported one
    ends, and what is left of its item goes to somebody else.

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
        locked = lock_own(annotator, comparison)
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
        if locked.dialogue.is_imported:
            pass_on_item(locked.dialogue, was_held=held_slot)
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
        locked = lock_own(annotator, comparison)
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


def finish_dialogue(*, annotator: User, dialogue: Dialogue, reason: str = "") -> Dialogue:
    """End a dialogue before it has all its turns; a pair not judged yet is passed on. Idempotent.

    It may end at any time where the round asks for one turn only. Elsewhere it may end once it has
    the round's fewest turns, when nothing was written, when its last prompt was passed on or came
    to nothing, when the round takes no more, or for a stated `reason`.

    Raises:
        NotFoundError: The dialogue is not this annotator's.
        TooFewTurnsError: It may not end yet.
    """
    require_role(annotator, ANNOTATORS)
    if dialogue.annotator_id != annotator.pk:
        raise NotFoundError("dialogue", dialogue.pk)
    while True:
        with transaction.atomic():
            locked = _lock_whole(dialogue)
            if locked is not None:
                return _finish(annotator, locked, reason)


def _lock_whole(dialogue: Dialogue) -> Dialogue | None:
    """Lock a dialogue's live comparisons and then the dialogue: the order of all who lock both.

    Who judges or sets an item aside holds the comparison and asks for the dialogue. None if a
    comparison came about in between; to lock it now would be against the order.
    """
    live = Comparison.objects.live().filter(dialogue=dialogue).order_by("pk")
    ids = set(live.select_for_update(no_key=True).values_list("pk", flat=True))
    dialogues = Dialogue.objects.select_related("round")
    locked = dialogues.select_for_update(of=("self",), no_key=True).get(pk=dialogue.pk)
    now_live = Comparison.objects.live().filter(dialogue=dialogue)
    return None if now_live.exclude(pk__in=ids).exists() else locked


def _finish(annotator: User, locked: Dialogue, reason: str) -> Dialogue:
    """End a dialogue that is locked as a whole.

    Raises:
        TooFewTurnsError: It may not end yet.
    """
    if not locked.is_open:
        return locked
    if not reason and not may_finish(locked):
        raise TooFewTurnsError(locked.num_turns, locked.round.min_turns)
    for comparison in Comparison.objects.live().filter(dialogue=locked):
        skip_comparison(
            annotator=annotator,
            comparison=comparison,
            reason=reason or Comparison.SkipReason.OTHER,
            note="dialogue ended",
        )
    Dialogue.objects.filter(pk=locked.pk).update(state=Dialogue.State.FINISHED, finished_at=Now())
    locked.drafts.all().delete()
    locked.refresh_from_db()
    return locked


def release_expired_leases() -> int:
    """Give back the slots of all rounds whose leases have lapsed; return how many.

    The comparisons stay as they are: their authors may still judge them while a slot is free.
    Further judgements that lapsed are offered again.
    """
    released = release_lapsed()
    unsettled = Round.objects.filter(num_reserved__gt=F("num_judged"))
    for round_id in unsettled.values_list("pk", flat=True):
        with transaction.atomic():
            released += release_expired(round_id)
    return released


def settle(comparison: Comparison, judgement: Judgement, *, is_edited: bool) -> None:
    """Move comparison, dialogue and round on; the round, which all share, is locked last."""
    dialogue, round_ = comparison.dialogue, comparison.round
    if not comparison.holds_slot:
        if dialogue.is_imported:
            take_back(comparison)
        take_slot(round_)
    comparison.state = Comparison.State.JUDGED
    comparison.holds_slot = True
    comparison.save(update_fields=["state", "holds_slot"])
    comparison.drafts.all().delete()
    num_offered = 0
    if comparison.num_slots == 1:
        num_offered = offer_overlap(comparison)
    else:
        # Judged before and taken back: others may have judged it meanwhile.
        queue_disagreement(comparison)
    num_turns = comparison.turn + 1
    values: dict[str, object] = {"num_turns": num_turns}
    if dialogue.is_imported:
        goes_on = go_on_with_item(comparison, judgement, is_edited=is_edited)
    else:
        goes_on = num_turns < round_.max_turns and round_.is_open
    if not goes_on:
        values |= {"state": Dialogue.State.FINISHED, "finished_at": Now()}
    Dialogue.objects.filter(pk=dialogue.pk).update(**values)
    Round.objects.filter(pk=round_.pk).update(
        num_judged=F("num_judged") + 1, num_further=F("num_further") + num_offered
    )


def lock_own(annotator: User, comparison: Comparison) -> Comparison:
    """Lock comparison and dialogue, in this order, until the transaction ends."""
    locked = (
        Comparison.objects.select_related("dialogue", "dialogue__annotator", "round")
        .select_for_update(of=("self", "dialogue"), no_key=True)
        .filter(pk=comparison.pk, dialogue__annotator=annotator, is_ahead=False)
        .first()
    )
    if locked is None:
        raise NotFoundError("comparison", comparison.pk)
    return locked
