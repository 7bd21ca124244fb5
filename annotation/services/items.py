"""Items at work: somebody is given one, its turns follow each other, and it goes back or ends."""

import uuid
from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.errors import NoItemLeftError, RoundClosedError, SlotTakenError
from annotation.histories import history_of
from annotation.items import (
    claim_item,
    drop_kept,
    kept_comparisons,
    kept_dialogues,
    offer_again,
)
from annotation.models import (
    Comparison,
    Dialogue,
    ImportedItem,
    Judgement,
    Round,
    RoundVariant,
    Sample,
    User,
)
from annotation.models.comparisons import ComparisonQuerySet
from annotation.rendering import rendered
from annotation.slots import give_back_slot, lease_until, release_expired, take_slot
from annotation.streams import drawn_sides

Reason = Comparison.DiscardReason


def take_item(*, annotator: User, round_: Round, client_key: uuid.UUID) -> Dialogue:
    """Return the dialogue of an item for this annotator: in hand, kept for them, or a new one.

    Raises:
        NoItemLeftError: There is none for them.
        RoundClosedError: The round takes no more work.
    """
    for _ in range(2):
        try:
            with transaction.atomic():
                return _take(annotator, round_, client_key)
        except IntegrityError:
            continue  # another tab was quicker: its item is in hand now
    raise NoItemLeftError(round_.name)


def draw_ahead(comparison: Comparison) -> None:
    """Have what may come next drawn while somebody reads a pair, for either choice.

    After the last turn that is the first pair of the next item, which is kept for the annotator.
    """
    dialogue, round_ = comparison.dialogue, comparison.round
    if round_.source != Round.Source.PROMPTS or not settings.PREFETCH or not round_.is_open:
        return
    if comparison.turn + 1 == dialogue.max_turns:
        _keep_next_item(dialogue.annotator, round_)
        return
    item = _item_of(dialogue)
    for sample in comparison.samples.order_by("side"):
        _ask(dialogue, item, turn=comparison.turn + 1, assumed=sample)


def go_on_with_item(comparison: Comparison, judgement: Judgement, *, is_edited: bool) -> bool:
    """Ask the item's next turn after a judgement; False if it has none, or the round is closed.

    The dialogue and the comparison are locked by the caller.
    """
    dialogue, round_ = comparison.dialogue, comparison.round
    item = _item_of(dialogue, locks=True)
    item.num_judged += 1
    if not item.num_turns_left:
        item.state = ImportedItem.State.FINISHED
    elif not round_.is_open:
        item.state = ImportedItem.State.FREE
    item.save(update_fields=["state", "num_judged"])
    ahead = Comparison.objects.ahead().filter(dialogue=dialogue, turn=comparison.turn + 1)
    candidates = list(ahead.select_for_update(no_key=True).order_by("pk"))
    if item.state != ImportedItem.State.GIVEN:
        _discard(candidates, Reason.ENDED)
        return False
    take_slot(round_)
    chosen = None
    for candidate in candidates:
        if is_edited:
            reason = Reason.EDITED
        elif candidate.assumed_sample_id != judgement.chosen_sample_id:
            reason = Reason.OTHER_CHOICE
        elif _is_replaced(candidate):
            reason = Reason.REPLACED
        else:
            chosen = candidate
            continue
        _discard([candidate], reason)
    if chosen is None:
        _ask(dialogue, item, turn=comparison.turn + 1)
    else:
        _show_what_was_drawn(chosen)
    return True


def take_back(comparison: Comparison) -> None:
    """Take an item again whose lease has lapsed, for a judgement of a comparison of its dialogue.

    Raises:
        SlotTakenError: Somebody else was given it, or has gone on with it.
    """
    dialogue = comparison.dialogue
    item = _item_of(dialogue, locks=True)
    assert dialogue.max_turns is not None
    turn = len(item.turns) - dialogue.max_turns + comparison.turn
    if (item.state, item.num_judged) != (ImportedItem.State.FREE, turn):
        raise SlotTakenError
    item.state = ImportedItem.State.GIVEN
    item.save(update_fields=["state"])


def pass_on_item(dialogue: Dialogue, *, was_held: bool) -> None:
    """End a dialogue whose pair was passed on; what is left of its item goes to somebody else."""
    assert dialogue.item_id is not None
    end_dialogue(dialogue, is_passed_on=True)
    if was_held:
        offer_again([dialogue.item_id])


def fail_item(dialogue: Dialogue, *, was_held: bool) -> None:
    """End a dialogue for whose prompt no pair came about, and set its item aside."""
    end_dialogue(dialogue)
    if was_held:  # else it lapsed, and may be in other hands
        held = ImportedItem.objects.filter(dialogues=dialogue)
        held.update(state=ImportedItem.State.FAILED)


def end_dialogue(dialogue: Dialogue, *, is_passed_on: bool = False) -> None:
    """End an imported dialogue; what is not judged of it is never shown."""
    with transaction.atomic():
        Comparison.objects.filter(dialogue=dialogue).discard(Reason.ENDED)
        Dialogue.objects.filter(pk=dialogue.pk).update(
            state=Dialogue.State.FINISHED, finished_at=timezone.now(), is_passed_on=is_passed_on
        )


def release_all_kept(round_: Round) -> int:
    """Take back everything that is kept in a round and not begun; return how many items."""
    with transaction.atomic():
        return _release_kept(kept_comparisons(round_))


def _take(annotator: User, round_: Round, client_key: uuid.UUID) -> Dialogue:
    mine = Dialogue.objects.filter(annotator=annotator, round=round_, item__isnull=False)
    in_hand = mine.filter(state=Dialogue.State.OPEN).first()
    if in_hand is not None:
        return in_hand
    own = kept_comparisons(round_).filter(dialogue__annotator=annotator)
    kept = own.select_for_update(of=("self", "dialogue"), no_key=True).first()
    if kept is not None:
        return _begin_kept(kept, client_key)
    if not Round.objects.open().filter(pk=round_.pk).exists():
        raise RoundClosedError(round_.name)
    item = claim_item(annotator, round_)
    if item is None and (release_expired(round_.pk) or _release_for(annotator, round_)):
        item = claim_item(annotator, round_)
    if item is None:
        raise NoItemLeftError(round_.name)
    return _begin(annotator, round_, item, client_key, Dialogue.State.OPEN)


def _begin(
    annotator: User, round_: Round, item: ImportedItem, client_key: uuid.UUID, state: str
) -> Dialogue:
    """Begin a dialogue on an item just claimed, after the turns that are judged."""
    before = Dialogue.objects.filter(item=item, num_turns__gt=0).select_related("round")
    earlier = before.order_by("-pk").first()
    history = history_of(earlier) if earlier is not None else None
    opening = item.opening if history is None else [turn.text for turn in history.turns]
    dialogue = Dialogue.objects.create(
        annotator=annotator,
        round=round_,
        client_key=client_key,
        state=state,
        item=item,
        max_turns=item.num_turns_left,
        system_prompt=item.system_prompt,
        opening=opening,
    )
    _close_others(item, dialogue)
    comparison = _ask(dialogue, item, turn=0, is_kept=state == Dialogue.State.KEPT)
    if item.responses:
        _store_pair(comparison, item)
    take_slot(round_)
    return dialogue


def _begin_kept(kept: Comparison, client_key: uuid.UUID) -> Dialogue:
    """Begin what was kept; a pair by policies that were replaced meanwhile is drawn anew."""
    dialogue = kept.dialogue
    dialogue.state, dialogue.client_key = Dialogue.State.OPEN, client_key
    dialogue.save(update_fields=["state", "client_key"])
    if _is_replaced(kept):
        _discard([kept], Reason.REPLACED)
        _ask(dialogue, _item_of(dialogue), turn=0)
    else:
        _show_what_was_drawn(kept)
    return dialogue


def _ask(
    dialogue: Dialogue,
    item: ImportedItem,
    *,
    turn: int,
    is_kept: bool = False,
    assumed: Sample | None = None,
) -> Comparison:
    """Store the comparison that asks a turn; its slot is counted by the caller.

    One that is kept, or takes a response as chosen, is drawn ahead; the latter holds no slot.
    """
    assert dialogue.max_turns is not None
    return Comparison.objects.create(
        dialogue=dialogue,
        round_id=dialogue.round_id,
        turn=turn,
        prompt_text=item.turns[len(item.turns) - dialogue.max_turns + turn],
        risk_category=item.risk_category,
        attack_vector=item.attack_vector,
        client_key=uuid.uuid4(),
        is_ahead=is_kept or assumed is not None,
        assumed_sample=assumed,
        holds_slot=assumed is None,
        lease_expires_at=lease_until(),
    )


def _keep_next_item(annotator: User, round_: Round) -> None:
    """Keep the next item for somebody who is at the last turn of theirs."""
    if kept_comparisons(round_).filter(dialogue__annotator=annotator).exists():
        return
    try:
        with transaction.atomic():
            item = claim_item(annotator, round_)
            if item is not None:
                _begin(annotator, round_, item, uuid.uuid4(), Dialogue.State.KEPT)
    except IntegrityError:
        return  # another sampler was quicker


def _show_what_was_drawn(comparison: Comparison) -> None:
    """Make a comparison drawn ahead the one its annotator waits for; its slot is counted.

    Its pair appears no sooner than one drawn from now on could.
    """
    comparison.is_ahead = False
    comparison.holds_slot = True
    comparison.lease_expires_at = lease_until()
    comparison.ready_at = timezone.now() + timedelta(milliseconds=settings.RESPONSE_FLOOR_MS)
    comparison.save(update_fields=["is_ahead", "holds_slot", "lease_expires_at", "ready_at"])
    if comparison.state == Comparison.State.READY:
        draw_ahead(comparison)


def _store_pair(comparison: Comparison, item: ImportedItem) -> None:
    """Store an imported pair on sides drawn by chance: it is ready at once."""
    Sample.objects.bulk_create(
        Sample(
            comparison=comparison,
            side=side,
            text=response["text"],
            **rendered(response["text"]),
            policy_id=response["policy"],
            temperature=0.0,  # how it was drawn is not known
            top_p=1.0,
            seed=0,
            num_tokens=len(response["text"].split()),
            is_finished=True,
        )
        for side, response in zip(drawn_sides(comparison), item.responses, strict=True)
    )
    comparison.state = Comparison.State.READY
    comparison.ready_at = timezone.now()
    comparison.save(update_fields=["state", "ready_at"])


def _item_of(dialogue: Dialogue, *, locks: bool = False) -> ImportedItem:
    assert dialogue.item_id is not None
    items = ImportedItem.objects.filter(pk=dialogue.item_id)
    return (items.select_for_update(no_key=True) if locks else items).get()


def _close_others(item: ImportedItem, besides: Dialogue) -> None:
    """End what others had begun of an item whose lease lapsed, unless they are just sending it."""
    others = Comparison.objects.live().filter(dialogue__item=item).exclude(dialogue=besides)
    locked = others.select_related("dialogue").select_for_update(
        of=("self", "dialogue"), skip_locked=True, no_key=True
    )
    ids = [comparison.dialogue_id for comparison in locked]
    if ids:
        Comparison.objects.filter(dialogue__in=ids).discard(Reason.GIVEN_AWAY)
        Dialogue.objects.filter(pk__in=ids).update(
            state=Dialogue.State.FINISHED, finished_at=timezone.now()
        )


def _release_for(annotator: User, round_: Round) -> int:
    """Take back one item that is kept for somebody else, who has not seen it."""
    wanted = kept_dialogues(annotator, round_).exclude(annotator=annotator)
    return _release_kept(kept_comparisons(round_).filter(dialogue__in=wanted)[:1])


def _release_kept(kept: ComparisonQuerySet) -> int:
    """Take back what is kept, unless it is being drawn or begun at this moment."""
    locked = list(kept.select_for_update(of=("self", "dialogue"), skip_locked=True, no_key=True))
    if locked:
        drop_kept([comparison.dialogue_id for comparison in locked])
        ids = [comparison.dialogue.item_id for comparison in locked]
        offer_again([item_id for item_id in ids if item_id is not None])
        give_back_slot(locked[0].round_id, len(locked))
    return len(locked)


def _is_replaced(comparison: Comparison) -> bool:
    """Whether a response was drawn by a policy that does not answer in the round any more."""
    current = RoundVariant.objects.filter(round=comparison.round_id).values("policy")
    return comparison.samples.exclude(policy__in=current).exists()


def _discard(comparisons: Sequence[Comparison], reason: str) -> None:
    ids = [comparison.pk for comparison in comparisons]
    if ids:
        Comparison.objects.filter(pk__in=ids).discard(reason)
