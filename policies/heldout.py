"""Looks at held-out prompts: what PPO stops by, and what its best policy is best at.

Shapes: B rows, T tokens in a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.scores import ScoreFn
from language.tokenizers import eos_id_of, pad_id_of
from policies.encoding import EncodedPrompt
from policies.kl import kl_estimates
from policies.rollouts import logprobs_of, sample_rollout
from policies.scoring import derived_seed, score_rows
from policies.statistics import Moments, masked_moments, standardised
from records.configs import PPOConfig


class HeldOutLook(NamedTuple):
    """What a policy does on the held-out prompts."""

    scores: Moments
    """Mean and variance of the gated scores."""
    kl: float
    """Mean over responses of the summed estimates of KL(policy || reference)."""
    finished_share: float
    """Share of responses that ended by themselves."""

    @property
    def units(self) -> Moments:
        """Mean and variance to whiten scores by; equal scores count as having variance 1."""
        return self.scores if self.scores.variance > 0.0 else Moments(self.scores.mean, 1.0)


def look_at(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    score_fn: ScoreFn,
    prompts: Sequence[EncodedPrompt],
    config: PPOConfig,
) -> HeldOutLook:
    """Sample a response to each held-out prompt and score it.

    Seeds are the same at every look, so that two looks differ by the policy and not by luck.
    """
    rollout = sample_rollout(
        policy,
        prompts,
        [derived_seed(config.seed, "heldout", index) for index in range(len(prompts))],
        sampling=config.sampling,
        eos_id=eos_id_of(tokenizer),
        pad_id=pad_id_of(tokenizer),
        rows_per_batch=config.rows_per_batch,
    )
    scores = score_rows(
        score_fn, rollout.rows, rollout.is_safety, threshold=config.safety_threshold
    )
    temperature, tokens = config.sampling.temperature, config.tokens_per_microbatch
    logprobs_BT = logprobs_of(policy, rollout, temperature=temperature, tokens=tokens)
    reference_BT = logprobs_of(reference, rollout, temperature=temperature, tokens=tokens)
    kl_BT = kl_estimates(logprobs_BT, reference_BT, config.kl_estimator)
    every_B = scores.gated_B.isfinite()
    return HeldOutLook(
        scores=masked_moments(scores.gated_B, every_B),
        kl=float(kl_BT.sum(dim=1).mean()),
        finished_share=float(rollout.is_finished_B.float().mean()),
    )


def objective_of(look: HeldOutLook, start: Moments, config: PPOConfig) -> float:
    """Return what PPO maximises, measured on held-out prompts: reward less β times KL.

    Equation 4 of arXiv:2307.09288. The mean score is whitened by `start`, the moments before
    training, as whitening by its own would make every policy's mean zero.
    """
    score = standardised(torch.tensor(look.scores.mean, dtype=torch.float64), start).item()
    unfinished_share = 1.0 - look.finished_share
    return score - config.truncation_penalty * unfinished_share - config.kl_coef * look.kl
