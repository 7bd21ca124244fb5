"""Quality: the numbers of rounds, guidelines and axes are worked out anew and kept."""

from collections.abc import Iterator
from typing import Any

from django.db import transaction
from django.db.models import BooleanField, Count, ExpressionWrapper, F, Max, Q, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from annotation.gold import expected_sample
from annotation.models import Judgement, QualityReport, Round
from annotation.quality.measuring import JudgementRow, measure
from annotation.scale import Side

_ROWS_AT_ONCE = 2000


def measure_quality() -> int:
    """Work out the numbers of everything that was judged since the last time; return how many.

    Each round, version of the guidelines and axis that has judgements its report does not count is
    read once. Asking twice costs one aggregate query for each kind.
    """
    scopes: tuple[tuple[str, str, dict[Any, list[int]]], ...] = (
        ("round_id", "comparison__round", _newest(by="comparison__round")),
        ("guidelines_id", "guidelines", _newest(by="guidelines")),
        ("axis", "axis", _newest(by="axis")),
    )
    measured = 0
    for field, lookup, newest in scopes:
        reports = QualityReport.objects.values_list(field, "last_judgement", "num_judgements")
        known = {value: counted for value, *counted in reports}
        for value, counted in newest.items():
            if known.get(value) != counted:
                _measure({field: value}, Judgement.objects.filter(**{lookup: value}))
                measured += 1
    return measured


def measure_round(*, round_: Round) -> QualityReport:
    """Work out the numbers of one round."""
    rows = Judgement.objects.filter(comparison__round=round_)
    return _measure({"round_id": round_.pk}, rows)


def _newest(*, by: str) -> dict[Any, list[int]]:
    """Return the newest judgement and the number of judgements of each group."""
    groups = Judgement.objects.values_list(by).annotate(Max("pk"), Count("pk")).order_by()
    return {value: counted for value, *counted in groups}


def _measure(scope: dict[str, Any], judgements: QuerySet[Judgement]) -> QualityReport:
    # The transaction keeps the cursor on the server; one query sees one state of the rows.
    with transaction.atomic():
        measured_at = timezone.now()
        last = 0

        def rows() -> Iterator[JudgementRow]:
            nonlocal last
            for pk, *values in _rows(judgements).iterator(chunk_size=_ROWS_AT_ONCE):
                last = max(last, pk)
                yield JudgementRow(*values)

        figures = measure(rows())
        report, _ = QualityReport.objects.update_or_create(
            **scope,
            defaults={
                "figures": figures.to_json(),
                "num_judgements": figures.num_judgements,
                "last_judgement": last,
                "measured_at": measured_at,
            },
        )
    return report


def _rows(judgements: QuerySet[Judgement]) -> QuerySet[Judgement, tuple[Any, ...]]:
    """Return id and `JudgementRow`'s fields of each judgement; the texts stay where they are."""
    return (
        judgements.annotate(
            other_id=F("comparison__samples__pk"),
            is_left=ExpressionWrapper(
                Q(displayed_side=Side.LEFT.value), output_field=BooleanField()
            ),
            gold_id=expected_sample(),
            chosen_length=Length("chosen_sample__text"),
            other_length=Length("comparison__samples__text"),
        )
        .exclude(other_id=F("chosen_sample"))
        .order_by("comparison", "slot")
        .values_list(
            "pk",
            "comparison_id",
            "annotator__pseudonym",
            "chosen_sample_id",
            "other_id",
            "rating",
            "is_left",
            "chosen_length",
            "other_length",
            "active_seconds",
            "gold_id",
        )
    )
