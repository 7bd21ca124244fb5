"""The queue holds each comparison once per source, in a stable order that pages cut anywhere."""

import math
import uuid
from functools import partial

import pytest
from django.db import IntegrityError, transaction
from pytest_django import DjangoAssertNumQueries

from annotation import services
from annotation.models import Comparison, ReviewItem
from annotation.review_selectors import (
    Place,
    QueueFilter,
    get_comparison_to_review,
    next_item,
    queue_page,
    review_of,
)
from annotation.scale import Side
from annotation.services import Contradiction, Overlap
from records.preferences import Axis, Rating
from tests.annotation.test_slots import open_overlap_round
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
)
from tests.races import run_at_once

pytestmark = pytest.mark.django_db


def queue(comparison: Comparison, source: str = "flag", priority: int = 50) -> ReviewItem:
    return services.queue_for_review(
        comparison=comparison, source=source, reason="look", priority=priority
    )


def test_a_flag_waits_with_the_annotators_words() -> None:
    comparison = make_ready_comparison()
    services.flag_comparison(
        annotator=comparison.dialogue.annotator, comparison=comparison, note="names a person"
    )
    item = ReviewItem.objects.get()
    assert (item.source, item.reason, item.state) == ("flag", "names a person", "open")
    assert (item.round, item.axis) == (comparison.round, "helpfulness")


def test_a_source_asks_once_and_its_newest_reason_stands_while_it_waits() -> None:
    comparison = make_ready_comparison()
    first = queue(comparison, priority=10)
    again = services.queue_for_review(
        comparison=comparison, source="flag", reason="worse", priority=20
    )
    assert again == first
    assert (again.reason, again.priority) == ("worse", 20)
    services.accept_comparison(
        reviewer=make_reviewer(), comparison=comparison, client_key=uuid.uuid4()
    )
    decided = queue(comparison)
    assert (decided.state, decided.reason) == ("decided", "worse")
    queue(comparison, "gold_miss")
    assert ReviewItem.objects.count() == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "mood"}, "source 'mood' is not one of flag"),
        ({"priority": 101}, "priority 101 is not between 0 and 100"),
        ({"reason": " "}, "reason must not be empty"),
    ],
)
def test_what_cannot_be_queued_is_refused(values: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"source": "flag", "priority": 1, "reason": "look"}
    with pytest.raises(ValueError, match=message):
        services.queue_for_review(
            comparison=make_ready_comparison(),
            **{**settings, **values},  # type: ignore[arg-type]
        )


def test_the_database_holds_the_rules() -> None:
    item = queue(make_ready_comparison())
    for values, name in (
        ({"state": "decided"}, "settled_by_decision"),
        ({"priority": 101}, "item_priority"),
        ({"source": "mood"}, "source_known"),
    ):
        with pytest.raises(IntegrityError, match=name), transaction.atomic():
            ReviewItem.objects.filter(pk=item.pk).update(**values)


def test_a_confident_reward_model_that_disagrees_is_queued_by_its_confidence() -> None:
    round_ = open_test_round(max_turns=1)
    rows = [make_judgement(round_=round_).comparison for _ in range(4)]
    # σ(2.2) = 0.9002, σ(1.4) = 0.8022, σ(1.0) = 0.7311; the last one agrees.
    contradictions = [
        Contradiction(rows[0].pk, -1.0, 1.2),
        Contradiction(rows[1].pk, 0.0, 1.4),
        Contradiction(rows[2].pk, 0.0, 1.0),
        Contradiction(rows[3].pk, 3.0, 0.0),
    ]
    assert services.queue_contradictions(contradictions=contradictions, model="H3") == 2
    items = list(queue_page(QueueFilter(source="contradiction"), after=None, limit=9))
    assert [(item.comparison, item.priority) for item in items] == [(rows[0], 90), (rows[1], 80)]
    assert items[0].reason == "H3 prefers the other response with 90% confidence."
    assert services.queue_contradictions(contradictions=contradictions, model="H3") == 0
    assert math.isclose(contradictions[0].confidence, 0.9002, abs_tol=1e-4)


def test_contradictions_are_of_judged_comparisons_and_need_a_bound() -> None:
    unjudged = make_ready_comparison()
    for pk in (unjudged.pk, 999_999):
        with pytest.raises(ValueError, match=rf"comparisons \[{pk}\] are not judged"):
            services.queue_contradictions(contradictions=[Contradiction(pk, 0.0, 5.0)], model="H3")
    with pytest.raises(ValueError, match=r"min_confidence 0.5 is not above 0.5"):
        services.queue_contradictions(contradictions=[], model="H3", min_confidence=0.5)
    assert not ReviewItem.objects.exists()


def test_pages_cut_the_queue_anywhere_and_what_is_decided_meanwhile_moves_nothing() -> None:
    round_ = open_test_round(max_turns=1)
    priorities = (30, 90, 90, 30, 60, 90, 30)
    items = [
        queue(make_ready_comparison(round_=round_), priority=priority) for priority in priorities
    ]
    expected = [items[i] for i in (1, 2, 5, 4, 0, 3, 6)]
    everything = QueueFilter()
    assert queue_page(everything, after=None, limit=9) == expected
    for cut in range(1, 7):
        place = Place(expected[cut - 1].priority, expected[cut - 1].pk)
        assert queue_page(everything, after=place, limit=9) == expected[cut:]
        assert queue_page(everything, after=place, limit=1) == expected[cut : cut + 1]
        assert Place.parse(str(place)) == place
    services.accept_comparison(
        reviewer=make_reviewer(), comparison=expected[1].comparison, client_key=uuid.uuid4()
    )
    place = Place(expected[1].priority, expected[1].pk)
    assert queue_page(everything, after=place, limit=9) == expected[2:]
    assert Place.parse("x-1") is None


def test_the_queue_is_filtered_by_source_round_axis_and_state() -> None:
    one, two = open_test_round(), open_test_round(axis=Axis.SAFETY)
    flagged = queue(make_ready_comparison(round_=one))
    missed = queue(make_ready_comparison(round_=two), "gold_miss")
    for queue_filter, found in (
        (QueueFilter(source="flag"), [flagged]),
        (QueueFilter(round_id=two.pk), [missed]),
        (QueueFilter(axis="safety"), [missed]),
        (QueueFilter(axis="safety", source="flag"), []),
        (QueueFilter(state="unclear"), []),
    ):
        assert queue_page(queue_filter, after=None, limit=9) == found


def test_a_page_costs_two_queries_wherever_it_is(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    round_ = open_test_round(max_turns=1)
    items = [queue(make_ready_comparison(round_=round_), priority=i % 3) for i in range(12)]
    with django_assert_num_queries(1):
        queue_page(QueueFilter(), after=None, limit=5)
    last = Place(0, items[0].pk)
    with django_assert_num_queries(1):
        queue_page(QueueFilter(), after=last, limit=3)
    with django_assert_num_queries(2):
        queue_page(QueueFilter(), after=Place(1, items[10].pk), limit=5)


def test_next_is_the_next_comparison_and_begins_again_at_the_end() -> None:
    round_ = open_test_round(max_turns=1)
    first, second = (make_ready_comparison(round_=round_) for _ in range(2))
    flagged = queue(first, "flag", 90)
    queue(first, "gold_miss", 70)
    other = queue(second, "flag", 50)
    everything = QueueFilter()
    place = Place(flagged.priority, flagged.pk)
    assert next_item(everything, after=place, except_comparison=first.pk) == other
    assert next_item(everything, after=Place(50, other.pk), except_comparison=second.pk) == flagged
    assert (
        next_item(QueueFilter(source="gold_miss"), after=None, except_comparison=first.pk) is None
    )


def test_the_page_of_a_comparison_costs_the_same_whatever_was_decided(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    judgement = make_judgement()
    for _ in range(4):
        services.accept_comparison(
            reviewer=make_reviewer(), comparison=judgement.comparison, client_key=uuid.uuid4()
        )
    comparison = get_comparison_to_review(make_reviewer(), judgement.comparison_id)
    with django_assert_max_num_queries(6):
        page = review_of(comparison)
    assert len(page.decisions) == 4
    assert page.judgements[0].letter == "A"


def test_judgements_that_prefer_different_sides_are_queued_by_how_far_apart_they_are() -> None:
    judgement = make_judgement(round_=open_overlap_round())  # the left one is better: step 2
    comparison = judgement.comparison
    assert services.queue_disagreement(comparison) is None
    slot = services.claim_slot(annotator=make_annotator())
    assert slot is not None
    # Step 8: six of seven apart.
    second = judge_slot(slot, side=Side.RIGHT, rating=Rating.SIGNIFICANTLY_BETTER)
    item = ReviewItem.objects.get()
    assert (item.source, item.priority) == ("disagreement", 86)
    assert item.reason == "2 judgements differ by 6 of at most 7 steps."
    assert [row.judgement for row in review_of(comparison).judgements] == [judgement, second]
    ReviewItem.objects.all().delete()
    assert services.queue_disagreements(round_=comparison.round) == 1
    assert services.queue_disagreements(round_=comparison.round) == 0


def test_judgements_that_agree_or_are_excluded_are_not_queued() -> None:
    judgement = make_judgement(round_=open_overlap_round(3))
    first, second = (services.claim_slot(annotator=make_annotator()) for _ in range(2))
    assert first is not None
    assert second is not None
    judge_slot(first)
    assert not ReviewItem.objects.exists()
    services.exclude_judgement(
        reviewer=make_reviewer(), judgement=judge_slot(second, side=Side.RIGHT), reason="spam"
    )
    ReviewItem.objects.all().delete()
    assert services.queue_disagreements(round_=judgement.comparison.round) == 0


def test_a_missed_gold_comparison_is_queued_and_is_no_disagreement() -> None:
    round_ = open_test_round(overlap=Overlap(gold_share=1.0))
    judgement = make_judgement(round_=round_)
    services.declare_gold(
        comparison=judgement.comparison, expected_side=Side.LEFT, declared_by=make_lead()
    )
    right, wrong = (services.claim_slot(annotator=make_annotator()) for _ in range(2))
    assert right is not None
    assert wrong is not None
    judge_slot(right)
    assert not ReviewItem.objects.exists()
    missed = judge_slot(wrong, side=Side.RIGHT)
    item = ReviewItem.objects.get()
    assert (item.source, item.comparison) == ("gold_miss", judgement.comparison)
    assert item.reason == f"{missed.annotator.pseudonym} chose B; the other one is expected."
    assert services.queue_disagreements(round_=round_) == 0


def test_a_flag_of_a_further_reader_waits_too() -> None:
    make_judgement(round_=open_overlap_round())
    reader = make_annotator()
    slot = services.claim_slot(annotator=reader)
    assert slot is not None
    services.flag_slot(annotator=reader, slot=slot, note="names a person")
    item = ReviewItem.objects.get()
    assert (item.source, item.reason) == ("flag", "names a person")


@pytest.mark.django_db(transaction=True)
def test_opposite_choices_at_the_same_moment_are_one_disagreement() -> None:
    for _ in range(4):
        comparison = make_judgement(round_=open_overlap_round(3)).comparison
        # Only the two that come at the same moment count: neither disagrees with one before it.
        services.exclude_judgement(
            reviewer=make_reviewer(), judgement=comparison.judgements.get(), reason="spam"
        )
        slots = [services.claim_slot(annotator=make_annotator()) for _ in range(2)]
        assert None not in slots
        results = run_at_once(
            [
                partial(judge_slot, slot, side=side)
                for slot, side in zip(slots, Side, strict=True)
                if slot is not None
            ]
        )
        assert not any(isinstance(result, Exception) for result in results), results
        item = ReviewItem.objects.get(comparison=comparison)
        assert (item.source, item.priority) == ("disagreement", 71)
        assert item.reason == "2 judgements differ by 5 of at most 7 steps."
