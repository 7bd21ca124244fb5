"""The networks of PPO in their three arrangements.

Separate: policy, value model and reference have layers of their own. Shared: the value model is a
head on the policy's layers. Adapters (LoRA): one base with an adapter for the policy, one for the
value model and, where they were trained as adapters of this base, one for each reward model; the
reference is the base with its adapters off.

Several processes cut networks that are separate between them (FSDP2); shared ones and adapters each
holds whole, and gradients are added up. Either way a pass is for all processes together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.adapters import add_adapters_, use_adapter_
from language.kept_adapters import AdapterWeights, load_adapter_
from language.precision import MixedWeights, cast_parameters_, enable_activation_checkpointing_
from language.scalars import Scorer, share_trunk
from language.sharding import Policy, ShardedModel, Weights
from policies.statistics import Moments

Model = TypeVar("Model", bound=nn.Module)

POLICY, VALUE = "policy", "value"
"""The names of the adapters."""
WHITE = Moments(0.0, 1.0)
"""The units of a value model that speaks of whitened rewards from the start."""


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Policy, value model and reference, as they compute, and the weights that are trained."""

    policy: Policy
    value_model: Scorer
    reference: Policy
    """The frozen policy that the KL term is measured against."""
    policy_parameters: Mapping[str, nn.Parameter]
    """What the policy's optimizer moves, float32."""
    value_parameters: Mapping[str, nn.Parameter]
    """What the value model's optimizer moves, float32."""
    is_trunk_shared: bool = False
    """Whether policy and value model read the same hidden states."""
    has_adapters: bool = False
    is_value_raw: bool = True
    """Whether the value model starts from a reward model, and so speaks in raw scores."""
    has_checkpoints: bool = False
    """Whether activations are computed again in the backward pass."""
    weights: Sequence[Weights[Any]] = field(default=())
    """Those of full models, in both precisions."""
    reward_models: Mapping[str, Scorer] = field(default_factory=dict)
    """The reward models that are frozen adapters of the base, by the name of their adapter, or that
    are cut over the processes, by their role."""

    def as_policy(self, *, is_trained: bool = False) -> Policy:
        """Return the policy, ready for a pass; `is_trained` where a backward pass follows."""
        return self._with(self.policy, POLICY, is_trained)

    def as_reference(self) -> Policy:
        """Return the reference, ready for a pass."""
        return self._with(self.reference, None, is_trained=False)

    def as_value_model(self, *, is_trained: bool = False) -> Scorer:
        """Return the value model, ready for a pass; `is_trained` where a backward pass follows."""
        return self._with(self.value_model, self.value_adapter, is_trained)

    def as_reward_model(self, name: str) -> Scorer:
        """Return the reward model `name` of `reward_models`, ready for a pass."""
        return self._with(self.reward_models[name], name, is_trained=False)

    @property
    def value_adapter(self) -> str:
        """The name of the adapter that the value model reads, where there are adapters."""
        return POLICY if self.is_trunk_shared else VALUE

    def value_units(self, start: Moments) -> Moments:
        """Return the units of the value model's scalars; `start` are those of raw scores."""
        return start if self.is_value_raw else WHITE

    def refresh_(self) -> None:
        """Hand changed float32 weights on to the copies that compute."""
        for weights in self.weights:
            weights.refresh_()

    def _with(self, model: Model, adapter: str | None, is_trained: bool) -> Model:
        if self.has_checkpoints:
            # Transformers checkpoints in training mode, in which it fills no cache for sampling.
            nn.Module.train(model, is_trained)
        if self.has_adapters:
            assert not isinstance(self.policy, ShardedModel), "a base of adapters is whole"
            is_frozen = adapter in self.reward_models
            use_adapter_(self.policy.model, adapter, is_frozen=is_frozen)
        return model


def separate_networks(
    policy: Weights[LlamaForCausalLM],
    value_model: Weights[LlamaForSequenceClassification],
    reference: Policy,
    *,
    reward_models: Mapping[str, Scorer] | None = None,
    has_checkpoints: bool = False,
) -> Networks:
    """Return networks with layers of their own, each whole or cut over the processes."""
    return Networks(
        policy=policy.working,
        value_model=value_model.working,
        reference=reference,
        has_checkpoints=has_checkpoints,
        policy_parameters=dict(policy.master.named_parameters()),
        value_parameters=dict(value_model.master.named_parameters()),
        weights=(policy, value_model),
        reward_models=reward_models or {},
    )


def shared_networks(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    *,
    dtype: torch.dtype = torch.float32,
    checkpoint_activations: bool = False,
) -> Networks:
    """Return a policy with a value head on its own layers, and the reference."""
    weights = MixedWeights(policy, dtype)
    value_model = share_trunk(weights.working)
    if checkpoint_activations:
        enable_activation_checkpointing_(weights.working)
    return Networks(
        policy=weights.working,
        value_model=value_model,
        reference=reference,
        has_checkpoints=checkpoint_activations,
        policy_parameters=dict(weights.master.named_parameters()),
        value_parameters=_head_parameters(value_model),
        is_trunk_shared=True,
        is_value_raw=False,
        weights=(weights,),
    )


def adapter_networks(
    base: LlamaForCausalLM,
    *,
    rank: int,
    alpha: int,
    seed: int,
    is_trunk_shared: bool = False,
    policy_start: AdapterWeights | None = None,
    value_start: AdapterWeights | None = None,
    reward_models: Mapping[str, AdapterWeights] | None = None,
    dtype: torch.dtype = torch.float32,
    checkpoint_activations: bool = False,
) -> Networks:
    """Return networks on one frozen base, which with its adapters off is the reference.

    Adapters are float32. The policy's starts as `policy_start`, what the base was fine-tuned by, or
    as one that changes nothing. With a shared trunk the value head reads the policy's adapter and
    says 0, else the value model has an adapter of its own: it starts as `value_start`, a reward
    model of this base, or as one that changes nothing under a head that says 0. `reward_models` are
    further adapters of the base, which stay as they are.

    Raises:
        ValueError: A reward model's adapter was made for a base of another shape.
    """
    cast_parameters_(base, dtype)
    value_start = None if is_trunk_shared else value_start
    starts = {POLICY: policy_start} | ({} if is_trunk_shared else {VALUE: value_start})
    for offset, (name, start) in enumerate(starts.items()):
        if start is not None:
            load_adapter_(base.model, start, name=name)
        else:
            add_adapters_(base.model, rank=rank, alpha=alpha, seed=seed + offset, name=name)
    frozen = {
        name: _reward_model(base, name, weights) for name, weights in (reward_models or {}).items()
    }
    base.requires_grad_(False)
    value_model = share_trunk(base)
    if value_start is not None:
        _set_head_(value_model, value_start)
    if checkpoint_activations:
        enable_activation_checkpointing_(base)
    adapters = {name: parameter for name, parameter in base.named_parameters() if "lora_" in name}
    own = {n: {k: p for k, p in adapters.items() if f".{n}." in k} for n in (POLICY, VALUE)}
    for parameter in (*own[POLICY].values(), *own[VALUE].values()):
        parameter.requires_grad_(True)
    return Networks(
        policy=base,
        value_model=value_model,
        reference=base,
        has_checkpoints=checkpoint_activations,
        policy_parameters=own[POLICY],
        value_parameters={**own[VALUE], **_head_parameters(value_model)},
        is_trunk_shared=is_trunk_shared,
        has_adapters=True,
        is_value_raw=value_start is not None,
        reward_models=frozen,
    )


def _reward_model(
    base: LlamaForCausalLM, name: str, weights: AdapterWeights
) -> LlamaForSequenceClassification:
    """Put a reward model's adapter on `base` and return its head on the base's layers."""
    load_adapter_(base.model, weights, name=name)
    model = share_trunk(base)
    _set_head_(model, weights)
    model.score.requires_grad_(False)
    return model


def _set_head_(model: LlamaForSequenceClassification, weights: AdapterWeights) -> None:
    with torch.no_grad():
        model.score.weight.copy_(weights.head)


def _head_parameters(model: LlamaForSequenceClassification) -> dict[str, nn.Parameter]:
    return {f"score.{name}": parameter for name, parameter in model.score.named_parameters()}
