"""One iteration's gradient steps of PPO: policy and value model learn from one rollout.

Shapes: M response tokens. Within the loop over minibatches nothing waits for the device: rows are
packed before it, and what is measured is read after it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaForCausalLM

from language.distributed import all_reduce_max_, all_reduce_sum_
from language.logprobs import token_logprobs
from language.sharding import clip_gradients_, sum_gradients_
from policies.losses import policy_losses, token_mean, value_losses
from policies.networks import Networks
from policies.rollouts import Group, Rollout, groups_of
from policies.statistics import Moments
from policies.views import Kept, policy_pass, value_pass
from records.policy_configs import PPOConfig


class Learner(NamedTuple):
    """An optimizer with its schedule and the bound on its gradients."""

    optimizer: AdamW
    schedule: LambdaLR
    max_grad_norm: float

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step_(self) -> Tensor:
        """Update the parameters by their gradients, clear these, return their norm before clipping.

        Gradients are those of all processes together; a collective. The norm is not read here,
        which would wait for the device: the caller must refuse a norm that is not finite before
        anything is kept.
        """
        groups = self.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        sum_gradients_(parameters)
        grad_norm = clip_gradients_(parameters, self.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return grad_norm


class Learners(NamedTuple):
    """What moves the policy's weights, and what moves the value model's."""

    policy: Learner
    value: Learner


class Experience(NamedTuple):
    """A rollout with all that was computed from it before the first update."""

    rollout: Rollout
    logprobs_M: Tensor
    """Of the policy that sampled, recomputed by the trainer."""
    values_M: Tensor
    advantages_M: Tensor
    """Whitened over the batch's response tokens, unless the config leaves them as they are."""
    returns_M: Tensor
    kept: Kept | None = None
    """The pass that said `logprobs_M` and `values_M`, where the update goes backwards from it."""


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


class Minibatch(NamedTuple):
    """The rows of one gradient step, packed."""

    groups: list[Group]
    """This process's."""
    num_tokens: int
    """Response tokens of the whole minibatch, over all processes."""


def update_(
    networks: Networks,
    learners: Learners,
    experience: Experience,
    *,
    units: Moments,
    config: PPOConfig,
    generator: torch.Generator,
) -> UpdateMetrics:
    """Take one gradient step per minibatch on both models, `num_epochs` times over the rollout.

    Minibatches are drawn at random, the same in every process. Processes share the rows of each;
    what is too large is computed in parts. Every part is divided by the whole minibatch's response
    tokens, so that parts add up to its mean, and gradients are added up over the processes. Where
    the experience kept its pass, that is the one step's forward pass.

    Raises:
        FloatingPointError: A gradient was not finite; the weights are not to be kept.
    """
    minibatches = prepare_minibatches(experience, config, generator)
    device = experience.logprobs_M.device
    sums_4 = torch.zeros(4, dtype=torch.float64, device=device)
    deviation = torch.zeros((), device=device)
    norms: list[Tensor] = []
    for number, (groups, num_tokens) in enumerate(minibatches):
        for group in groups:
            terms_4, group_deviation = _backward(
                networks, experience, group, num_tokens, units=units, config=config
            )
            sums_4 = sums_4 + num_tokens * terms_4
            if number == 0:
                deviation = torch.maximum(deviation, group_deviation)
        norms += [learners.policy.step_(), learners.value.step_()]
        networks.refresh_()
    return _metrics(sums_4, deviation, norms, sum(m.num_tokens for m in minibatches))


def prepare_minibatches(
    experience: Experience, config: PPOConfig, generator: torch.Generator
) -> list[Minibatch]:
    """Return the rows of every step, packed into groups of like length."""
    rollout, kept = experience.rollout, experience.kept
    if kept is not None:
        return [Minibatch([kept.group], len(rollout.place_M))]
    return [
        Minibatch(
            groups_of(rollout, indices, tokens=config.tokens_per_microbatch),
            sum(len(rollout.rows[i].response_ids) for i in indices),
        )
        for indices in draw_minibatches(len(rollout.rows), config, generator)
    ]


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
    networks: Networks,
    experience: Experience,
    group: Group,
    num_tokens: int,
    *,
    units: Moments,
    config: PPOConfig,
) -> tuple[Tensor, Tensor]:
    """Add some rows' share of both gradients; return their share of the metrics, and max |ρ - 1|.

    The shares are of policy loss, value loss, approximate KL and clip fraction. Models with layers
    of their own go one after the other, so that one's activations are gone before the other's.
    """
    weight = float(group.is_own)
    old_M, old_values_M, advantages_M, returns_M = (part[group.token_M] for part in experience[1:5])
    logprobs_M, trunk_MD = _logprobs(networks, experience, group, config.sampling.temperature)
    losses_M = policy_losses(logprobs_M, old_M, advantages_M, clip_range=config.clip_range)
    policy_loss = token_mean(losses_M, num_tokens=num_tokens) * weight
    if not networks.is_trunk_shared:
        torch.autograd.backward(policy_loss)

    values_M = _values(networks, experience, group, units, trunk_MD)
    losses_M = value_losses(values_M, old_values_M, returns_M, clip_range=config.value_clip_range)
    value_loss = token_mean(losses_M, num_tokens=num_tokens) * weight
    loss = config.value_loss_coef * value_loss
    torch.autograd.backward(policy_loss + loss if networks.is_trunk_shared else loss)

    with torch.no_grad():
        log_ratios_M = (logprobs_M - old_M).detach()
        deviations_M = log_ratios_M.expm1()
        approx_kl = token_mean(deviations_M - log_ratios_M, num_tokens=num_tokens)
        is_clipped_M = (deviations_M.abs() > config.clip_range).float()
        clip_fraction = token_mean(is_clipped_M, num_tokens=num_tokens)
        shares_4 = torch.stack([policy_loss, value_loss, approx_kl, clip_fraction])
    return weight * shares_4.detach().double(), weight * deviations_M.abs().max()


def _logprobs(
    networks: Networks, experience: Experience, group: Group, temperature: float
) -> tuple[Tensor, Tensor | None]:
    """Return the policy's logprobs_M with gradients, and hidden_MD where the value model reads it.

    A pass that was kept has said what the value model says of it, too.
    """
    if experience.kept is not None:
        networks.as_policy(is_trained=True)  # its adapter takes gradients, no longer the value's
        return experience.kept.view.logprobs_M, None
    packed = group.packed

    def say(policy: LlamaForCausalLM, hidden_MD: Tensor) -> Tensor:
        return token_logprobs(policy, hidden_MD, packed.response_ids_M, temperature=temperature)

    return policy_pass(networks, packed, packed.before_M, say, is_trained=True)


def _values(
    networks: Networks,
    experience: Experience,
    group: Group,
    units: Moments,
    trunk_MD: Tensor | None,
) -> Tensor:
    """Return the value model's values_M with gradients."""
    if experience.kept is not None:
        networks.as_value_model(is_trained=True)
        return experience.kept.view.values_M
    packed = group.packed
    return value_pass(
        networks, packed, packed.before_M, units=units, trunk_RD=trunk_MD, is_trained=True
    )


def _metrics(
    sums_4: Tensor, deviation: Tensor, norms: list[Tensor], num_tokens: int
) -> UpdateMetrics:
    """Read what was measured from the device, all at once, over all processes."""
    all_reduce_sum_(sums_4)
    all_reduce_max_(deviation)
    values = torch.stack(norms).tolist()
    policy_norms, value_norms = values[::2], values[1::2]
    for norm in (*policy_norms, *value_norms):
        if not math.isfinite(norm):
            raise FloatingPointError(f"gradient norm {norm}; lower the learning rate")
    policy_loss, value_loss, approx_kl, clip_fraction = (sums_4 / num_tokens).tolist()
    return UpdateMetrics(
        policy_loss=policy_loss,
        value_loss=value_loss,
        approx_kl=approx_kl,
        clip_fraction=clip_fraction,
        ratio_max_deviation=float(deviation),
        grad_norm=sum(policy_norms) / len(policy_norms),
        value_grad_norm=sum(value_norms) / len(value_norms),
    )
