"""What an annotator does next, and why there is nothing to do."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from annotation.access import ANNOTATORS
from annotation.eligibility import Missing, Need, missing_for, missing_in
from annotation.items import is_item_left
from annotation.models import (
    Comparison,
    Dialogue,
    Pause,
    Round,
    Slot,
    User,
)
from annotation.pauses import pause_for
from annotation.selectors import held_slot, open_rounds
from annotation.slots import next_free_at


class WorkKind(StrEnum):
    """What an annotator does next."""

    JUDGE = "judge"
    SLOT = "slot"
    WAIT = "wait"
    WRITE = "write"
    START = "start"
    NOTHING = "nothing"


class NothingReason(StrEnum):
    """Why there is nothing to do."""

    NO_OPEN_ROUND = "no_open_round"
    ROUND_FULL = "round_full"
    ALL_LEASED = "all_leased"
    NO_ITEM = "no_item"
    NOT_AN_ANNOTATOR = "not_an_annotator"
    NOT_YET = "not_yet"
    MAINTENANCE = "maintenance"


class Work(NamedTuple):
    """The next thing for one annotator."""

    kind: WorkKind
    round: Round | None = None
    dialogue: Dialogue | None = None
    comparison: Comparison | None = None
    """The pair to judge or wait for; with WRITE the failed one whose prompt is to be rewritten."""
    reason: NothingReason | None = None
    next_free_at: datetime | None = None
    """With ALL_LEASED: when the first lease lapses."""
    slot: Slot | None = None
    """With SLOT: the further judgement of somebody's pair that this annotator holds."""
    missing: tuple[Missing, ...] = ()
    """With NOT_YET: what is missing for the round."""
    pause: Pause | None = None
    """With MAINTENANCE: what is said of it."""


def ready_pairs(annotator: User) -> QuerySet[Comparison]:
    """Return the pairs of an annotator's own that are ready to be judged, the oldest first.

    Whether there is one stands in `annotation.desk` too, in SQL.
    """
    ready = Comparison.objects.filter(
        state=Comparison.State.READY,
        is_ahead=False,
        ready_at__lte=Now(),
        turn=F("dialogue__num_turns"),
        dialogue__annotator=annotator,
        dialogue__state=Dialogue.State.OPEN,
    )
    return ready.select_related("dialogue__round").order_by("dialogue")


def work_for(annotator: User) -> Work:
    """Return what an annotator does next; its cost does not grow with the work done.

    A pair of their own that is ready comes first, then a slot they hold, then a dialogue that waits
    for its next prompt, then one whose responses are being drawn, then an open round with room.
    What the annotator may not do now (`annotation.eligibility`) is left out. Nothing is leased
    here: `services.take_work` does that.
    """
    if not annotator.has_role(ANNOTATORS):
        return Work(WorkKind.NOTHING, reason=NothingReason.NOT_AN_ANNOTATOR)
    works = [_work_in(dialogue, last) for dialogue, last in _open_dialogues(annotator)]
    ranked = {work.kind: work for work in reversed(_allowed(annotator, works))}
    if WorkKind.JUDGE in ranked:
        return ranked[WorkKind.JUDGE]
    slot = held_slot(annotator)
    if slot is not None and not is_held(WorkKind.SLOT, missing_in(annotator, slot.round)):
        return Work(WorkKind.SLOT, slot.round, slot=slot)
    for kind in (WorkKind.WRITE, WorkKind.WAIT):
        if kind in ranked:
            return ranked[kind]
    rounds = list(open_rounds())
    missing = missing_for(annotator, rounds)
    held = None
    for round_ in rounds:
        if not (_has_item(annotator, round_) if round_.is_imported else _has_room(round_)):
            continue
        if not missing[round_.pk]:
            return Work(WorkKind.START, round=round_)
        held = held or round_
    pause = pause_for(annotator)
    if pause is not None:
        return Work(WorkKind.NOTHING, reason=NothingReason.MAINTENANCE, pause=pause)
    if held is not None:
        reason = NothingReason.NOT_YET
        return Work(WorkKind.NOTHING, round=held, reason=reason, missing=missing[held.pk])
    return _nothing(rounds)


def is_held(work_kind: str, missing: Sequence[Missing]) -> bool:
    """Whether what is missing stops this kind of work.

    A pair that is out is held back by a break, by what is not wanted and by missing consent only:
    what was written before a test expired or guidelines changed may still be judged. A pause holds
    back nothing that somebody has in hand.
    """
    if work_kind in (WorkKind.JUDGE, WorkKind.SLOT):
        return any(item.need in (Need.BREAK, Need.OPTED_OUT, Need.CONSENT) for item in missing)
    is_missing = any(item.need is not Need.MAINTENANCE for item in missing)
    return is_missing and work_kind != WorkKind.WAIT


def _open_dialogues(annotator: User) -> Iterable[tuple[Dialogue, Comparison | None]]:
    """Return the annotator's open dialogues with the newest comparison of their open turn."""
    dialogues = list(
        Dialogue.objects.filter(annotator=annotator, state=Dialogue.State.OPEN)
        .select_related("round__guidelines")
        .order_by("pk")
    )
    if not dialogues:
        return []
    comparisons = Comparison.objects.filter(
        dialogue__in=dialogues, turn=F("dialogue__num_turns"), is_ahead=False
    ).order_by("pk")
    last = {comparison.dialogue_id: comparison for comparison in comparisons}
    return [(dialogue, last.get(dialogue.pk)) for dialogue in dialogues]


def _allowed(annotator: User, works: list[Work]) -> list[Work]:
    """Leave out what the annotator may not do now."""
    rounds = {work.round.pk: work.round for work in works if work.round is not None}
    missing = missing_for(annotator, rounds.values())
    return [w for w in works if w.round and not is_held(w.kind, missing[w.round.pk])]


def _work_in(dialogue: Dialogue, last: Comparison | None) -> Work:
    if last is not None:
        last.dialogue, last.round = dialogue, dialogue.round
        if last.is_shown:
            return Work(WorkKind.JUDGE, dialogue.round, dialogue, last)
        if last.is_live:
            return Work(WorkKind.WAIT, dialogue.round, dialogue, last)
    if not _has_room(dialogue.round):
        return Work(WorkKind.NOTHING, dialogue.round, dialogue)
    failed = last if last is not None and last.state == Comparison.State.FAILED else None
    return Work(WorkKind.WRITE, dialogue.round, dialogue, failed)


def _has_room(round_: Round) -> bool:
    if not round_.is_open:
        return False
    if round_.num_reserved < round_.target_comparisons:
        return True
    first = next_free_at(round_)
    return first is not None and first < timezone.now()


def _has_item(annotator: User, round_: Round) -> bool:
    """Whether a round that asks imported items has one for them, or one whose lease has lapsed."""
    if is_item_left(annotator, round_):
        return True
    first = next_free_at(round_)
    return first is not None and first < timezone.now()


def _nothing(rounds: Sequence[Round]) -> Work:
    if not rounds:
        return Work(WorkKind.NOTHING, reason=NothingReason.NO_OPEN_ROUND)
    for round_ in rounds:
        is_out = round_.num_judged < round_.num_reserved
        if round_.is_imported and not is_out and _has_room(round_):
            return Work(WorkKind.NOTHING, round=round_, reason=NothingReason.NO_ITEM)
    times = [(time, round_) for round_ in rounds if (time := next_free_at(round_)) is not None]
    if not times:
        return Work(WorkKind.NOTHING, round=rounds[0], reason=NothingReason.ROUND_FULL)
    time, round_ = min(times, key=lambda item: item[0])
    return Work(WorkKind.NOTHING, round=round_, reason=NothingReason.ALL_LEASED, next_free_at=time)
