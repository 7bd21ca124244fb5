"""Slots: an annotator is given further judgements of others' pairs, judges them or passes on."""

import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from annotation.access import ANNOTATORS, REVIEWERS, require_role
from annotation.desk import desk_of
from annotation.eligibility import Missing, missing_for, missing_in
from annotation.errors import (
    AlreadyJudgedError,
    JudgementError,
    NotFoundError,
    SlotTakenError,
    StateError,
)
from annotation.judgements import insertion_of, mark_stored
from annotation.models import (
    Comparison,
    GoldComparison,
    Judgement,
    JudgementKind,
    Round,
    Slot,
    SlotSkip,
    User,
)
from annotation.queue import CLAIM, claim_next, claim_parameters, fill_slot
from annotation.scale import Side
from annotation.selectors import held_slot, held_slot_after, open_rounds
from annotation.services.review_queue import queue_disagreement, queue_flag, queue_gold_miss
from annotation.services.verdicts import (
    Verdict,
    checked_edit,
    judgement_from,
    repeated_judgement,
    store_edit,
)
from annotation.slots import lease_until, number_slots
from annotation.statements import contained
from annotation.work import Work, WorkKind, is_held, ready_pairs, work_for

_chance = random.SystemRandom()
_REPEAT_WINDOW = 50
"""Judgements among which one is chosen to be repeated."""


def take_work(*, annotator: User) -> Work:
    """Return what an annotator does next, and lease it where it is a slot.

    A pair of their own that is ready comes first, then a slot of an open round, then writing. A
    share of slots are gold comparisons or repeats of their own judgements, drawn by chance. What
    the annotator may not do now (`annotation.eligibility`) is left out, and nothing of it leased.
    """
    if annotator.has_role(ANNOTATORS):
        desk = desk_of(annotator)
        ready = _first_allowed(annotator, list(ready_pairs(annotator))) if desk.has_ready else None
        if ready is not None:
            return Work(WorkKind.JUDGE, ready.dialogue.round, ready.dialogue, ready)
        slot = _claim(annotator, desk.rounds, desk.missing)
        if slot is not None:
            return Work(WorkKind.SLOT, slot.round, slot=slot)
    return work_for(annotator)


def claim_slot(*, annotator: User, round_: Round | None = None) -> Slot | None:
    """Lease the next slot that is for this annotator; None if no round they may work in has one.

    Who holds a slot gets that one again, so two tabs show the same; a break, an opt-out or missing
    consent holds it back. With `round_` only that round is asked for one.

    Raises:
        NotAllowedError: The person is no annotator.
    """
    require_role(annotator, ANNOTATORS)
    rounds = list(open_rounds() if round_ is None else open_rounds().filter(pk=round_.pk))
    return _held(annotator) or _claim(annotator, rounds, missing_for(annotator, rounds))


def submit_slot(
    *,
    annotator: User,
    slot: Slot,
    chosen_sample_id: int,
    rating: str,
    safety_bin: str | None,
    client_key: uuid.UUID,
    active_seconds: float,
    neither_reasons: Sequence[str] = (),
    neither_note: str = "",
    edited_text: str = "",
) -> Judgement:
    """Store a further judgement of a comparison: as `submit_comparison`, for a slot.

    All or nothing; the same client key again returns the same judgement. A slot whose lease has
    lapsed is accepted while it, or another one of the same comparison, is free.

    Raises:
        ContradictionError: An unsafe response is preferred to a safe one.
        JudgementError: Another value does not fit; names the field.
        AlreadyJudgedError: They have judged it with another client key.
        SlotTakenError: The lease has lapsed and others judged it or are about to.
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
    sides = _sides_of(slot)
    slot.comparison.round = slot.round  # the same row, which need not be read again
    for target in (slot, None):
        target = target or _another_slot(slot)
        if target is None:
            break
        judgement = judgement_from(
            verdict,
            comparison=slot.comparison,
            annotator=annotator,
            sides=sides,
            slot=target.number,
            kind=JudgementKind(target.kind),
        )
        if _fill(target, judgement, verdict, annotator):
            return judgement
        # The same form again; if at the same time, it has waited for the first one.
        repeated = repeated_judgement(client_key, annotator, slot.comparison_id)
        if repeated is not None:
            return repeated
        if _has_judged(annotator, target):
            raise AlreadyJudgedError
    raise SlotTakenError


def skip_slot(*, annotator: User, slot: Slot, reason: str, note: str = "") -> Slot:
    """Pass on a slot; others may have it, and this annotator is not asked again. Idempotent.

    Raises:
        NotFoundError: The slot is not this annotator's.
        JudgementError: There is no such reason.
        StateError: They have judged it.
    """
    require_role(annotator, ANNOTATORS)
    if reason not in Comparison.SkipReason.values:
        reasons = ", ".join(Comparison.SkipReason.values)
        raise JudgementError("reason", f"{reason!r} is not one of {reasons}")
    with transaction.atomic():
        locked = _lock_own(annotator, slot)
        if locked.state == Slot.State.JUDGED:
            raise StateError(locked.state, "a pair that is not judged")
        SlotSkip.objects.get_or_create(
            comparison_id=locked.comparison_id,
            annotator=annotator,
            defaults={"kind": locked.kind, "reason": reason, "note": note},
        )
        if locked.state in (Slot.State.LEASED, Slot.State.WITHDRAWN):
            locked.state = Slot.State.WITHDRAWN if locked.is_silent else Slot.State.FREE
            locked.lease_expires_at = None
            locked.offered_at = timezone.now()
            locked.save(update_fields=["state", "lease_expires_at", "offered_at"])
        locked.comparison.drafts.filter(annotator=annotator).delete()
    return locked


def flag_slot(*, annotator: User, slot: Slot, note: str) -> Comparison:
    """Bring the comparison of a slot before a reviewer; what others wrote of it stays.

    Raises:
        NotFoundError: The slot is not this annotator's.
    """
    require_role(annotator, ANNOTATORS)
    with transaction.atomic():
        # The comparison before its slot, as everywhere: who judges it takes them in this order.
        comparisons = Comparison.objects.select_for_update(no_key=True)
        comparison = comparisons.get(pk=slot.comparison_id)
        _lock_own(annotator, slot)
        notes = comparison.flag_note.split("\n\n") if comparison.flag_note else []
        comparison.is_flagged = True
        comparison.flag_note = "\n\n".join([*notes, *([] if note in notes else [note])])
        comparison.save(update_fields=["is_flagged", "flag_note"])
        queue_flag(comparison)
    return comparison


def beat_slot(*, annotator: User, slot: Slot) -> bool:
    """Keep a slot that somebody is looking at; False if they no longer hold it."""
    held = Slot.objects.filter(pk=slot.pk, annotator=annotator, state=Slot.State.LEASED)
    return held.update(lease_expires_at=lease_until()) == 1


def ask_second_reading(*, reviewer: User, comparison: Comparison) -> Slot:
    """Have a judged comparison read by one more person, who does not know that it is a second time.

    Raises:
        NotAllowedError: The person is no reviewer.
        StateError: The comparison is not judged.
    """
    require_role(reviewer, REVIEWERS)
    with transaction.atomic():
        locked = Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
        if locked.state != Comparison.State.JUDGED:
            raise StateError(locked.state, Comparison.State.JUDGED)
        slot = Slot.objects.create(
            comparison=locked,
            round_id=locked.round_id,
            number=number_slots(locked, 1)[0],
            kind=JudgementKind.SECOND_READING,
            author_id=locked.dialogue.annotator_id,
        )
        Round.objects.filter(pk=locked.round_id).update(num_further=F("num_further") + 1)
    return slot


def _first_allowed(annotator: User, ready: Sequence[Comparison]) -> Comparison | None:
    missing = missing_for(annotator, {pair.dialogue.round for pair in ready})
    for pair in ready:
        if not is_held(WorkKind.JUDGE, missing[pair.dialogue.round_id]):
            return pair
    return None


def _held(annotator: User) -> Slot | None:
    """Return the slot that an annotator holds and may judge now."""
    slot = held_slot(annotator)
    if slot is None or is_held(WorkKind.SLOT, missing_in(annotator, slot.round)):
        return None
    return slot


def _claim(
    annotator: User, rounds: Iterable[Round], missing: Mapping[int, Sequence[Missing]]
) -> Slot | None:
    """Lease the next slot of the first open round that has one for this annotator."""
    for round_ in rounds:
        if missing[round_.pk]:
            continue
        try:
            slot = _lease(annotator, round_)
        except IntegrityError:
            return _held(annotator)  # another tab was quicker
        if slot is not None:
            if slot.round_id != round_.pk:
                return _held(annotator)  # they held one before, of another round
            slot.round = round_  # read with the desk, and it knows its content warnings
            return slot
    return None


def _lease(annotator: User, round_: Round) -> Slot | None:
    """Lease a slot of the round, or find the one that the annotator holds, of whatever round."""
    with transaction.atomic() if round_.gold_share + round_.repeat_share else nullcontext():
        if _silent_slot(annotator, round_) is not None:
            return held_slot(annotator)
    if round_.num_further <= round_.num_further_judged:
        return None
    with contained():
        # Most often the first window has one: it is claimed and read in one message.
        slot = held_slot_after(CLAIM.call(claim_parameters(annotator, round_)), annotator)
        if slot is None and claim_next(annotator, round_) is not None:
            slot = held_slot(annotator)
    return slot


def _silent_slot(annotator: User, round_: Round) -> int | None:
    """Draw by chance whether this task measures the annotator; return the slot made for it."""
    if not round_.gold_share + round_.repeat_share:
        return None
    held = Slot.objects.filter(annotator=annotator, state=Slot.State.LEASED).first()
    if held is not None:
        return held.pk
    drawn = _chance.random()
    if drawn < round_.gold_share:
        comparison_id = _gold_for(annotator, round_)
        kind = JudgementKind.GOLD
    elif drawn < round_.gold_share + round_.repeat_share:
        comparison_id = _repeat_for(annotator, round_)
        kind = JudgementKind.REPEAT
    else:
        return None
    if comparison_id is None:
        return None
    comparison = Comparison.objects.select_for_update(no_key=True).get(pk=comparison_id)
    slot = Slot.objects.create(
        comparison=comparison,
        round=round_,
        number=number_slots(comparison, 1)[0],
        kind=kind,
        author_id=comparison.dialogue.annotator_id,
        state=Slot.State.LEASED,
        annotator=annotator,
        lease_expires_at=lease_until(),
    )
    return slot.pk


def _gold_for(annotator: User, round_: Round) -> int | None:
    """Return a gold comparison that this annotator has not seen; there are few in a round."""
    unseen = (
        GoldComparison.objects.filter(round=round_, retired_at__isnull=True)
        .exclude(comparison__dialogue__annotator=annotator)
        .exclude(comparison__judgements__annotator=annotator)
        .exclude(comparison__slot_skips__annotator=annotator)
    )
    return unseen.order_by("?").values_list("comparison", flat=True).first()


def _repeat_for(annotator: User, round_: Round) -> int | None:
    """Return a comparison that this annotator judged long enough ago and was never asked again.

    Old judgements are looked at in a window that begins at a random one of them, so the cost does
    not grow with their number.
    """
    mine = Judgement.objects.filter(annotator=annotator)
    newest = mine.order_by("-pk").values_list("pk", flat=True)
    latest = newest[round_.repeat_after : round_.repeat_after + 1].first()
    oldest = mine.order_by("pk").values_list("pk", flat=True).first()
    if latest is None or oldest is None:
        return None
    window = mine.filter(pk__gte=_chance.randint(oldest, latest), pk__lte=latest)
    rows = window.select_related("comparison").order_by("pk")[:_REPEAT_WINDOW]
    candidates = {
        row.comparison_id
        for row in rows
        if row.kind != JudgementKind.REPEAT and row.comparison.round_id == round_.pk
    }
    repeats = Judgement.with_retracted.filter(annotator=annotator, kind=JudgementKind.REPEAT)
    candidates -= set(
        repeats.filter(comparison__in=candidates).values_list("comparison", flat=True)
    )
    candidates -= set(
        SlotSkip.objects.filter(annotator=annotator, comparison__in=candidates).values_list(
            "comparison", flat=True
        )
    )
    return _chance.choice(sorted(candidates)) if candidates else None


def _fill(slot: Slot, judgement: Judgement, verdict: Verdict, annotator: User) -> bool:
    """Store the judgement and settle its slot; False, and nothing stored, if others have it."""
    text = checked_edit(judgement, verdict)
    side, insertion = Side(judgement.displayed_side), insertion_of(judgement)
    try:
        with transaction.atomic():
            filled = fill_slot(slot, annotator, side, insertion=insertion)
            if filled is None:
                raise _TakenError
            mark_stored(judgement, filled.judgement_id)
            store_edit(judgement, text)
            if judgement.kind == JudgementKind.GOLD:
                _queue_if_missed(judgement)
            if filled.is_disputed:
                queue_disagreement(judgement.comparison)
    except (IntegrityError, _TakenError):
        return False
    return True


def _queue_if_missed(judgement: Judgement) -> None:
    """Queue a gold comparison for the reviewers if it was judged against its known answer."""
    comparison = judgement.comparison
    golds = GoldComparison.objects.filter(comparison=comparison)
    if golds.exclude(expected_sample=judgement.chosen_sample_id).exists():
        letter = "A" if judgement.displayed_side == Side.LEFT else "B"
        reason = f"{judgement.annotator.pseudonym} chose {letter}; the other one is expected."
        queue_gold_miss(comparison=comparison, reason=reason)


class _TakenError(Exception):
    """Rolls a judgement back whose slot is in other hands."""


def _sides_of(slot: Slot) -> dict[int, Side]:
    """Return where each response stands; costs nothing for a slot that a selector returned."""
    row = slot if "left_id" in vars(slot) else Slot.objects.with_pair().get(pk=slot.pk)
    return {row.left_id: Side.LEFT, row.right_id: Side.RIGHT}


def _another_slot(slot: Slot) -> Slot | None:
    """Return a free slot of the same comparison."""
    free = Slot.objects.filter(comparison=slot.comparison_id, state=Slot.State.FREE)
    return free.exclude(pk=slot.pk).order_by("number").first()


def _has_judged(annotator: User, slot: Slot) -> bool:
    """Whether this annotator has judged the comparison, as what the slot asks for."""
    mine = Judgement.objects.filter(annotator=annotator, comparison=slot.comparison_id)
    return mine.filter(kind=slot.kind).exists() or mine.filter(slot=slot.number).exists()


def _lock_own(annotator: User, slot: Slot) -> Slot:
    locked = _locked(slot)
    if locked.annotator_id != annotator.pk:
        raise NotFoundError("pair", slot.pk)
    return locked


def _locked(slot: Slot) -> Slot:
    slots = Slot.objects.select_related("comparison__round")
    return slots.select_for_update(of=("self",), no_key=True).get(pk=slot.pk)
