"""Reports on quality are worked out from the rows, kept, and made anew only where there is more."""

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.models import Judgement, QualityReport
from annotation.quality.measuring import Figures
from annotation.scale import Side
from annotation.services import (
    Overlap,
    claim_slot,
    declare_gold,
    measure_quality,
    measure_round,
)
from records.preferences import Axis, Rating
from tests.factories import (
    judge,
    judge_slot,
    make_annotator,
    make_guidelines,
    make_lead,
    make_ready_comparison,
    open_test_round,
)

pytestmark = pytest.mark.django_db


def test_a_report_holds_what_the_rows_say() -> None:
    round_ = open_test_round()
    for side, rating in (
        (Side.LEFT, Rating.BETTER),
        (Side.LEFT, Rating.SIGNIFICANTLY_BETTER),
        (Side.RIGHT, Rating.BETTER),
        (Side.LEFT, Rating.BETTER),
    ):
        judge(make_ready_comparison(round_=round_), side=side, rating=rating)
    report = measure_round(round_=round_)
    figures = Figures.from_json(report.figures)
    assert report.num_judgements == figures.num_comparisons == 4
    assert len(figures.annotators) == 4
    assert figures.numbers["left"].value == 0.75
    assert figures.numbers["rating_better"].value == 0.75
    assert figures.numbers["median_seconds"].value == 12.5
    assert figures.numbers["direction"].value is None
    names = Judgement.objects.values_list("annotator__pseudonym", flat=True)
    assert {who.pseudonym for who in figures.annotators} == set(names)


def test_lengths_are_those_of_the_two_texts() -> None:
    round_ = open_test_round()
    for _ in range(3):
        comparison = make_ready_comparison(round_=round_, texts=("long enough", "short"))
        longer = next(s for s in comparison.samples.all() if s.text == "long enough")
        judge(comparison, side=Side(longer.side))
    numbers = Figures.from_json(measure_round(round_=round_).figures).numbers
    assert (numbers["longer"].value, numbers["longer"].n) == (1.0, 3)


def test_guidelines_and_axis_gather_all_their_rounds() -> None:
    first = open_test_round(axis=Axis.SAFETY)
    make_guidelines(Axis.SAFETY)
    for round_ in (first, open_test_round(axis=Axis.SAFETY), open_test_round()):
        judge(make_ready_comparison(round_=round_))
    measure_quality()
    assert QualityReport.objects.get(axis=Axis.SAFETY).num_judgements == 2
    assert QualityReport.objects.get(guidelines=first.guidelines).num_judgements == 1


def test_only_what_has_news_is_measured_again() -> None:
    rounds = [open_test_round()]
    make_guidelines()
    rounds.append(open_test_round())
    for round_ in rounds:
        judge(make_ready_comparison(round_=round_))
    assert measure_quality() == 5  # two rounds, two guidelines, one axis
    assert measure_quality() == 0
    judge(make_ready_comparison(round_=rounds[0]))
    assert measure_quality() == 3
    assert QualityReport.objects.get(round=rounds[0]).num_judgements == 2
    assert QualityReport.objects.count() == 5


def test_a_report_is_of_one_thing() -> None:
    round_ = open_test_round()
    facts = {"figures": {}, "num_judgements": 0, "last_judgement": 0, "measured_at": timezone.now()}
    for scope in ({}, {"round": round_, "axis": "safety"}):
        with pytest.raises(IntegrityError, match="of_one_thing"), transaction.atomic():
            QualityReport.objects.create(**facts, **scope)


def test_measuring_reads_in_one_query_however_many_there_are(
    django_assert_num_queries: object,
) -> None:
    round_ = open_test_round()
    for _ in range(3):
        judge(make_ready_comparison(round_=round_))
    measure_round(round_=round_)
    # Two savepoints and their releases, the rows, the report locked, the report updated.
    with django_assert_num_queries(7):  # type: ignore[operator]
        measure_round(round_=round_)


def test_overlap_makes_agreement_and_gold_measures_whoever_is_given_it() -> None:
    round_ = open_test_round(
        max_turns=1, overlap=Overlap(overlap_share=1.0, judgements_per_comparison=2, gold_share=1.0)
    )
    first = judge(make_ready_comparison(round_=round_), side=Side.LEFT)
    overlap = claim_slot(annotator=make_annotator())
    assert overlap is not None
    judge_slot(overlap, side=Side.RIGHT)
    declare_gold(comparison=first.comparison, expected_side=Side.LEFT, declared_by=make_lead())
    gold = claim_slot(annotator=make_annotator())
    assert gold is not None
    assert gold.kind == "gold"
    judge_slot(gold, side=Side.LEFT)
    figures = Figures.from_json(measure_round(round_=round_).figures)
    assert (figures.num_judgements, figures.num_comparisons, figures.num_shared) == (3, 1, 1)
    assert (figures.numbers["direction"].value, figures.numbers["direction"].n) == (0.0, 1)
    assert (figures.numbers["gold"].value, figures.numbers["gold"].n) == (1.0, 1)
