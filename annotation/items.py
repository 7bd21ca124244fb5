"""The queue of imported items: each is in one person's hands, and none is lost.

An item is given by a SELECT that passes over what others are taking at that moment, so any number
of annotators take items at once and none waits. What somebody passed on stands at the end of the
queue, and they are not given it again.
"""

from collections.abc import Collection

from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from annotation.models import Comparison, Dialogue, ImportedItem, Round, User
from annotation.models.comparisons import ComparisonQuerySet


def claim_item(annotator: User, round_: Round) -> ImportedItem | None:
    """Return the first free item that they did not pass on, now theirs; None if there is none."""
    free = _free_for(annotator, round_).order_by("offered_at", "pk")
    item = free.select_for_update(of=("self",), skip_locked=True, no_key=True).first()
    if item is not None:
        item.state = ImportedItem.State.GIVEN
        item.save(update_fields=["state"])
    return item


def is_item_left(annotator: User, round_: Round) -> bool:
    """Whether an item of the round is free, or kept and not begun, and for this annotator."""
    return _free_for(annotator, round_).exists() or kept_dialogues(annotator, round_).exists()


def kept_dialogues(annotator: User, round_: Round) -> QuerySet[Dialogue]:
    """Return what is kept and nobody has begun, for this annotator or somebody else."""
    kept = Dialogue.objects.filter(round=round_, state=Dialogue.State.KEPT)
    return kept.filter(~Exists(_passed_on(annotator, "item"))).order_by("pk")


def kept_comparisons(round_: Round) -> ComparisonQuerySet:
    """Return the comparisons of what is kept and nobody has begun, with their dialogues."""
    held = Comparison.objects.holding().filter(round=round_, is_ahead=True)
    return held.filter(dialogue__state=Dialogue.State.KEPT).select_related("dialogue", "round")


def offer_again(item_ids: Collection[int]) -> None:
    """Put items that are in somebody's hands back, at the end of the queue."""
    given = ImportedItem.objects.filter(pk__in=item_ids, state=ImportedItem.State.GIVEN)
    given.update(state=ImportedItem.State.FREE, offered_at=timezone.now())


def offer_lapsed_again(comparison_ids: Collection[int]) -> None:
    """Put the items of comparisons back whose leases have lapsed; the caller has locked them."""
    dialogues = Dialogue.objects.filter(comparisons__in=comparison_ids, item__isnull=False)
    rows = dict(dialogues.values_list("pk", "item"))
    if rows:
        drop_kept(list(rows))
        offer_again([item_id for item_id in rows.values() if item_id is not None])


def drop_kept(dialogue_ids: Collection[int]) -> None:
    """End those of the dialogues that nobody has begun; what was drawn for them is not shown."""
    kept = Dialogue.objects.filter(pk__in=dialogue_ids, state=Dialogue.State.KEPT)
    Comparison.objects.filter(dialogue__in=kept).discard(Comparison.DiscardReason.GIVEN_AWAY)
    kept.update(state=Dialogue.State.FINISHED, finished_at=timezone.now())


def _free_for(annotator: User, round_: Round) -> QuerySet[ImportedItem]:
    free = ImportedItem.objects.filter(round=round_, state=ImportedItem.State.FREE)
    return free.filter(~Exists(_passed_on(annotator, "pk")))


def _passed_on(annotator: User, item: str) -> QuerySet[Dialogue]:
    mine = Dialogue.objects.filter(item=OuterRef(item), annotator=annotator)
    return mine.filter(is_passed_on=True)
