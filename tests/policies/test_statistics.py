"""Masked statistics: by hand, and without regard to padding."""

import numpy as np
import pytest
import torch

from policies.statistics import (
    RunningMoments,
    explained_variance,
    masked_mean,
    masked_moments,
    paired_t,
    whiten,
)


def test_whitening_subtracts_the_mean_and_divides_by_the_population_deviation() -> None:
    # mean 3, population variance (4 + 0 + 0 + 4) / 4 = 2
    white = whiten(torch.tensor([1.0, 3.0, 3.0, 5.0]))
    root = 2**-0.5
    assert white.tolist() == pytest.approx([-2 * root, 0.0, 0.0, 2 * root], abs=1e-6)


def test_the_variance_is_the_one_that_divides_by_n() -> None:
    values = torch.tensor([0.3, -1.2, 4.0, 0.7, 2.2])
    variance = masked_moments(values, torch.ones(5, dtype=torch.bool)).variance
    assert variance == pytest.approx(float(np.var(values.double().numpy(), ddof=0)), abs=1e-12)
    assert variance != pytest.approx(float(np.var(values.numpy(), ddof=1)), abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.1, -3e7])
def test_equal_rewards_become_zeros_and_not_nan(value: float) -> None:
    assert whiten(torch.full((7,), value)).abs().max() < 1e-6


def test_a_single_reward_becomes_zero() -> None:
    assert whiten(torch.tensor([4.2])).tolist() == [0.0]


def test_extreme_scores_stay_finite() -> None:
    white = whiten(torch.tensor([1e3, -1e3]))
    assert white.tolist() == pytest.approx([1.0, -1.0])


def test_padding_changes_neither_mean_nor_whitening() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    padded_values = torch.cat([values, torch.full((2, 50), 99.0)], dim=1)
    padded_mask = torch.cat([mask, torch.zeros((2, 50), dtype=torch.bool)], dim=1)
    assert masked_mean(values, mask) == masked_mean(padded_values, padded_mask) == 3.75
    assert torch.equal(whiten(values, mask), whiten(padded_values, padded_mask)[:, :3])
    assert whiten(padded_values, padded_mask)[:, 3:].abs().sum() == 0.0


def test_what_lies_outside_the_mask_has_no_influence() -> None:
    mask = torch.tensor([True, True, False])
    first = whiten(torch.tensor([1.0, 3.0, 7.0]), mask)
    second = whiten(torch.tensor([1.0, 3.0, -1e9]), mask)
    assert first.tolist() == second.tolist() == pytest.approx([-1.0, 1.0, 0.0])


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="False everywhere"):
        masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool))


def test_explained_variance_is_one_when_perfect_and_zero_for_a_constant() -> None:
    targets, every = torch.tensor([1.0, 2.0, 4.0]), torch.ones(3, dtype=torch.bool)
    assert explained_variance(targets, targets, every) == 1.0
    assert explained_variance(torch.full((3,), 9.0), targets, every) == pytest.approx(0.0)
    assert explained_variance(-targets, targets, every) == pytest.approx(-3.0)
    assert explained_variance(targets, torch.ones(3), every) is None


def test_running_moments_are_those_of_all_values_together() -> None:
    draw = np.random.default_rng(0)
    parts = [draw.normal(loc, 1 + abs(loc), size) for loc, size in ((0.0, 3), (5.0, 7), (-2.0, 1))]
    running = RunningMoments()
    for part in parts:
        running = running.after(torch.from_numpy(part))
    together = np.concatenate(parts)
    assert running.num_values == 11
    assert running.mean == pytest.approx(together.mean(), abs=1e-12)
    assert running.variance == pytest.approx(together.var(ddof=0), abs=1e-12)


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        # Differences 1, 2 and 3: mean 2, deviation 1 (by n - 1), error 1 / sqrt(3).
        ([2.0, 4.0, 6.0], [1.0, 2.0, 3.0], 2 * 3**0.5),
        ([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], -2 * 3**0.5),
        # Differences -1 and 1: what falls here rises there.
        ([0.0, 2.0], [1.0, 1.0], 0.0),
        ([2.0, 3.0], [1.0, 2.0], float("inf")),
        ([1.0, 2.0], [2.0, 3.0], float("-inf")),
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([5.0], [1.0], 0.0),
    ],
)
def test_a_paired_difference_in_its_standard_errors(
    now: list[float], before: list[float], expected: float
) -> None:
    assert paired_t(now, before) == pytest.approx(expected)


def test_pairs_that_lack_a_side_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_t([1.0, 2.0], [1.0])
