"""What the pages of rounds show."""

from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Avg, Count, Q

from annotation.models import Comparison, Judgement, Round, RoundVariant
from annotation.selectors import RoundProgress, progress_of
from records.preferences import Rating
from webapp.drawing import format_percent
from webapp.plots import Bar, BarSeries, Plot, bar_chart

_RATING_WORDS = {rating.value: rating.value.partition("_")[0] for rating in Rating}


class RoundRow(NamedTuple):
    """A round in the list."""

    round: Round
    progress: RoundProgress


class VariantRow(NamedTuple):
    """How often the responses of a variant were chosen."""

    variant: RoundVariant
    num_shown: int
    num_chosen: int

    @property
    def share(self) -> float | None:
        """Chosen as a share of shown; None before anything was judged."""
        return self.num_chosen / self.num_shown if self.num_shown else None


@dataclass(frozen=True, kw_only=True)
class RoundPage:
    """Everything about one round."""

    round: Round
    progress: RoundProgress
    variants: list[VariantRow]
    ratings: Plot
    left_share: float | None
    """Share of judgements that preferred the left side: near one half unless somebody leans."""
    seconds: float | None
    """Mean active time of one judgement."""
    num_annotators: int
    num_flagged: int
    num_failed: int


def round_rows() -> list[RoundRow]:
    """Return the rounds, the open ones first, then the newest; their progress costs no query."""
    rounds = Round.objects.select_related("guidelines").order_by("-state", "-pk")
    return [RoundRow(round_, progress_of(round_)) for round_ in rounds]


def round_page(round_: Round) -> RoundPage:
    """Gather the page of a round."""
    judgements = Judgement.objects.filter(comparison__round=round_)
    facts = judgements.aggregate(
        total=Count("pk"),
        left=Count("pk", filter=Q(displayed_side="left")),
        seconds=Avg("active_seconds", filter=Q(active_seconds__gt=0)),
        annotators=Count("annotator", distinct=True),
    )
    states = Comparison.objects.filter(round=round_).aggregate(
        flagged=Count("pk", filter=Q(is_flagged=True)),
        failed=Count("pk", filter=Q(state=Comparison.State.FAILED)),
    )
    total = facts["total"]
    return RoundPage(
        round=round_,
        progress=progress_of(round_),
        variants=_variants(round_),
        ratings=_rating_plot(round_),
        left_share=facts["left"] / total if total else None,
        seconds=facts["seconds"],
        num_annotators=facts["annotators"],
        num_flagged=states["flagged"],
        num_failed=states["failed"],
    )


def _variants(round_: Round) -> list[VariantRow]:
    judged = Judgement.objects.filter(comparison__round=round_)
    chosen = dict(judged.values_list("chosen_sample__policy").annotate(Count("pk")).order_by())
    shown = dict(judged.values_list("comparison__samples__policy").annotate(Count("pk")).order_by())
    variants = RoundVariant.objects.filter(round=round_).select_related("policy").order_by("pk")
    return [
        VariantRow(item, shown.get(item.policy_id, 0), chosen.get(item.policy_id, 0))
        for item in variants
    ]


def _rating_plot(round_: Round) -> Plot:
    """Return how often each degree was chosen, as shares of all judgements."""
    rows = Judgement.objects.filter(comparison__round=round_).values_list("rating")
    counts = dict(rows.annotate(Count("pk")).order_by())
    total = sum(counts.values())
    bars = [
        Bar(word, counts.get(rating, 0) / total, note=f"{counts.get(rating, 0):,}")
        for rating, word in _RATING_WORDS.items()
        if total
    ]
    return bar_chart(
        plot_id=f"ratings-{round_.pk}",
        title="Ratings",
        value_label="share of judgements",
        write=format_percent,
        series=[BarSeries("judgements", bars)],
    )
