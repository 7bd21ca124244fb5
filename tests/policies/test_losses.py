"""The losses of PPO, worked by hand."""

import math

import pytest
import torch

from policies.losses import policy_losses, token_mean, value_losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.1, 2.0, -2.2),  # within the range
        (1.5, 2.0, -2.4),  # a good token gains nothing beyond 1.2
        (0.5, 2.0, -1.0),  # a good token that became rarer is not clipped
        (0.5, -2.0, 1.6),  # a bad token gains nothing below 0.8
        (1.5, -2.0, 3.0),  # a bad token that became likelier is not clipped
    ],
)
def test_the_policy_loss_is_the_clipped_objective(
    ratio: float, advantage: float, expected: float
) -> None:
    losses_BT = policy_losses(
        torch.tensor([[math.log(ratio) - 3.0]]),
        torch.tensor([[-3.0]]),
        torch.tensor([[advantage]]),
        clip_range=0.2,
    )
    assert losses_BT.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "has_gradient"),
    [(1.1, 1.0, True), (1.5, 1.0, False), (0.5, 1.0, True), (0.5, -1.0, False), (1.5, -1.0, True)],
)
def test_a_clipped_token_has_no_gradient(
    ratio: float, advantage: float, has_gradient: bool
) -> None:
    logprobs_BT = torch.tensor([[math.log(ratio)]], requires_grad=True)
    losses_BT = policy_losses(
        logprobs_BT, torch.zeros(1, 1), torch.tensor([[advantage]]), clip_range=0.2
    )
    losses_BT.sum().backward()
    assert logprobs_BT.grad is not None
    expected = -advantage * ratio if has_gradient else 0.0
    assert logprobs_BT.grad.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("value", "old", "target", "expected"),
    [
        (1.0, 1.0, 2.0, 0.5),  # no change: (1 - 2)² / 2
        (1.1, 1.0, 2.0, 0.405),  # within the range: (1.1 - 2)² / 2
        (1.9, 1.0, 2.0, 0.32),  # too far towards the target: as if it were 1.2
        (0.5, 1.0, 2.0, 1.125),  # away from the target: the greater loss, unclipped
    ],
)
def test_the_value_loss_is_the_greater_of_clipped_and_unclipped(
    value: float, old: float, target: float, expected: float
) -> None:
    losses_BT = value_losses(
        torch.tensor([[value]]), torch.tensor([[old]]), torch.tensor([[target]]), clip_range=0.2
    )
    assert losses_BT.item() == pytest.approx(expected, rel=1e-5)


def test_every_token_weighs_the_same_whatever_its_row() -> None:
    losses_BT = torch.tensor([[1.0, 2.0, 3.0], [8.0, 99.0, 99.0]])
    mask_BT = torch.tensor([[True, True, True], [True, False, False]])
    # Over tokens (1 + 2 + 3 + 8) / 4; a mean of the rows' means would be (2 + 8) / 2.
    assert token_mean(losses_BT, mask_BT, num_tokens=4).item() == 3.5


def test_parts_of_a_minibatch_add_up_to_its_mean() -> None:
    losses_BT = torch.tensor([[1.0, 2.0, 3.0], [8.0, 99.0, 99.0]])
    mask_BT = torch.tensor([[True, True, True], [True, False, False]])
    parts = [token_mean(losses_BT[i : i + 1], mask_BT[i : i + 1], num_tokens=4) for i in (0, 1)]
    assert sum(part.item() for part in parts) == 3.5
