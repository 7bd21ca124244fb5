"""Calibration by hand: reliability, ECE, unsafe responses found, agreement with people."""

import math

import pytest

from records.preferences import Rating, SafetyBin
from rewardmodels.calibration import (
    HumanLevel,
    expected_calibration_error,
    human_agreement,
    rank_correlation,
    reliability,
    unsafe_detection,
)
from tests.rewardmodels.rows import row


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_the_reliability_curve_compares_confidence_with_being_right() -> None:
    # Five bins of 0.1 from 0.5. Confidence 0.65 twice: right, wrong. 0.95 four times: three right.
    pairs = [row(logit(0.65), 0.0), row(0.0, logit(0.65))]
    pairs += [row(logit(0.95), 0.0)] * 3 + [row(0.0, logit(0.95))]
    bins = reliability(pairs, num_bins=5)
    assert [item.n for item in bins] == [0, 2, 0, 0, 4]
    assert (bins[0].low, bins[0].high) == (0.5, 0.6)
    assert bins[1].confidence == pytest.approx(0.65)
    assert bins[1].accuracy.value == 0.5
    assert bins[4].confidence == pytest.approx(0.95)
    assert bins[4].accuracy.value == 0.75
    assert bins[0].confidence is None
    # 2/6 · |0.5 - 0.65| + 4/6 · |0.75 - 0.95| = 0.05 + 0.13333
    assert expected_calibration_error(bins) == pytest.approx(0.05 + 0.4 / 3)


def test_a_tie_is_half_right_at_no_confidence() -> None:
    (first, *_) = reliability([row(1.0, 1.0)], num_bins=10)
    assert (first.n, first.confidence, first.accuracy.value) == (1, 0.5, 0.5)


def test_certainty_is_in_the_last_bin() -> None:
    bins = reliability([row(1e4, -1e4)], num_bins=10)
    assert bins[-1].n == 1
    assert expected_calibration_error(bins) == 0.0


def test_a_constant_added_to_all_scores_changes_no_calibration() -> None:
    pairs = [row(logit(0.65), 0.0), row(0.0, logit(0.95))]
    moved = [row(logit(0.65) + 2, 2.0), row(2.0, logit(0.95) + 2)]
    first, second = (reliability(rows, num_bins=10) for rows in (pairs, moved))
    assert expected_calibration_error(first) == pytest.approx(expected_calibration_error(second))


def test_no_pairs_have_no_calibration_error() -> None:
    assert expected_calibration_error(reliability([], num_bins=10)) is None


def test_recall_and_precision_of_unsafe_count_responses() -> None:
    pairs = [
        row(1.0, -1.0, safety_bin=SafetyBin.CHOSEN_SAFE),  # the unsafe one is found
        row(-1.0, 2.0, safety_bin=SafetyBin.CHOSEN_SAFE),  # a false alarm, and one missed
        row(-1.0, -2.0, safety_bin=SafetyBin.BOTH_UNSAFE),  # both found
        row(1.0, 2.0, safety_bin=SafetyBin.BOTH_SAFE),
        row(-9.0, -9.0),  # no bin: nobody has said
    ]
    found = unsafe_detection(pairs, threshold=0.5)
    assert found is not None
    assert (found.num_responses, found.num_unsafe, found.num_called_unsafe) == (8, 4, 4)
    assert found.num_hits == 3
    assert (found.recall.value, found.precision.value) == (0.75, 0.75)
    assert (found.recall.n, found.precision.n) == (4, 4)


def test_a_score_at_the_threshold_is_not_called_unsafe() -> None:
    pairs = [row(0.0, 0.0, safety_bin=SafetyBin.BOTH_UNSAFE)]
    found = unsafe_detection(pairs, threshold=0.5)
    assert found is not None
    assert (found.num_called_unsafe, found.recall.value, found.precision.value) == (0, 0.0, None)


def test_a_higher_threshold_calls_more_unsafe() -> None:
    pairs = [row(logit(0.6), logit(0.3), safety_bin=SafetyBin.BOTH_UNSAFE)]
    recalls = [unsafe_detection(pairs, threshold=t) for t in (0.15, 0.5, 0.7)]
    assert [found.recall.value for found in recalls if found] == [0.0, 0.5, 1.0]


def test_without_bins_there_is_nothing_to_find() -> None:
    assert unsafe_detection([row(1.0, 0.0)], threshold=0.5) is None


def test_the_difference_is_averaged_at_each_median_human_rating() -> None:
    one, two = Rating.NEGLIGIBLY_BETTER, Rating.SIGNIFICANTLY_BETTER
    pairs = [
        # Comparison a: +4 and -1 on its first response (its difference is 2 from that side).
        row(2.0, 0.0, comparison="a", rating=two),
        row(0.0, 2.0, comparison="a", rating=one, is_chosen_first=False),
        # Comparison b: -4, -4, +1; the difference from the first response is -3.
        row(3.0, 0.0, comparison="b", rating=two, is_chosen_first=False),
        row(3.0, 0.0, comparison="b", rating=two, is_chosen_first=False),
        row(0.0, 3.0, comparison="b", rating=one),
        row(9.0, 0.0, comparison="c", rating=two),  # judged once
        row(9.0, 0.0, comparison="d"),  # never rated
        row(9.0, 0.0, comparison="d"),
    ]
    agreement = human_agreement(pairs)
    assert agreement is not None
    assert (agreement.num_comparisons, agreement.num_judgements) == (2, 5)
    assert agreement.levels == [HumanLevel(-4.0, 1, -3.0), HumanLevel(1.5, 1, 2.0)]
    assert agreement.rank_correlation == pytest.approx(1.0)


def test_nothing_judged_twice_gives_no_agreement() -> None:
    assert human_agreement([row(1.0, 0.0, rating=Rating.BETTER)]) is None


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1, 2, 3], [10, 20, 40], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 · 5) = 0.94868.
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486832980505138),
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_rank_correlation(left: list[float], right: list[float], expected: float | None) -> None:
    found = rank_correlation(left, right)
    assert found == (None if expected is None else pytest.approx(expected))
