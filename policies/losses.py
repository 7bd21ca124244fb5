"""The losses of PPO, one value per token, and how they become one number.

Shapes: B rows, T tokens in a row; any other shape will do, as long as all have it.
"""

import torch
from torch import Tensor


def policy_losses(
    logprobs_BT: Tensor, old_logprobs_BT: Tensor, advantages_BT: Tensor, *, clip_range: float
) -> Tensor:
    """Return losses_BT = -min(ρ A, clip(ρ, 1 ± clip_range) A), equation 7 of arXiv:1707.06347.

    ρ = π(token) / π_old(token). `old_logprobs_BT` and `advantages_BT` carry no gradient.
    """
    ratios_BT = (logprobs_BT - old_logprobs_BT).exp()
    clipped_BT = ratios_BT.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(ratios_BT * advantages_BT, clipped_BT * advantages_BT)


def value_losses(
    values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, *, clip_range: float
) -> Tensor:
    """Return losses_BT = max((V - G)², (V_old + clip(V - V_old, ± clip_range) - G)²) / 2.

    The clipped value loss of OpenAI's PPO (baselines `ppo2`): a step that takes a value further
    than `clip_range` from its old one, towards its return G, gains nothing.
    """
    clipped_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip_range, clip_range)
    return torch.maximum((values_BT - returns_BT).square(), (clipped_BT - returns_BT).square()).div(
        2
    )


def token_mean(losses: Tensor, mask: Tensor | None = None, *, num_tokens: int) -> Tensor:
    """Return the sum of losses under `mask` divided by `num_tokens`, which the caller counts.

    Without a mask every loss is a response token's.

    Every response token of a minibatch weighs the same, whatever the length of its response.
    `num_tokens` is the count over the whole minibatch: the parts of it that are computed one after
    the other, or on several processes, then add up to its mean.
    """
    return (losses if mask is None else losses[mask]).sum() / num_tokens
