"""Gold comparisons and silent repeats: drawn for one annotator and never learned from."""

import pytest
from django.db import IntegrityError, transaction

from annotation import services
from annotation.errors import (
    ContradictionError,
    JudgementError,
    NotAllowedError,
    RoundConfigError,
    StateError,
)
from annotation.gold import AnnotatorGold, GoldAccuracy, gold_accuracies, gold_accuracy, gold_misses
from annotation.models import GoldComparison, Judgement, Round, Slot, User
from annotation.quality.measuring import Figures
from annotation.scale import OTHER_SAFE, Side
from annotation.selectors import counter_drift
from annotation.services import Overlap, measure_round
from annotation.snapshots import preferences_of
from records.preferences import Axis, SafetyBin
from tests.annotation.test_slots import let_slot_lapse
from tests.factories import (
    judge_slot,
    make_annotator,
    make_judgement,
    make_lead,
    make_ready_comparison,
    make_reviewer,
    open_test_round,
    start_test_dialogue,
    write_test_prompt,
)

pytestmark = pytest.mark.django_db

ALWAYS_GOLD = Overlap(gold_share=1.0)


def declare(judgement: Judgement, side: Side = Side.LEFT) -> GoldComparison:
    return services.declare_gold(
        comparison=judgement.comparison, expected_side=side, declared_by=make_lead()
    )


def gold_round(number: int = 1, axis: Axis = Axis.HELPFULNESS) -> tuple[Round, list[Judgement]]:
    round_ = open_test_round(axis=axis, overlap=ALWAYS_GOLD, max_turns=1)
    return round_, [make_judgement(round_=round_) for _ in range(number)]


def claim(annotator: User) -> Slot:
    slot = services.claim_slot(annotator=annotator)
    assert slot is not None
    return slot


def test_gold_is_put_before_each_annotator_once_and_never_before_its_author() -> None:
    round_, (judgement,) = gold_round()
    declare(judgement)
    one, two = make_annotator(), make_annotator()

    assert services.claim_slot(annotator=judgement.annotator) is None
    slots = [claim(one), claim(two)]

    assert [(slot.kind, slot.number) for slot in slots] == [("gold", 1), ("gold", 2)]
    judge_slot(slots[0])
    assert services.claim_slot(annotator=one) is None
    assert round_.gold_share == 1.0
    assert counter_drift(round_) == {}


def test_accuracy_counts_side_and_bin() -> None:
    round_, judgements = gold_round(3, Axis.SAFETY)
    for judgement in judgements:
        services.declare_gold(
            comparison=judgement.comparison,
            expected_side=Side.LEFT,
            expected_bin="chosen_safe",
            declared_by=make_lead(),
        )
    one, two = make_annotator(), make_annotator()
    judge_slot(claim(one), side=Side.LEFT, safety_bin=SafetyBin.CHOSEN_SAFE)
    judge_slot(claim(one), side=Side.LEFT, safety_bin=SafetyBin.BOTH_SAFE)
    miss = judge_slot(claim(one), side=Side.RIGHT, safety_bin=SafetyBin.BOTH_UNSAFE)
    judge_slot(claim(two), side=Side.LEFT, safety_bin=SafetyBin.CHOSEN_SAFE)

    assert gold_accuracy(rounds=[round_]) == GoldAccuracy(4, 3, 2)
    measured = Figures.from_json(measure_round(round_=round_).figures).numbers["gold"]
    assert (measured.value, measured.n) == (0.75, 4)
    assert gold_accuracy(annotator=two) == GoldAccuracy(1, 1, 1)
    assert gold_accuracies() == [
        AnnotatorGold(one.pk, GoldAccuracy(3, 2, 1)),
        AnnotatorGold(two.pk, GoldAccuracy(1, 1, 1)),
    ]
    assert list(gold_misses()) == [miss]
    assert gold_accuracy(annotator=one).share == pytest.approx(2 / 3)
    assert gold_accuracy(annotator=make_annotator()).share is None


def test_gold_and_repeats_are_kept_but_not_learned_from() -> None:
    round_, (judgement,) = gold_round()
    declare(judgement)
    judge_slot(claim(make_annotator()))
    assert Judgement.objects.count() == 2
    assert [row.preference_id for row in preferences_of([round_])] == [str(judgement.uuid)]


def test_retired_gold_is_served_to_nobody_until_it_is_declared_again() -> None:
    _, (judgement,) = gold_round()
    gold = declare(judgement)
    services.retire_gold(gold=gold, retired_by=make_lead())
    reader = make_annotator()
    assert services.claim_slot(annotator=reader) is None
    assert declare(judgement) == gold
    assert claim(reader).comparison == judgement.comparison


def test_a_gold_slot_that_lapses_is_withdrawn_and_may_still_be_submitted() -> None:
    _, (judgement,) = gold_round()
    declare(judgement)
    slot = claim(make_annotator())
    let_slot_lapse(slot)
    assert slot.state == Slot.State.WITHDRAWN
    assert judge_slot(slot).kind == "gold"


def test_only_leads_declare_and_only_what_fits() -> None:
    _, (judgement,) = gold_round(1, Axis.SAFETY)
    lead, comparison = make_lead(), judgement.comparison
    for person in (make_reviewer(), make_annotator()):
        with pytest.raises(NotAllowedError):
            services.declare_gold(
                comparison=comparison, expected_side=Side.LEFT, declared_by=person
            )
    for expected_bin, error in (
        ("", JudgementError),
        ("banana", JudgementError),
        (OTHER_SAFE, ContradictionError),
    ):
        with pytest.raises(error):
            services.declare_gold(
                comparison=comparison,
                expected_side=Side.LEFT,
                expected_bin=expected_bin,
                declared_by=lead,
            )
    annotator = make_annotator()
    waiting = write_test_prompt(annotator, start_test_dialogue(annotator, open_test_round()))
    with pytest.raises(StateError):
        services.declare_gold(comparison=waiting, expected_side=Side.LEFT, declared_by=lead)
    declared = make_judgement()
    declare(declared, Side.LEFT)
    with pytest.raises(JudgementError, match="another answer already"):
        declare(declared, Side.RIGHT)


def test_the_database_ties_the_expected_response_to_the_comparison() -> None:
    _, (judgement,) = gold_round()
    gold = declare(judgement)
    other = make_ready_comparison().samples.get(side="left")
    for values in ({"expected_sample": other}, {"expected_side": "right"}):
        with pytest.raises(IntegrityError, match="expected_is_of_comparison"), transaction.atomic():
            GoldComparison.objects.filter(pk=gold.pk).update(**values)


def test_own_judgements_come_back_silently_once_enough_lies_between() -> None:
    round_ = open_test_round(overlap=Overlap(repeat_share=1.0, repeat_after=2), max_turns=1)
    annotator = make_annotator()
    first = make_judgement(annotator, round_=round_)
    make_judgement(annotator, round_=round_)
    assert services.claim_slot(annotator=annotator) is None
    make_judgement(annotator, round_=round_)

    slot = claim(annotator)

    assert (slot.kind, slot.comparison, slot.author) == ("repeat", first.comparison, annotator)
    repeat = judge_slot(slot)
    assert (repeat.kind, repeat.slot) == ("repeat", 1)
    assert claim(annotator).comparison != first.comparison, "nothing is repeated twice"
    assert len(list(preferences_of([round_]))) == 3
    assert counter_drift(round_) == {}


def test_judgements_of_other_rounds_are_not_repeated() -> None:
    annotator = make_annotator()
    for _ in range(3):
        make_judgement(annotator)
    open_test_round(overlap=Overlap(repeat_share=1.0, repeat_after=1))
    assert services.claim_slot(annotator=annotator) is None


@pytest.mark.parametrize(
    ("overlap", "message"),
    [
        (Overlap(overlap_share=1.5), "overlap_share: 1.5 is not between 0 and 1"),
        (Overlap(gold_share=-0.1), "gold_share: -0.1 is not between 0 and 1"),
        (Overlap(gold_share=0.6, repeat_share=0.6), "repeat_share: gold and repeats together"),
        (Overlap(overlap_share=0.5), "judgements_per_comparison: comparisons that several"),
        (Overlap(judgements_per_comparison=21), "judgements_per_comparison: 21 is not between"),
        (Overlap(repeat_after=0), "repeat_after: 0 is below 1"),
    ],
)
def test_a_round_with_impossible_shares_is_refused(overlap: Overlap, message: str) -> None:
    with pytest.raises(RoundConfigError, match=message):
        open_test_round(overlap=overlap)
