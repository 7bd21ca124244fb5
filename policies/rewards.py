"""From scores to rewards per token: the rule for cut responses, the KL penalty.

The gate itself is `language.scores.gated_score`. Shapes: B rows, T tokens in a row.
"""

import torch
from torch import Tensor

from language.scores import gated_score
from policies.statistics import whiten
from records.ppo_choices import TruncationRule

__all__ = ["final_scores", "gated_score", "last_response_tokens", "token_rewards", "whiten"]


def final_scores(
    white_B: Tensor,
    is_finished_B: Tensor,
    *,
    truncation: TruncationRule,
    truncation_penalty: float,
    last_values_B: Tensor,
    gamma: float,
) -> Tensor:
    """Return what each response is paid at its last token, R̃_c where it ended by itself.

    A response that reached the length limit has not ended: it is no terminal state whose whitened
    score counts in full. By `truncation` it pays `truncation_penalty` (in deviations) out of its
    score, is paid the penalty alone, or is paid what the value model expects of the state it was
    cut in, `last_values_B`, one step later: γ V, as in equation 16 of arXiv:1506.02438.
    """
    if truncation is TruncationRule.PENALTY:
        return white_B - truncation_penalty * (~is_finished_B).float()
    if truncation is TruncationRule.REPLACE:
        return white_B.masked_fill(~is_finished_B, -truncation_penalty)
    return torch.where(is_finished_B, white_B, gamma * last_values_B)


def last_response_tokens(response_mask_BT: Tensor) -> Tensor:
    """Return is_last_BT: True at the last response token of each row, found by the mask alone.

    Raises:
        ValueError: A row has no response token.
    """
    if not bool(response_mask_BT.any(dim=1).all()):
        raise ValueError("response_mask_BT: every row needs at least one response token")
    after_BT = torch.cat(
        [response_mask_BT[:, 1:], torch.zeros_like(response_mask_BT[:, :1])], dim=1
    )
    return response_mask_BT & ~after_BT


def token_rewards(
    scores_B: Tensor, kl_BT: Tensor, response_mask_BT: Tensor, *, kl_coef: float
) -> Tensor:
    """Return rewards_BT: -kl_coef · kl at response tokens, plus the score at the last; else 0.

    Equation 4 of arXiv:2307.09288, R = R̃_c - β KL, spread over tokens as Stiennon et al.
    (arXiv:2009.01325) do: a row's rewards add up to its score less β times its summed KL.
    """
    rewards_BT = (-kl_coef * kl_BT).masked_fill(~response_mask_BT, 0.0)
    return torch.where(
        last_response_tokens(response_mask_BT), rewards_BT + scores_B[:, None], rewards_BT
    )
