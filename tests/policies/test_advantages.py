"""Generalised advantages, worked by hand."""

import pytest
import torch

from policies.advantages import generalised_advantages, state_values


def test_three_tokens_by_hand() -> None:
    # gamma 0.9, lambda 0.5; rewards 0, 0, 1; values 0.5, 0.4, 0.2
    # delta_3 = 1 - 0.2 = 0.8                        A_3 = 0.8
    # delta_2 = 0 + 0.9 * 0.2 - 0.4 = -0.22          A_2 = -0.22 + 0.45 * 0.8 = 0.14
    # delta_1 = 0 + 0.9 * 0.4 - 0.5 = -0.14          A_1 = -0.14 + 0.45 * 0.14 = -0.077
    advantages_BT, returns_BT = generalised_advantages(
        torch.tensor([[0.0, 0.0, 1.0]]),
        torch.tensor([[0.5, 0.4, 0.2]]),
        torch.ones((1, 3), dtype=torch.bool),
        gamma=0.9,
        gae_lambda=0.5,
    )
    assert advantages_BT[0].tolist() == pytest.approx([-0.077, 0.14, 0.8], abs=1e-6)
    assert returns_BT[0].tolist() == pytest.approx([0.423, 0.54, 1.0], abs=1e-6)


def test_with_lambda_one_the_return_is_the_sum_of_the_rewards_to_come() -> None:
    rewards_BT = torch.tensor([[-0.1, -0.2, 1.0]])
    _, returns_BT = generalised_advantages(
        rewards_BT,
        torch.tensor([[5.0, -3.0, 0.7]]),
        torch.ones((1, 3), dtype=torch.bool),
        gamma=1.0,
        gae_lambda=1.0,
    )
    assert returns_BT[0].tolist() == pytest.approx([0.7, 0.8, 1.0], abs=1e-6)


def test_with_lambda_zero_the_advantage_is_the_error_of_one_step() -> None:
    advantages_BT, _ = generalised_advantages(
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[0.3, 0.6]]),
        torch.ones((1, 2), dtype=torch.bool),
        gamma=1.0,
        gae_lambda=0.0,
    )
    assert advantages_BT[0].tolist() == pytest.approx([0.3, 0.4], abs=1e-6)


def test_prompt_and_padding_neither_receive_nor_pass_on_anything() -> None:
    mask_BT = torch.tensor([[False, False, True, True, True, False, False]])
    junk = 77.0
    advantages_BT, returns_BT = generalised_advantages(
        torch.tensor([[junk, junk, 0.0, 0.0, 1.0, junk, junk]]),
        torch.tensor([[junk, junk, 0.5, 0.4, 0.2, junk, junk]]),
        mask_BT,
        gamma=0.9,
        gae_lambda=0.5,
    )
    assert advantages_BT[0].tolist() == pytest.approx([0, 0, -0.077, 0.14, 0.8, 0, 0], abs=1e-6)
    assert returns_BT[0].tolist() == pytest.approx([0, 0, 0.423, 0.54, 1.0, 0, 0], abs=1e-6)


def test_a_value_belongs_to_the_state_before_its_action() -> None:
    # The model says t after reading token t; the action at t was chosen after reading t - 1.
    scalars_BT = torch.tensor([[0.0, 1.0, 2.0, 3.0, 4.0]])
    mask_BT = torch.tensor([[False, False, True, True, False]])
    assert state_values(scalars_BT, mask_BT).tolist() == [[0.0, 0.0, 1.0, 2.0, 0.0]]
