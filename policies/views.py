"""What policy, value model and reference say of a rollout's tokens.

Shapes: B rows, M response tokens, R places of a line of packed rows that are read, D hidden.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.distributed import all_reduce_sum_
from language.logprobs import TokenStatistics, token_logprobs, token_statistics
from language.packing import PackedRows, packed_hidden
from language.scalars import head_of
from language.sharding import Policy, compute_with
from policies.networks import Networks
from policies.rollouts import Group, Rollout
from policies.statistics import Moments, standardised
from records.policy_configs import PPOConfig

Result = TypeVar("Result")


class View(NamedTuple):
    """What policy and value model say of a rollout, or of one of its groups, before any update."""

    logprobs_M: Tensor
    entropies_M: Tensor
    values_M: Tensor
    """At each response token the value of the state before it."""
    last_values_B: Tensor
    """The value of the state after the last token."""


class Kept(NamedTuple):
    """A view of all rows that kept its activations: the backward pass needs no other forward."""

    group: Group
    view: View


def policy_pass(
    networks: Networks,
    packed: PackedRows,
    places_R: Tensor,
    say: Callable[[LlamaForCausalLM, Tensor], Result],
    *,
    is_trained: bool = False,
) -> tuple[Result, Tensor | None]:
    """Return what the policy's head has to `say` of hidden_RD, and these where they are shared.

    Shared: the value model reads them too, and `value_pass` takes them.
    """

    def compute(policy: LlamaForCausalLM) -> tuple[Result, Tensor | None]:
        hidden_RD = packed_hidden(policy.model, packed, places_R)
        return say(policy, hidden_RD), hidden_RD if networks.is_trunk_shared else None

    return compute_with(networks.as_policy(is_trained=is_trained), compute)


def value_pass(
    networks: Networks,
    packed: PackedRows,
    places_R: Tensor,
    *,
    units: Moments,
    trunk_RD: Tensor | None,
    is_trained: bool = False,
) -> Tensor:
    """Return values_R of the states that end at places of the line, from `trunk_RD` or a pass.

    A model that was a reward model speaks in raw scores; rewards are whitened. `units` (mean and
    variance of the scores before training) takes the one to the other.
    """

    def compute(model: LlamaForSequenceClassification) -> Tensor:
        hidden_RD = trunk_RD
        if hidden_RD is None:
            hidden_RD = packed_hidden(model.model, packed, places_R)
        return standardised(head_of(model, hidden_RD), units)

    return compute_with(networks.as_value_model(is_trained=is_trained), compute)


@torch.no_grad()
def view_of(
    networks: Networks,
    rollout: Rollout,
    groups: Sequence[Group],
    *,
    temperature: float,
    units: Moments,
) -> View:
    """Return what policy and value model say of a rollout, from one pass where they share layers.

    Log-probabilities are at the temperature of sampling; values in the units of rewards. A
    collective: `groups` are this process's, and what is returned is of all.
    """
    views = (_view_of_group(networks, g, temperature=temperature, units=units) for g in groups)
    return _joined(rollout, groups, views)


def kept_view_of(
    networks: Networks, rollout: Rollout, group: Group, *, temperature: float, units: Moments
) -> tuple[View, Kept]:
    """Return what `view_of` returns, and the pass it is from, whose activations are kept.

    A collective; `group` are all rows of this process.
    """
    kept = _view_of_group(networks, group, temperature=temperature, units=units, is_trained=True)
    view = _joined(rollout, [group], [View(*(said.detach() for said in kept))])
    return view, Kept(group, kept)


def is_view_kept(networks: Networks, rollout: Rollout, config: PPOConfig) -> bool:
    """Return whether one pass can serve the view of a rollout and the update.

    It can where all rows are one gradient step and their activations, in every model that has
    layers of its own, are no more than `tokens_per_microbatch` allows.
    """
    num_models = 1 if networks.is_trunk_shared else 2
    num_tokens = sum(row.num_tokens for row in rollout.rows)
    return (
        config.num_epochs == 1
        and len(rollout.rows) <= config.minibatch_size
        and num_models * num_tokens <= config.tokens_per_microbatch
        and not networks.has_checkpoints
    )


@torch.no_grad()
def logprobs_of(
    model: Policy, rollout: Rollout, groups: Sequence[Group], *, temperature: float
) -> Tensor:
    """Return logprobs_M of a rollout under `model`, at the temperature of sampling; a collective.

    `groups` are this process's, and what is returned is of all.
    """

    def compute(policy: LlamaForCausalLM, packed: PackedRows) -> Tensor:
        hidden_MD = packed_hidden(policy.model, packed, packed.before_M)
        return token_logprobs(policy, hidden_MD, packed.response_ids_M, temperature=temperature)

    logprobs_M = _zeros(len(rollout.place_M), rollout)
    for packed, token_M, _, is_own in groups:
        part_M = compute_with(model, partial(compute, packed=packed))
        if is_own:
            logprobs_M.index_copy_(0, token_M, part_M)
    return all_reduce_sum_(logprobs_M)


def _view_of_group(
    networks: Networks,
    group: Group,
    *,
    temperature: float,
    units: Moments,
    is_trained: bool = False,
) -> View:
    """Return what policy and value model say before each response token, and after the last."""
    packed, num_tokens = group.packed, len(group.token_M)
    places_R = torch.cat([packed.before_M, packed.last_B])

    def say(policy: LlamaForCausalLM, hidden_RD: Tensor) -> TokenStatistics:
        return token_statistics(
            policy, hidden_RD[:num_tokens], packed.response_ids_M, temperature=temperature
        )

    said, trunk_RD = policy_pass(networks, packed, places_R, say, is_trained=is_trained)
    values_R = value_pass(
        networks, packed, places_R, units=units, trunk_RD=trunk_RD, is_trained=is_trained
    )
    return View(*said, values_R[:num_tokens], values_R[num_tokens:])


def _joined(rollout: Rollout, groups: Sequence[Group], views: Iterable[View]) -> View:
    """Return the views of this process's groups, and of the others', as one of the rollout."""
    num_tokens, num_rows = len(rollout.place_M), len(rollout.rows)
    joined = View(*(_zeros(n, rollout) for n in (num_tokens, num_tokens, num_tokens, num_rows)))
    for group, view in zip(groups, views, strict=True):
        if group.is_own:
            places = (group.token_M, group.token_M, group.token_M, group.row_B)
            for whole, place, part in zip(joined, places, view, strict=True):
                whole.index_copy_(0, place, part)
    return View(*map(all_reduce_sum_, joined))


def _zeros(count: int, rollout: Rollout) -> Tensor:
    return torch.zeros(count, device=rollout.place_M.device)
