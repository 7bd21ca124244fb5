"""From scores to rewards per token: whitening, the truncation penalty, the KL penalty.

The gate itself is `language.scores.gated_score`. Shapes: B rows, T tokens in a row.
"""

import torch
from torch import Tensor

from language.scores import gated_score
from policies.statistics import whiten

__all__ = ["final_scores", "gated_score", "last_response_tokens", "token_rewards", "whiten"]


def final_scores(scores_B: Tensor, is_finished_B: Tensor, *, truncation_penalty: float) -> Tensor:
    """Return R̃_c: the gated scores whitened over the batch, less the penalty where one is due.

    A response that reached the length limit has not ended: it is no terminal state whose score
    counts in full, so `truncation_penalty` is subtracted, in units of the batch's deviation.
    """
    return whiten(scores_B.float()) - truncation_penalty * (~is_finished_B).float()


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
