"""One iteration's gradient steps of PPO: policy and value model learn from one rollout.

Shapes: B rows, T tokens in a row.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.logprobs import response_logprobs
from language.packing import split_by_tokens
from policies.losses import policy_losses, token_mean, value_losses
from policies.rollouts import Rollout, response_values, select_rows
from policies.statistics import Moments
from records.configs import PPOConfig


class Learner(NamedTuple):
    """An optimizer with its schedule and the bound on its gradients."""

    optimizer: AdamW
    schedule: LambdaLR
    max_grad_norm: float

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step_(self) -> float:
        """Update the parameters by their gradients, clear these, return their norm before clipping.

        Raises:
            FloatingPointError: The norm is not finite.
        """
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        grad_norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm).item()
        if not math.isfinite(grad_norm):
            raise FloatingPointError(f"gradient norm {grad_norm}; lower the learning rate")
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return grad_norm


class Experience(NamedTuple):
    """A rollout with all that was computed from it before the first update."""

    rollout: Rollout
    logprobs_BT: Tensor
    """Of the policy that sampled, recomputed by the trainer."""
    values_BT: Tensor
    advantages_BT: Tensor
    """Whitened over the batch's response tokens."""
    returns_BT: Tensor


class UpdateMetrics(NamedTuple):
    """Means over an iteration's response tokens, or over its steps for the norms."""

    policy_loss: float
    value_loss: float
    approx_kl: float
    """KL(old policy || policy), estimated as ρ - 1 - log ρ."""
    clip_fraction: float
    """Share of tokens whose ratio lay outside 1 ± clip_range."""
    ratio_max_deviation: float
    """Largest |ρ - 1| before the first step: what is not zero is rounding, or a bug."""
    grad_norm: float
    value_grad_norm: float


def update_(
    policy: LlamaForCausalLM,
    policy_learner: Learner,
    value_model: LlamaForSequenceClassification,
    value_learner: Learner,
    experience: Experience,
    *,
    units: Moments,
    config: PPOConfig,
    generator: torch.Generator,
) -> UpdateMetrics:
    """Take one gradient step per minibatch on both models, `num_epochs` times over the rollout.

    Minibatches are drawn at random; one that is too large is computed in parts, each
    divided by the whole minibatch's response tokens, so that parts add up to its mean.
    """
    rows = experience.rollout.rows
    sums = torch.zeros(4, dtype=torch.float64)
    grad_norms: list[float] = []
    value_grad_norms: list[float] = []
    first_deviations: list[float] = []
    total_tokens = 0
    for minibatch in draw_minibatches(len(rows), config, generator):
        minibatch_rows = [rows[i] for i in minibatch]
        num_tokens = sum(len(row.response_ids) for row in minibatch_rows)
        lengths = [row.num_tokens for row in minibatch_rows]
        for group in split_by_tokens(lengths, tokens=config.tokens_per_microbatch):
            indices = [minibatch[i] for i in group]
            terms, deviation = _backward(
                policy, value_model, experience, indices, num_tokens, units=units, config=config
            )
            sums = sums + num_tokens * terms
            if not grad_norms:
                first_deviations.append(deviation)
        grad_norms.append(policy_learner.step_())
        value_grad_norms.append(value_learner.step_())
        total_tokens += num_tokens
    policy_loss, value_loss, approx_kl, clip_fraction = (sums / total_tokens).tolist()
    return UpdateMetrics(
        policy_loss=policy_loss,
        value_loss=value_loss,
        approx_kl=approx_kl,
        clip_fraction=clip_fraction,
        ratio_max_deviation=max(first_deviations),
        grad_norm=sum(grad_norms) / len(grad_norms),
        value_grad_norm=sum(value_grad_norms) / len(value_grad_norms),
    )


def draw_minibatches(
    num_rows: int, config: PPOConfig, generator: torch.Generator
) -> list[list[int]]:
    """Return row indices of each step: every epoch is a new permutation cut into minibatches."""
    minibatches: list[list[int]] = []
    for _ in range(config.num_epochs):
        order = torch.randperm(num_rows, generator=generator).tolist()
        size = config.minibatch_size
        minibatches += [order[start : start + size] for start in range(0, num_rows, size)]
    return minibatches


def _backward(
    policy: LlamaForCausalLM,
    value_model: LlamaForSequenceClassification,
    experience: Experience,
    indices: Sequence[int],
    num_tokens: int,
    *,
    units: Moments,
    config: PPOConfig,
) -> tuple[Tensor, float]:
    """Add some rows' share of both gradients; return their share of the metrics, and max |ρ - 1|.

    The shares are of policy loss, value loss, approximate KL and clip fraction.
    """
    batch = select_rows(experience.rollout.batch, indices)
    width = batch.ids_BT.shape[1]
    mask_BT = batch.response_mask_BT
    old_BT, old_values_BT, advantages_BT, returns_BT = (
        part_BT[list(indices), :width] for part_BT in experience[1:]
    )

    logprobs_BT = response_logprobs(policy, batch, temperature=config.sampling.temperature)
    losses_BT = policy_losses(logprobs_BT, old_BT, advantages_BT, clip_range=config.clip_range)
    policy_loss = token_mean(losses_BT, mask_BT, num_tokens=num_tokens)
    torch.autograd.backward(policy_loss)

    values_BT = response_values(value_model, batch, units=units)
    losses_BT = value_losses(
        values_BT, old_values_BT, returns_BT, clip_range=config.value_clip_range
    )
    value_loss = token_mean(losses_BT, mask_BT, num_tokens=num_tokens)
    torch.autograd.backward(config.value_loss_coef * value_loss)

    with torch.no_grad():
        log_ratios_BT = (logprobs_BT - old_BT).detach()
        deviations_BT = log_ratios_BT.expm1()
        approx_kl = token_mean(deviations_BT - log_ratios_BT, mask_BT, num_tokens=num_tokens)
        is_clipped_BT = (deviations_BT.abs() > config.clip_range).float()
        clip_fraction = token_mean(is_clipped_BT, mask_BT, num_tokens=num_tokens)
        shares = torch.stack([policy_loss, value_loss, approx_kl, clip_fraction])
    return shares.detach().double().cpu(), float(deviations_BT.abs().max())
