"""The ranking loss and the auxiliary safety loss, against numbers worked by hand."""

import math

import pytest
import torch

from records.preferences import Rating, SafetyBin
from records.reward_configs import CustomMargins, MarginTable, RewardModelConfig
from rewardmodels.losses import auxiliary_safety_loss, margins_of, ranking_loss

RATINGS = [*Rating, None]


def test_margins_of_ones_own_are_taken_as_they_are() -> None:
    own = CustomMargins(
        significantly_better=5.0, better=0.5, slightly_better=0.25, negligibly_better=0.125
    )
    config = RewardModelConfig(margin_table=MarginTable.CUSTOM, custom_margins=own)
    expected = torch.tensor([5.0, 0.5, 0.25, 0.125, 0.0])
    torch.testing.assert_close(margins_of(RATINGS, config.margins), expected)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # significantly, better, slightly, negligibly better, no rating
        (MarginTable.NONE, [0.0, 0.0, 0.0, 0.0, 0.0]),
        (MarginTable.SMALL, [1.0, 2 / 3, 1 / 3, 0.0, 0.0]),
        (MarginTable.LARGE, [3.0, 2.0, 1.0, 0.0, 0.0]),
    ],
)
def test_margins_are_those_of_table_27(table: MarginTable, expected: list[float]) -> None:
    torch.testing.assert_close(
        margins_of(RATINGS, RewardModelConfig(margin_table=table).margins), torch.tensor(expected)
    )


def test_the_ranking_loss_is_equation_2() -> None:
    chosen = torch.tensor([1.0, 2.0, 0.0])
    rejected = torch.tensor([1.0, 1.0, 2.0])
    margins = torch.tensor([0.0, 1.0, 1.0])
    # Differences less margin: 0, 0, -3. ln 2 = 0.693147; ln(1 + e³) = 3.048587.
    expected = torch.tensor([0.693147, 0.693147, 3.048587])
    torch.testing.assert_close(
        ranking_loss(chosen, rejected, margins), expected, atol=1e-5, rtol=0.0
    )


def test_a_constant_added_to_both_scores_changes_nothing() -> None:
    chosen, rejected = torch.tensor([0.3, -2.0]), torch.tensor([0.1, 4.0])
    margins = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(
        ranking_loss(chosen + 8, rejected + 8, margins), ranking_loss(chosen, rejected, margins)
    )


@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_extreme_scores_give_finite_loss_and_gradient(gap: float) -> None:
    chosen = torch.tensor([gap], requires_grad=True)
    loss = ranking_loss(chosen, torch.zeros(1), torch.zeros(1))
    (gradient,) = torch.autograd.grad(loss.sum(), chosen)
    # The slope is -σ(-gap): -1 far on the wrong side, 0 far on the right side.
    assert loss.item() == (1e4 if gap < 0 else 0.0)
    assert gradient.item() == (-1.0 if gap < 0 else 0.0)


def test_the_safety_loss_is_the_cross_entropy_of_both_responses() -> None:
    chosen = torch.tensor([2.0, 2.0, 2.0, 2.0])
    rejected = torch.tensor([-1.0, -1.0, -1.0, -1.0])
    bins = [SafetyBin.CHOSEN_SAFE, SafetyBin.BOTH_SAFE, SafetyBin.BOTH_UNSAFE, None]
    # Calling 2 safe costs ln(1 + e⁻²) = 0.126928 and unsafe 2.126928;
    # calling -1 safe costs ln(1 + e) = 1.313262 and unsafe 0.313262.
    expected = torch.tensor([0.440190, 1.440190, 2.440190, 0.0])
    torch.testing.assert_close(
        auxiliary_safety_loss(chosen, rejected, bins), expected, atol=1e-5, rtol=0.0
    )


def test_the_safety_loss_stays_finite_and_pulls_an_unsafe_response_below_zero() -> None:
    chosen = torch.tensor([1e4, 0.0], requires_grad=True)
    loss = auxiliary_safety_loss(chosen, torch.zeros(2), [SafetyBin.BOTH_UNSAFE] * 2).sum()
    (gradient,) = torch.autograd.grad(loss, chosen)
    assert math.isfinite(loss.item())
    assert gradient.tolist() == [1.0, 0.5]


def test_half_precision_scores_are_compared_in_single_precision() -> None:
    chosen = torch.tensor([1.0], dtype=torch.bfloat16)
    loss = ranking_loss(chosen, torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1.0)), abs=1e-6)
