"""Looks at held-out prompts: what PPO stops by, what its best policy is best at, what watches it.

Shapes: B rows.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch

from language.distributed import gather_objects
from language.tokenizers import eos_id_of
from policies.encoding import EncodedPrompt
from policies.kl import kl_penalties
from policies.ppo_models import Models
from policies.rollouts import groups_of, sample_rollout
from policies.scoring import derived_seed, score_rows
from policies.statistics import Moments, masked_moments, standardised
from policies.views import logprobs_of
from records.policy_configs import PPOConfig
from records.ppo_choices import TruncationRule


class HeldOutLook(NamedTuple):
    """What a policy does on the held-out prompts."""

    scores: Moments
    """Mean and variance of the gated scores."""
    kl: float
    """Mean over responses of what they pay for their divergence from the reference."""
    finished_share: float
    """Share of responses that ended by themselves."""
    finished_score: float = 0.0
    """Sum of the gated scores of those, over the number of all responses."""
    helpfulness: float = 0.0
    """Mean raw score."""
    safety: float = 0.0
    surprises: tuple[float, ...] = ()
    """Of each response, to the reference: nats a token, whatever estimator KL is penalised by."""
    general_scores: tuple[float, ...] | None = None
    """The general reward model's score of each response, where there is such a model."""

    @property
    def surprise(self) -> float:
        """Mean over responses of how they surprise the reference, nats a token."""
        return fmean(self.surprises)

    @property
    def general(self) -> float | None:
        """Mean score of the general reward model, where there is one."""
        return None if self.general_scores is None else fmean(self.general_scores)

    @property
    def units(self) -> Moments:
        """Mean and variance to whiten scores by; equal scores count as having variance 1."""
        return self.scores if self.scores.variance > 0.0 else Moments(self.scores.mean, 1.0)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return {**self._asdict(), "scores": list(self.scores)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "HeldOutLook":
        """Return what `to_json` wrote."""
        general = data["general_scores"]
        parts: dict[str, Any] = {
            "scores": Moments(*data["scores"]),
            "surprises": tuple(data["surprises"]),
            "general_scores": None if general is None else tuple(general),
        }
        return cls(**{**data, **parts})


def look_at(
    models: Models, prompts: Sequence[EncodedPrompt], config: PPOConfig, iteration: int
) -> HeldOutLook:
    """Sample a response to each held-out prompt after `iteration` and score it; a collective.

    Seeds are the same at every look, so that two looks differ by the policy and not by luck.
    """
    networks = models.networks
    rollout = sample_rollout(
        models.engine_after(iteration),
        prompts,
        [derived_seed(config.seed, "heldout", index) for index in range(len(prompts))],
        sampling=config.sampling,
        eos_id=eos_id_of(models.tokenizer),
        rows_per_batch=config.rows_per_batch,
        device=networks.policy.device,
    )
    scores = score_rows(
        models.score_fn, rollout.rows, rollout.is_safety, threshold=config.safety_threshold
    )
    groups, temperature = (
        groups_of(rollout, tokens=config.tokens_per_microbatch),
        config.sampling.temperature,
    )
    own_M = logprobs_of(networks.as_policy(), rollout, groups, temperature=temperature)
    reference_M = logprobs_of(networks.as_reference(), rollout, groups, temperature=temperature)
    kl_BR = kl_penalties(
        rollout.grid(own_M),
        rollout.grid(reference_M),
        rollout.response_mask_BR,
        estimator=config.kl_estimator,
        scope=config.kl_scope,
    )
    reference_BR = rollout.grid(reference_M).double()
    surprise_B = -reference_BR.sum(dim=1) / rollout.response_mask_BR.sum(dim=1)
    general = None if models.monitor is None else models.monitor(rollout.rows).tolist()
    every_B = scores.gated_B.isfinite()
    look = HeldOutLook(
        scores=masked_moments(scores.gated_B, every_B),
        kl=float(kl_BR.sum(dim=1).mean()),
        finished_share=float(rollout.is_finished_B.float().mean()),
        finished_score=float((scores.gated_B.double() * rollout.is_finished_B).mean()),
        helpfulness=float(scores.helpfulness_B.mean()),
        safety=float(scores.safety_B.mean()),
        surprises=tuple(surprise_B.tolist()),
        general_scores=None if general is None else tuple(general),
    )
    # Whether to go on hangs on it: processes that differ by a rounding would part here.
    return gather_objects(look)[0]


def objective_of(look: HeldOutLook, start: Moments, config: PPOConfig) -> float:
    """Return what PPO maximises, measured on held-out prompts: reward less β times KL.

    Equation 4 of arXiv:2307.09288. The mean score is whitened by `start`, the moments before
    training, as whitening by its own would make every policy's mean zero; β is the config's, for
    a β that is steered would compare two policies by two measures. Cut responses pay by the
    config's rule, but for bootstrapping: what might have come is no result.
    """
    score = standardised(torch.tensor(look.scores.mean, dtype=torch.float64), start).item()
    unfinished_share = 1.0 - look.finished_share
    penalty = config.truncation_penalty * unfinished_share
    if config.truncation is TruncationRule.BOOTSTRAP:
        penalty = 0.0
    if config.truncation is TruncationRule.REPLACE:
        finished = look.finished_score - look.finished_share * start.mean
        score = standardised(
            torch.tensor(finished, dtype=torch.float64), start._replace(mean=0.0)
        ).item()
    return score - penalty - config.kl_coef * look.kl
