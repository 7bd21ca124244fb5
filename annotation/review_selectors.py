"""Reviews as people read them: the queue in pages, and everything about one comparison."""

from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import QuerySet

from annotation.access import REVIEWERS, require_role
from annotation.errors import NotFoundError
from annotation.histories import prompt_of
from annotation.models import (
    Comparison,
    Correction,
    Exclusion,
    Judgement,
    ReviewDecision,
    ReviewItem,
    Sample,
    User,
)
from annotation.scale import Side
from records.dialogues import Turn


class Place(NamedTuple):
    """A place in the queue: what comes after it is beyond this item."""

    priority: int
    item_id: int

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """Return the place that `str` wrote; None where the text is none."""
        priority, _, item_id = text.partition("-")
        if not (priority.isdecimal() and item_id.isdecimal()):
            return None
        return cls(int(priority), int(item_id))

    def __str__(self) -> str:
        return f"{self.priority}-{self.item_id}"


class QueueFilter(NamedTuple):
    """Which part of the queue is looked at; empty means all."""

    source: str = ""
    round_id: int | None = None
    axis: str = ""
    state: str = ReviewItem.State.OPEN

    def items(self) -> QuerySet[ReviewItem]:
        """Return the items that match, in no order."""
        found = ReviewItem.objects.filter(state=self.state)
        if self.source:
            found = found.filter(source=self.source)
        if self.round_id is not None:
            found = found.filter(round=self.round_id)
        if self.axis:
            found = found.filter(axis=self.axis)
        return found


class JudgementView(NamedTuple):
    """One judgement of a comparison, with what reviewers have made of it."""

    judgement: Judgement
    letter: str
    """A to the left, B to the right: the side of the response that was chosen."""
    exclusion: Exclusion | None
    correction: Correction | None


class DecisionView(NamedTuple):
    """One decision of the history."""

    decision: ReviewDecision
    is_reversed: bool

    @property
    def can_be_undone(self) -> bool:
        """Whether a further record may take it back."""
        return not self.is_reversed and self.decision.kind != ReviewDecision.Kind.UNDO


@dataclass(frozen=True, kw_only=True)
class ComparisonReview:
    """Everything a reviewer needs to decide on one comparison; no name of a model is shown."""

    comparison: Comparison
    turns: tuple[Turn, ...]
    left: Sample | None
    """None where it was flagged before its responses were there."""
    right: Sample | None
    judgements: list[JudgementView]
    items: list[ReviewItem]
    decisions: list[DecisionView]


def get_comparison_to_review(reviewer: User, pk: int) -> Comparison:
    """Return any comparison, for a reviewer.

    Raises:
        NotAllowedError: The person is no reviewer.
        NotFoundError: There is none.
    """
    require_role(reviewer, REVIEWERS)
    related = Comparison.objects.select_related("round__guidelines", "dialogue")
    found = related.filter(pk=pk).first()
    if found is None:
        raise NotFoundError("comparison", pk)
    return found


def get_decision_for(reviewer: User, pk: int) -> ReviewDecision:
    """Return a decision, for a reviewer.

    Raises:
        NotAllowedError: The person is no reviewer.
        NotFoundError: There is none.
    """
    require_role(reviewer, REVIEWERS)
    found = ReviewDecision.objects.select_related("comparison").filter(pk=pk).first()
    if found is None:
        raise NotFoundError("decision", pk)
    return found


def queue_page(queue: QueueFilter, *, after: Place | None, limit: int) -> list[ReviewItem]:
    """Return up to `limit` items beyond `after`, the highest priority first, then the oldest.

    Two reads of an index, wherever in the queue the place is and however long the queue.
    """
    items = queue.items().select_related("comparison", "round")
    if after is None:
        return list(items.order_by("-priority", "pk")[:limit])
    tied = items.filter(priority=after.priority, pk__gt=after.item_id).order_by("pk")
    found = list(tied[:limit])
    if len(found) < limit:
        lower = items.filter(priority__lt=after.priority).order_by("-priority", "pk")
        found += lower[: limit - len(found)]
    return found


def next_item(
    queue: QueueFilter, *, after: Place | None, except_comparison: int
) -> ReviewItem | None:
    """Return the next item of another comparison, from the start again at the end."""
    for place in (after, None):
        # A comparison has at most one item of each source.
        for item in queue_page(queue, after=place, limit=len(ReviewItem.Source) + 1):
            if item.comparison_id != except_comparison:
                return item
    return None


def review_of(comparison: Comparison) -> ComparisonReview:
    """Gather a comparison with its judgements, the reasons to look at it, and all decisions."""
    samples = {sample.side: sample for sample in comparison.samples.all()}
    judgements = comparison.judgements.select_related("annotator", "guidelines", "edit").order_by(
        "slot"
    )
    exclusions = {
        row.judgement_id: row
        for row in Exclusion.objects.filter(judgement__comparison=comparison, is_active=True)
    }
    corrections = {
        row.judgement_id: row
        for row in Correction.objects.filter(comparison=comparison, is_active=True)
    }
    decisions = list(
        comparison.review_decisions.select_related(
            "reviewer", "exclusion", "correction", "judgement__annotator", "reverses"
        ).order_by("pk")
    )
    reversed_ids = {decision.reverses_id for decision in decisions}
    return ComparisonReview(
        comparison=comparison,
        turns=prompt_of(comparison).turns,
        left=samples.get(Side.LEFT),
        right=samples.get(Side.RIGHT),
        judgements=[
            JudgementView(
                judgement,
                "A" if judgement.displayed_side == Side.LEFT else "B",
                exclusions.get(judgement.pk),
                corrections.get(judgement.pk),
            )
            for judgement in judgements
        ],
        items=list(comparison.review_items.order_by("-priority", "pk")),
        decisions=[DecisionView(row, row.pk in reversed_ids) for row in decisions],
    )
