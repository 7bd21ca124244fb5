"""Gold accuracy: how often annotators give the answer that is known to be right."""

from collections.abc import Sequence
from typing import NamedTuple

from django.db.models import Case, Count, F, Q, QuerySet, When

from annotation.models import Judgement, JudgementKind, Round, User


class GoldAccuracy(NamedTuple):
    """How many gold comparisons were judged, and how many as expected."""

    num_judged: int
    num_right: int
    """The expected response was chosen."""
    num_bin_right: int
    """The expected response was chosen and, in a safety round, the expected bin given."""

    @property
    def share(self) -> float | None:
        """Right ones as a share of those judged; None before the first."""
        return self.num_right / self.num_judged if self.num_judged else None


class AnnotatorGold(NamedTuple):
    """The accuracy of one annotator."""

    annotator_id: int
    accuracy: GoldAccuracy


def expected_sample() -> Case:
    """Return, for a query of judgements, the sample to be chosen; null where gold is not measured.

    What counts as gold is decided here, for the numbers on quality too.
    """
    return Case(When(kind=JudgementKind.GOLD, then=_EXPECTED))


def gold_judgements(
    *, rounds: Sequence[Round] = (), annotator: User | None = None
) -> QuerySet[Judgement]:
    """Return the judgements of gold comparisons that were served as such."""
    rows = Judgement.objects.filter(kind=JudgementKind.GOLD)
    if rounds:
        rows = rows.filter(comparison__round__in=rounds)
    return rows if annotator is None else rows.filter(annotator=annotator)


def gold_accuracy(*, rounds: Sequence[Round] = (), annotator: User | None = None) -> GoldAccuracy:
    """Return the accuracy over these rounds, all where none are named, and of one annotator."""
    rows = gold_judgements(rounds=rounds, annotator=annotator)
    return GoldAccuracy(**rows.aggregate(**_COUNTS))


def gold_accuracies(*, rounds: Sequence[Round] = ()) -> list[AnnotatorGold]:
    """Return the accuracy of each annotator who judged a gold comparison, by annotator id."""
    rows = gold_judgements(rounds=rounds).values("annotator").annotate(**_COUNTS)
    names = ("annotator", *GoldAccuracy._fields)
    return [
        AnnotatorGold(annotator, GoldAccuracy(*counts))
        for annotator, *counts in rows.order_by("annotator").values_list(*names)
    ]


def gold_misses(*, rounds: Sequence[Round] = ()) -> QuerySet[Judgement]:
    """Return the judgements that chose the other response than expected, the newest first."""
    return gold_judgements(rounds=rounds).exclude(_RIGHT).order_by("-pk")


_EXPECTED = F("comparison__golds__expected_sample")
_RIGHT = Q(chosen_sample=_EXPECTED)
_COUNTS = {
    "num_judged": Count("pk"),
    "num_right": Count("pk", filter=_RIGHT),
    "num_bin_right": Count(
        "pk", filter=_RIGHT & Q(safety_bin=F("comparison__golds__expected_bin"))
    ),
}
