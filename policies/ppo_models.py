"""The models of PPO, loaded and checked against each other, and the optimizers of two of them."""

import dataclasses
import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn
from transformers import PreTrainedTokenizerBase

from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    read_adapter,
    refuse_other_base,
    weights_digest,
)
from language.models import load_policy
from language.monitors import Monitor, load_monitor
from language.optimizers import create_optimizer, create_schedule
from language.runs import RunContext
from language.scalars import Scorer, load_scalar_model
from language.scores import ScoreFn
from language.sharding import weights_of, whole_or_cut
from language.shared_engines import SharedEngine, open_shared_engine
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.footprint import footprint_of
from policies.networks import Networks, adapter_networks, separate_networks, shared_networks
from policies.reward_adapters import (
    OWN_SCORE_FUNCTION,
    RewardAdapters,
    find_reward_adapters,
    network_scorer,
)
from policies.scoring import SharedScorer, load_score_fn, refuse_other_tokenizer, shared_monitor
from policies.updates import Learner, Learners
from records.policy_configs import PPOConfig
from records.ppo_choices import ValueNetwork
from records.preferences import Axis
from records.run_configs import GENERAL, OptimizerConfig, Schedule
from records.rundirs import RunSpec

logger = logging.getLogger(__name__)


class Models(NamedTuple):
    """All that a run computes with."""

    tokenizer: PreTrainedTokenizerBase
    networks: Networks
    score_fn: ScoreFn
    monitor: Monitor | None
    """The general reward model: never optimised against, it only watches."""
    arrangement: str
    """Which of them share layers, and why no more of them do; a sentence."""
    engine: SharedEngine
    """Samples: this process, or a server that is handed the policy's weights."""
    name: str
    """The run's, under which a server is told the weights' versions."""

    def engine_after(self, iteration: int) -> SharedEngine:
        """Return the engine with the weights of the policy as it stands after `iteration`."""
        self.engine.take_weights(self.networks.as_policy(), f"{self.name}-{iteration}")
        return self.engine


def load_models(spec: RunSpec, config: PPOConfig, context: RunContext, *, name: str) -> Models:
    """Return the models of the run called `name`, and say in the log how they are arranged.

    Raises:
        ValueError: Their tokenizers differ, an adapter has no common base, the config insists on
            reward models as adapters of the base, and one of them is none, or a model whose head is
            its embedding would have to be cut over several processes.
        ServerError: The engine is a server that cannot be used; says why.
    """
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    for role in ("reference", "helpfulness"):
        digest = tokenizer_digest(load_tokenizer(paths[role]))
        refuse_other_tokenizer(role, digest, tokenizer)
    found = start = None
    if config.lora_rank:
        base_digest = weights_digest(paths["reference"])
        start = _policy_start(spec, base_digest)
        found = find_reward_adapters(paths, base_digest, config)
    networks = _load_networks(spec, config, context, found, start)
    arrangement = _description(networks, found, context)
    gigabytes = footprint_of(networks).total / 1e9
    if context.is_main:
        words = "networks: %s; %.2f GB of weights, gradients and moments"
        logger.info(words, arrangement, gigabytes)
    score_fn = _score_fn(spec, config, context, tokenizer, networks)
    monitor = _monitor(spec, config, context, tokenizer, networks, score_fn)
    return Models(
        tokenizer=tokenizer,
        networks=networks,
        score_fn=SharedScorer(score_fn),
        monitor=None if monitor is None else shared_monitor(monitor),
        arrangement=arrangement,
        engine=open_shared_engine(
            config.engine,
            networks.as_policy(),
            tokenizer,
            version=f"{name}-start",
            path=paths["policy"],
        ),
        name=name,
    )


def num_updates(config: PPOConfig) -> int:
    """Return how many gradient steps a run takes if it does not stop early."""
    per_epoch = math.ceil(config.batch_size / config.minibatch_size)
    return config.num_iterations * config.num_epochs * per_epoch


def create_learners(networks: Networks, config: PPOConfig) -> Learners:
    """Return the learners of policy and value model: the same settings but for the rate."""
    value_config = dataclasses.replace(
        config.optimizer,
        learning_rate=config.value_learning_rate,
        schedule=Schedule.CONSTANT,
    )
    total_steps = num_updates(config)
    return Learners(
        _learner(networks.policy_parameters, config.optimizer, total_steps),
        _learner(networks.value_parameters, value_config, total_steps),
    )


def _learner(
    parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, total_steps: int
) -> Learner:
    trained = nn.ParameterList(parameters.values())
    trained.requires_grad_(True)  # adapters that are not in use just now take no gradients
    optimizer = create_optimizer(trained, config)
    schedule = create_schedule(optimizer, config, total_steps)
    return Learner(optimizer, schedule, config.max_grad_norm)


def _score_fn(
    spec: RunSpec,
    config: PPOConfig,
    context: RunContext,
    tokenizer: PreTrainedTokenizerBase,
    networks: Networks,
) -> ScoreFn:
    """Return what scores responses: the networks' reward models if they have them, else others."""
    if Axis.HELPFULNESS.value not in networks.reward_models:
        return load_score_fn(spec, config, tokenizer, context)
    paths = {role: item.path for role, item in spec.inputs.items()}
    return network_scorer(networks, paths, tokenizer, rows_per_batch=config.rows_per_batch)


def _monitor(
    spec: RunSpec,
    config: PPOConfig,
    context: RunContext,
    tokenizer: PreTrainedTokenizerBase,
    networks: Networks,
    score_fn: ScoreFn,
) -> Monitor | None:
    """Return the run's monitor, if any: held by the networks, beside `score_fn`, or by itself."""
    paths = {role: item.path for role, item in spec.inputs.items()}
    beside = score_fn
    if GENERAL in networks.reward_models:
        beside = network_scorer(networks, paths, tokenizer, rows_per_batch=config.rows_per_batch)
    return load_monitor(
        paths,
        tokenizer,
        device=context.device,
        dtype=context.dtype,
        rows_per_batch=config.rows_per_batch,
        beside=beside,
    )


def _policy_start(spec: RunSpec, base_digest: str) -> AdapterWeights | None:
    """Return the adapter of the reference that the policy is; None where it is the reference.

    Raises:
        ValueError: The policy is neither; it says what to do.
    """
    policy, reference = spec.inputs["policy"], spec.inputs["reference"]
    if policy.digest == reference.digest:
        return None
    kept = read_adapter(policy.path / ADAPTER_FOLDER)
    if kept is None:
        raise ValueError(
            "lora_rank: with adapters the reference is the policy with its adapters off, so "
            "`policy` and `reference` must be the same, or `policy` fine-tuned from `reference` "
            "with lora_rank above 0; set lora_rank to 0 or ppo_reference to start"
        )
    refuse_other_base("policy", kept, base_digest)
    return kept.weights


def _description(networks: Networks, found: RewardAdapters | None, context: RunContext) -> str:
    """Return how the networks are arranged, in a sentence."""
    several = f"{context.world_size} processes"
    if found is not None:
        text = found.describe(is_trunk_shared=networks.is_trunk_shared)
    elif networks.is_trunk_shared:
        text = "policy with a value head on its layers; reference and reward models beside it"
    elif Axis.HELPFULNESS.value in networks.reward_models:
        return f"policy, value model, reference and reward models are cut over {several}"
    elif context.world_size > 1:
        text = f"policy, value model and reference are cut over {several}, what scores is whole"
    else:
        text = "policy, value model, reference and reward models have layers of their own"
    return text if context.world_size == 1 else f"{text}, in each of {several}"


def _load_networks(
    spec: RunSpec,
    config: PPOConfig,
    context: RunContext,
    found: RewardAdapters | None,
    start: AdapterWeights | None,
) -> Networks:
    """Return the networks in the arrangement that the config asks for.

    Trained weights are read in float32, which they are trained in; the others as they compute.
    """
    paths = {role: item.path for role, item in spec.inputs.items()}
    is_shared = config.value_network is ValueNetwork.SHARED
    dtype, checkpoint_activations = context.dtype, config.checkpoint_activations
    if found is not None:
        base = load_policy(paths["reference"], dtype=dtype, device=context.device)
        return adapter_networks(
            base,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            seed=config.seed,
            is_trunk_shared=is_shared,
            policy_start=start,
            value_start=found.helpfulness,
            reward_models=found.shared,
            dtype=dtype,
            checkpoint_activations=checkpoint_activations,
        )
    if not is_shared:
        return _load_separate(paths, config, context)
    policy = load_policy(paths["policy"], device=context.device)
    reference = load_policy(paths["reference"], dtype=dtype, device=context.device)
    reference.requires_grad_(False)
    return shared_networks(
        policy, reference, dtype=dtype, checkpoint_activations=checkpoint_activations
    )


def _load_separate(paths: Mapping[str, Path], config: PPOConfig, context: RunContext) -> Networks:
    """Return networks with layers of their own, cut over the processes where there are several.

    One after the other: what is to be cut waits whole in the main process's memory.
    """
    dtype, device, loading = context.dtype, context.device, context.loading_device
    has_checkpoints = config.checkpoint_activations
    trained = partial(
        weights_of, dtype=dtype, device=device, checkpoint_activations=has_checkpoints
    )
    policy = trained(load_policy(paths["policy"], device=loading))
    value_model = trained(load_scalar_model(paths["helpfulness"], device=loading))
    reference = load_policy(paths["reference"], dtype=dtype, device=loading)
    return separate_networks(
        policy,
        value_model,
        whole_or_cut(reference, dtype, device),
        reward_models=_cut_reward_models(paths, config, context),
        has_checkpoints=has_checkpoints,
    )


def _cut_reward_models(
    paths: Mapping[str, Path], config: PPOConfig, context: RunContext
) -> dict[str, Scorer]:
    """Return the reward models that several processes cut between them, by role.

    Not those of another score function: it loads them, and each process holds what it loads.
    """
    if context.world_size == 1:
        return {}
    dtype = context.dtype
    axes = [axis.value for axis in Axis] if config.score_function == OWN_SCORE_FUNCTION else []
    roles = [*axes, *([GENERAL] if GENERAL in paths else [])]
    models: dict[Path, Scorer] = {}
    for path in (paths[role] for role in roles):
        if path not in models:
            model = load_scalar_model(path, dtype=dtype, device=context.loading_device)
            models[path] = whole_or_cut(model, dtype, context.device)
    return {role: models[paths[role]] for role in roles}
