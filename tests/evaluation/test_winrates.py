"""Win rates: ties are one half, and the interval is Wilson's."""

import math

import pytest

from evaluation.winrates import win_rate


def test_a_tie_counts_one_half() -> None:
    result = win_rate([2.0, 0.5, 0.0, -1.0])
    assert result.value == 0.625  # (2 + 1/2) / 4
    assert (result.num_wins, result.num_ties, result.num_losses) == (2, 1, 1)


def test_the_interval_is_the_one_worked_by_hand() -> None:
    # 8 wins of 10: z² = 3.8415; centre (0.8 + 0.19207) / 1.38415 = 0.71674;
    # half 1.95996 · sqrt(0.016 + 0.0096036) / 1.38415 = 0.22658.
    result = win_rate([1.0] * 8 + [-1.0] * 2)
    assert result.low == pytest.approx(0.49016, abs=2e-5)
    assert result.high == pytest.approx(0.94332, abs=2e-5)


def test_equal_policies_win_half_and_swapping_them_mirrors_the_interval() -> None:
    assert win_rate([0.0] * 5).value == 0.5
    advantages = [1.0, 1.0, 0.0, -1.0, 3.0]
    forward, backward = win_rate(advantages), win_rate([-a for a in advantages])
    assert forward.value == pytest.approx(1 - (backward.value or 0.0))
    assert forward.low == pytest.approx(1 - backward.high)


def test_no_prompts_give_no_value_and_know_nothing() -> None:
    assert win_rate([])[:3] == (None, 0.0, 1.0)


def test_a_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        win_rate([1.0, math.nan])
