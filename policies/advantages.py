"""Advantages and returns from rewards and values per token.

Shapes: B rows, T tokens in a row. A tensor's column t speaks of the action that is token t:
`values_BT` holds there the value of the state before it, the prefix that ends at token t - 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """Both 0 outside the response."""

    advantages_BT: Tensor
    returns_BT: Tensor
    """What the value model is to predict: advantage plus value."""


def state_values(scalars_BT: Tensor, response_mask_BT: Tensor) -> Tensor:
    """Return values_BT: at response token t the model's scalar at t - 1, the state acted in."""
    shifted_BT = torch.cat([torch.zeros_like(scalars_BT[:, :1]), scalars_BT[:, :-1]], dim=1)
    return shifted_BT.masked_fill(~response_mask_BT, 0.0)


def generalised_advantages(
    rewards_BT: Tensor,
    values_BT: Tensor,
    response_mask_BT: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Advantages:
    """Return advantages and returns by equation 16 of arXiv:1506.02438.

    With δ_t = r_t + γ V_{t+1} - V_t, the advantage is A_t = δ_t + γ λ A_{t+1}. A response ends an
    episode: nothing follows its last token, whether it ended by itself or at the length limit.
    Responses are contiguous in their rows.
    """
    mask_BT = response_mask_BT.to(values_BT.dtype)
    running_B = next_values_B = torch.zeros_like(values_BT[:, 0])
    columns = []
    for t in reversed(range(values_BT.shape[1])):
        deltas_B = rewards_BT[:, t] + gamma * next_values_B - values_BT[:, t]
        running_B = (deltas_B + gamma * gae_lambda * running_B) * mask_BT[:, t]
        next_values_B = values_BT[:, t] * mask_BT[:, t]
        columns.append(running_B)
    advantages_BT = torch.stack(columns[::-1], dim=1)
    return Advantages(advantages_BT, (advantages_BT + values_BT) * mask_BT)
