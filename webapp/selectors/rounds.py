"""What the pages of rounds show."""

from dataclasses import dataclass
from typing import NamedTuple

from django.db.models import Avg, Count, Q

from annotation.models import Comparison, ImportedItem, Judgement, Round, RoundVariant
from annotation.selectors import RoundProgress, progress_of
from records.preferences import Rating
from registry.models import PolicyVersion
from webapp.drawing import format_percent
from webapp.plots import Bar, BarSeries, Plot, bar_chart

_RATING_WORDS = {rating.value: rating.value.partition("_")[0] for rating in Rating}


class RoundRow(NamedTuple):
    """A round in the list."""

    round: Round
    progress: RoundProgress


class VariantRow(NamedTuple):
    """How often the responses of a policy were chosen."""

    policy: PolicyVersion
    variant: RoundVariant | None
    """None for the source of imported pairs."""
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
    items: "ItemCounts | None"
    """None where annotators write the prompts."""


class ItemCounts(NamedTuple):
    """Where the imported items of a round stand."""

    total: int
    free: int
    finished: int
    failed: int
    """Set aside, because no pair came about."""


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
        items=_items(round_) if round_.is_imported else None,
    )


def _items(round_: Round) -> ItemCounts:
    state = ImportedItem.State
    counts = ImportedItem.objects.filter(round=round_).aggregate(
        total=Count("pk"),
        free=Count("pk", filter=Q(state=state.FREE)),
        finished=Count("pk", filter=Q(state=state.FINISHED)),
        failed=Count("pk", filter=Q(state=state.FAILED)),
    )
    return ItemCounts(**counts)


def _variants(round_: Round) -> list[VariantRow]:
    judged = Judgement.objects.filter(comparison__round=round_)
    chosen = dict(judged.values_list("chosen_sample__policy").annotate(Count("pk")).order_by())
    shown = dict(judged.values_list("comparison__samples__policy").annotate(Count("pk")).order_by())
    variants = RoundVariant.objects.filter(round=round_).select_related("policy").order_by("pk")
    answering: list[tuple[PolicyVersion, RoundVariant | None]] = [(v.policy, v) for v in variants]
    if round_.source == Round.Source.PAIRS:
        sources = PolicyVersion.objects.filter(pk__in=shown).order_by("name")
        answering = [(policy, None) for policy in sources]
    return [
        VariantRow(policy, variant, shown.get(policy.pk, 0), chosen.get(policy.pk, 0))
        for policy, variant in answering
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
