"""Proportions with their Wilson intervals, and histograms of scores."""

import pytest

from records.statistics import score_histogram, sigmoid, wilson_proportion


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # z² = 3.841459. n = 10, p = 1/2: centre 1/2, half 1.959964·sqrt(.025 + .0096036)/1.3841459.
        (5, 10, 0.236593, 0.763407),
        # p = 0: from 0 to z²/(n + z²) = 3.841459 / 13.841459.
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        # n = 100, p = 0.9: (0.9 + 0.0192073 ± 1.959964·sqrt(0.0009 + 0.000096)) / 1.0384146.
        (90, 100, 0.825635, 0.944770),
    ],
)
def test_the_interval_is_the_one_worked_by_hand(
    successes: float, n: int, low: float, high: float
) -> None:
    result = wilson_proportion(successes, n)
    assert result.value == successes / n
    assert result.low == pytest.approx(low, abs=2e-5)
    assert result.high == pytest.approx(high, abs=2e-5)
    assert result.n == n


def test_none_and_all_reach_the_very_ends() -> None:
    assert wilson_proportion(0, 40).low == 0.0
    assert wilson_proportion(40, 40).high == 1.0


def test_no_trials_say_nothing() -> None:
    assert wilson_proportion(0, 0) == (None, 0.0, 1.0, 0)


@pytest.mark.parametrize("successes", [-1, 3.5])
def test_successes_beyond_the_trials_are_refused(successes: float) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_proportion(successes, 3)


def test_the_histogram_counts_every_score_and_takes_extremes_in() -> None:
    histogram = score_histogram({"one": [-1e4, -1.0, 0.0, 0.01, 1e4], "none": []})
    # σ: 0, 0.2689, 0.5, 0.5025, 1 over 20 bins of width 0.05.
    expected = [0] * 20
    expected[0], expected[5], expected[10], expected[19] = 1, 1, 2, 1
    assert histogram["one"] == expected
    assert histogram["none"] == [0] * 20
    assert histogram["edges"][:3] == [0.0, 0.05, 0.1]
    assert histogram["edges"][-1] == 1.0


def test_the_sigmoid_is_symmetric_and_never_overflows() -> None:
    assert sigmoid(0.0) == 0.5
    assert sigmoid(1.0) == pytest.approx(0.731059, abs=1e-6)
    assert sigmoid(-1.0) == pytest.approx(1 - 0.731059, abs=1e-6)
    assert (sigmoid(-1e4), sigmoid(1e4)) == (0.0, 1.0)
