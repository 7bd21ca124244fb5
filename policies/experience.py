"""What one rollout teaches, by the choices of its config: rewards, advantages, returns.

Shapes: B rows, R tokens of the longest response, M response tokens of all rows.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from policies.advantages import generalised_advantages
from policies.kl import kl_penalties
from policies.ppo_progress import Progress
from policies.rewards import final_scores, token_rewards
from policies.rollouts import Rollout
from policies.statistics import standardised, whiten
from policies.updates import Experience
from policies.views import Kept, View
from records.policy_configs import PPOConfig
from records.ppo_choices import WhitenScope


class Rewards(NamedTuple):
    """What each token of a rollout is paid."""

    rewards_BR: Tensor
    kl: float
    """Mean over responses of what they pay for their divergence, before β."""


def rewards_of(
    rollout: Rollout,
    scores_B: Tensor,
    view: View,
    reference_M: Tensor,
    progress: Progress,
    config: PPOConfig,
) -> Rewards:
    """Return the rewards of a rollout: equation 4 of arXiv:2307.09288 with β of `progress`.

    Raises:
        FloatingPointError: An estimate of the divergence is not finite.
    """
    mask_BR, device = rollout.response_mask_BR, rollout.place_M.device
    kl_BR = kl_penalties(
        rollout.grid(view.logprobs_M),
        rollout.grid(reference_M),
        mask_BR,
        estimator=config.kl_estimator,
        scope=config.kl_scope,
    )
    kl = float(kl_BR.sum(dim=1).mean())
    if not math.isfinite(kl):
        raise FloatingPointError(
            f"KL to the reference is {kl}: the policies are too far apart for "
            f"{config.kl_estimator.value}; take k1, or lower optimizer.learning_rate"
        )
    final_B = final_scores(
        whitened(scores_B, progress, config.whiten_scope).to(device),
        rollout.is_finished_B.to(device),
        truncation=config.truncation,
        truncation_penalty=config.truncation_penalty,
        last_values_B=view.last_values_B,
        gamma=config.gamma,
    )
    return Rewards(token_rewards(final_B, kl_BR, mask_BR, kl_coef=progress.kl_coef), kl)


def experience_of(
    rollout: Rollout, view: View, rewards_BR: Tensor, config: PPOConfig, *, kept: Kept | None = None
) -> Experience:
    """Return the rollout with the advantages and returns of its rewards."""
    mask_BR = rollout.response_mask_BR
    advantages_BR, returns_BR = generalised_advantages(
        rewards_BR,
        rollout.grid(view.values_M),
        mask_BR,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    if config.has_whitened_advantages:
        advantages_BR = whiten(advantages_BR, mask_BR)
    return Experience(
        rollout=rollout,
        logprobs_M=view.logprobs_M,
        values_M=view.values_M,
        advantages_M=rollout.flat(advantages_BR),
        returns_M=rollout.flat(returns_BR),
        kept=kept,
    )


def whitened(scores_B: Tensor, progress: Progress, scope: WhitenScope) -> Tensor:
    """Return WHITEN(scores_B) of arXiv:2307.09288, section 3.2.3, by the moments of `scope`.

    Those of all responses so far include these, which `progress` has counted. A fixed scope lets
    what the policy has gained stay in the reward; the batch's own takes it out again.
    """
    if scope is WhitenScope.BATCH:
        return whiten(scores_B.float())
    moments = progress.units if scope is WhitenScope.START else progress.scores.moments
    if moments.variance == 0.0:
        return torch.zeros_like(scores_B)
    return standardised(scores_B.double(), moments).float()
