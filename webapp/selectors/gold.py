"""What the page of a round's gold comparisons shows."""

from typing import NamedTuple

from django.db.models import Count, F, Q

from annotation.models import GoldComparison, JudgementKind, Round
from annotation.scale import Side


class GoldRow(NamedTuple):
    """A gold comparison and how it was answered."""

    gold: GoldComparison
    letter: str
    """The response that is expected, as it stands on the page."""
    num_judged: int
    num_right: int

    @property
    def share(self) -> float | None:
        """Right answers as a share of all; None before anybody was asked."""
        return self.num_right / self.num_judged if self.num_judged else None


def gold_rows(round_: Round) -> list[GoldRow]:
    """Return the gold comparisons of a round: those that are served first, then the newest."""
    asked = Q(comparison__judgements__kind=JudgementKind.GOLD)
    right = asked & Q(comparison__judgements__chosen_sample=F("expected_sample"))
    rows = (
        GoldComparison.objects.filter(round=round_)
        .select_related("comparison", "declared_by")
        .annotate(
            num_judged=Count("comparison__judgements", filter=asked),
            num_right=Count("comparison__judgements", filter=right),
        )
        .order_by(F("retired_at").desc(nulls_first=True), "-pk")
    )
    return [
        GoldRow(row, "A" if row.expected_side == Side.LEFT else "B", row.num_judged, row.num_right)
        for row in rows
    ]


def gold_of(comparison_id: int) -> GoldComparison | None:
    """Return the known answer to a comparison; None where there is none."""
    return GoldComparison.objects.filter(comparison=comparison_id).first()
