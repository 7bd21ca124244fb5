"""Paired comparison: McNemar's exact test, and a bootstrap over dialogues."""

import numpy as np
import pytest

from rewardmodels.paired import compare_paired, mcnemar_p_value


@pytest.mark.parametrize(
    ("num_better", "num_worse", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 · 1/2
        (8, 2, 0.109375),  # 2 · (1 + 10 + 45) / 1024
        (2, 8, 0.109375),
        (5, 5, 1.0),  # 2 · 638/1024, capped
        (10, 0, 0.001953125),  # 2 / 1024
    ],
)
def test_mcnemars_exact_test(num_better: int, num_worse: int, expected: float) -> None:
    assert mcnemar_p_value(num_better, num_worse) == pytest.approx(expected, rel=1e-12)


def test_the_test_does_not_overflow_on_many_pairs() -> None:
    # z = (10150 - 9850) / sqrt(20000) = 2.12; continuity-corrected 2.114, two-sided 0.0345.
    assert mcnemar_p_value(10150, 9850) == pytest.approx(0.0345, abs=3e-4)


def test_the_difference_counts_ties_one_half() -> None:
    compared = compare_paired(
        np.array([1.0, 0.5, 0.0, 1.0]),
        np.array([0.0, 0.5, 0.5, 0.5]),
        ["a", "b", "c", "d"],
        num_resamples=100,
        seed=0,
    )
    assert compared is not None
    assert compared.difference == 0.25  # (1 + 0 - 1/2 + 1/2) / 4
    assert (compared.num_better, compared.num_worse) == (2, 1)
    assert compared.p_value == 1.0  # 2 · (1 + 3) / 8


def test_the_interval_of_two_dialogues_spans_both() -> None:
    # The resampled mean is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4: the 2.5% points are 0 and 1.
    compared = compare_paired(
        np.array([1.0, 1.0]), np.array([0.0, 1.0]), ["a", "b"], num_resamples=400, seed=1
    )
    assert compared is not None
    assert (compared.difference, compared.low, compared.high) == (0.5, 0.0, 1.0)


def test_pairs_of_one_dialogue_are_drawn_together() -> None:
    # One dialogue: every resample is the same, so there is no spread at all to be seen.
    compared = compare_paired(
        np.array([1.0, 1.0, 0.0, 1.0]), np.zeros(4), ["a"] * 4, num_resamples=100, seed=0
    )
    assert compared is not None
    assert (compared.low, compared.high) == (0.75, 0.75)


def test_on_many_independent_pairs_the_interval_is_the_normal_one() -> None:
    # 30% gained, 20% lost, 50% alike: mean 0.1, variance 0.5 - 0.01, deviation of the mean 0.0221.
    gains = np.repeat([1.0, -1.0, 0.0], [300, 200, 500])
    ids = [str(i) for i in range(1000)]
    compared = compare_paired(gains, np.zeros(1000), ids, num_resamples=2000, seed=3)
    assert compared is not None
    assert compared.low == pytest.approx(0.1 - 1.96 * 0.0221, abs=0.004)
    assert compared.high == pytest.approx(0.1 + 1.96 * 0.0221, abs=0.004)


def test_no_pairs_give_no_comparison() -> None:
    assert compare_paired(np.array([]), np.array([]), [], num_resamples=100, seed=0) is None
