"""The reviewers' queue: comparisons that somebody should look at, each source once."""

from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet

from annotation.models import (
    Comparison,
    GoldComparison,
    Judgement,
    JudgementKind,
    ReviewItem,
    Round,
)
from annotation.models.kinds import SILENT_KINDS
from annotation.models.reviews import MAX_PRIORITY
from annotation.scale import STEPS, Side
from records.statistics import sigmoid

Source = ReviewItem.Source
FLAG_PRIORITY = 90
GOLD_PRIORITY = 70
_ROWS_AT_ONCE = 1000


class Contradiction(NamedTuple):
    """What a reward model thinks of a judged pair: raw scores of the two responses."""

    comparison_id: int
    chosen_score: float
    rejected_score: float

    @property
    def confidence(self) -> float:
        """σ(rejected - chosen): how sure the model is that the other response is better."""
        return sigmoid(self.rejected_score - self.chosen_score)


def queue_for_review(
    *, comparison: Comparison, source: str, reason: str, priority: int
) -> ReviewItem:
    """Bring a comparison before the reviewers for one reason; the same source asks once.

    While the item waits its reason and priority follow the newest call; once it is decided it
    stays decided.

    Raises:
        ValueError: There is no such source, the reason is empty, or the priority is out of bounds.
    """
    if source not in Source.values:
        raise ValueError(f"source {source!r} is not one of {', '.join(Source.values)}")
    if not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority {priority} is not between 0 and {MAX_PRIORITY}")
    if not reason.strip():
        raise ValueError("reason must not be empty: it tells the reviewer what to look at")
    with transaction.atomic():
        item, is_new = ReviewItem.objects.get_or_create(
            comparison=comparison,
            source=source,
            defaults={
                "round_id": comparison.round_id,
                "axis": comparison.round.axis,
                "reason": reason,
                "priority": priority,
            },
        )
        if not is_new:
            waiting = ReviewItem.objects.filter(pk=item.pk, state=ReviewItem.State.OPEN)
            waiting.update(reason=reason, priority=priority)
            item.refresh_from_db()
    return item


def queue_flag(comparison: Comparison) -> ReviewItem:
    """Bring a flagged comparison before the reviewers, with what its annotator says."""
    return queue_for_review(
        comparison=comparison,
        source=Source.FLAG,
        reason=comparison.flag_note.strip() or "Flagged without a word.",
        priority=FLAG_PRIORITY,
    )


def queue_gold_miss(*, comparison: Comparison, reason: str) -> ReviewItem:
    """Bring a gold comparison that was judged against its known answer before the reviewers."""
    return queue_for_review(
        comparison=comparison, source=Source.GOLD_MISS, reason=reason, priority=GOLD_PRIORITY
    )


def queue_disagreements(*, round_: Round) -> int:
    """Queue the comparisons of a round whose judgements prefer different responses.

    The further apart the two judgements that differ most, of the eight steps, the earlier it
    comes. Comparisons queued before are not read again. Excluded judgements do not count, nor gold
    comparisons and repeats, which measure one annotator. Returns how many are new.
    """
    disputed = (
        _counted()
        .filter(comparison__round=round_)
        .values("comparison")
        .annotate(num_sides=Count("displayed_side", distinct=True))
        .filter(num_sides=2)
        .values("comparison")
    )
    queued = ReviewItem.objects.filter(comparison=OuterRef("pk"), source=Source.DISAGREEMENT)
    fresh = Comparison.objects.filter(~Exists(queued), pk__in=disputed).select_related("round")
    num_queued = 0
    for comparison in fresh.order_by("pk").iterator(chunk_size=_ROWS_AT_ONCE):
        with transaction.atomic():
            num_queued += queue_disagreement(comparison) is not None
    return num_queued


def queue_disagreement(comparison: Comparison) -> ReviewItem | None:
    """Queue a comparison if its judgements prefer different responses; None if they do not.

    Whoever stores a judgement that differs from others (`annotation.queue.fill_slot`) calls this
    after it, in the same transaction. Of two that are stored at the same moment the second waits
    for the first, and sees it.
    """
    # A statement of its own: what is read after the lock includes what was waited for.
    Comparison.objects.select_for_update(no_key=True).get(pk=comparison.pk)
    rows = list(_counted().filter(comparison=comparison).values_list("displayed_side", "rating"))
    if len({side for side, _ in rows}) < 2:
        return None
    steps = sorted(_step_number(side, rating) for side, rating in rows)
    distance = steps[-1] - steps[0]
    return queue_for_review(
        comparison=comparison,
        source=Source.DISAGREEMENT,
        reason=f"{len(steps)} judgements differ by {distance} of at most {len(STEPS) - 1} steps.",
        priority=round(MAX_PRIORITY * distance / (len(STEPS) - 1)),
    )


def unqueue_what_is_settled(comparison: Comparison) -> None:
    """Take a comparison out of the queue where what was queued is no more: a judgement taken back.

    What a reviewer has decided stays decided. The comparison's row is locked by the caller.
    """
    waiting = ReviewItem.objects.filter(comparison=comparison, state=ReviewItem.State.OPEN)
    if queue_disagreement(comparison) is None:
        waiting.filter(source=Source.DISAGREEMENT).delete()
    expected = GoldComparison.objects.filter(comparison=comparison).values("expected_sample")
    answers = Judgement.objects.filter(comparison=comparison, kind=JudgementKind.GOLD)
    if not answers.exclude(chosen_sample__in=expected).exists():
        waiting.filter(source=Source.GOLD_MISS).delete()


def queue_contradictions(
    *, contradictions: Iterable[Contradiction], model: str, min_confidence: float = 0.8
) -> int:
    """Queue judged comparisons in which a confident reward model prefers the other response.

    Args:
        contradictions: Scores by comparison; where the model agrees, or is less confident than
            `min_confidence`, nothing is queued.
        model: Name of the reward-model version, for the reason.
        min_confidence: Lowest σ(rejected - chosen) worth a look; above one half.

    Returns how many comparisons were queued that this source had not queued before.

    Raises:
        ValueError: `min_confidence` is not in (0.5, 1], or a comparison was never judged.
    """
    if not 0.5 < min_confidence <= 1.0:
        raise ValueError(f"min_confidence {min_confidence} is not above 0.5 and at most 1")
    confident = {
        item.comparison_id: item for item in contradictions if item.confidence >= min_confidence
    }
    comparisons = Comparison.objects.select_related("round").in_bulk(list(confident))
    unjudged = [
        pk
        for pk in confident
        if pk not in comparisons or comparisons[pk].state != Comparison.State.JUDGED
    ]
    if unjudged:
        raise ValueError(f"comparisons {sorted(unjudged)} are not judged")
    known = set(
        ReviewItem.objects.filter(
            comparison__in=comparisons, source=Source.CONTRADICTION
        ).values_list("comparison", flat=True)
    )
    for pk, item in sorted(confident.items()):
        queue_for_review(
            comparison=comparisons[pk],
            source=Source.CONTRADICTION,
            reason=f"{model} prefers the other response with {item.confidence:.0%} confidence.",
            priority=round(MAX_PRIORITY * item.confidence),
        )
    return len(set(confident) - known)


def _counted() -> QuerySet[Judgement]:
    """Return the judgements that may disagree."""
    kept = Judgement.objects.exclude(exclusions__is_active=True)
    return kept.exclude(kind__in=SILENT_KINDS)


def _step_number(side: str, rating: str) -> int:
    return next(
        step.number for step in STEPS if (step.side, step.rating.value) == (Side(side), rating)
    )
