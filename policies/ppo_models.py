"""The models of PPO, loaded and checked against each other, and the optimizers of two of them."""

import dataclasses
import math
from typing import NamedTuple

from transformers import (
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from language.models import load_policy
from language.optimizers import create_optimizer, create_schedule
from language.runs import RunContext
from language.scalars import load_scalar_model
from language.scores import ScoreFn
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.scoring import load_score_fn, refuse_other_tokenizer
from policies.updates import Learner
from records.configs import OptimizerConfig, PPOConfig, Schedule
from records.rundirs import RunSpec


class Models(NamedTuple):
    """Four models, one tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    policy: LlamaForCausalLM
    reference: LlamaForCausalLM
    """The frozen copy that the KL term is measured against."""
    value_model: LlamaForSequenceClassification
    """A network of its own, at first the helpfulness reward model, head and all."""
    score_fn: ScoreFn


def load_models(spec: RunSpec, config: PPOConfig, context: RunContext) -> Models:
    """Return the models of a run's inputs.

    Raises:
        ValueError: Their tokenizers differ.
    """
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    for role in ("reference", "helpfulness"):
        digest = tokenizer_digest(load_tokenizer(paths[role]))
        refuse_other_tokenizer(role, digest, tokenizer)
    reference = load_policy(paths["reference"], dtype=context.dtype, device=context.device)
    reference.requires_grad_(False)
    return Models(
        tokenizer=tokenizer,
        policy=load_policy(paths["policy"], dtype=context.dtype, device=context.device),
        reference=reference,
        value_model=load_scalar_model(
            paths["helpfulness"], dtype=context.dtype, device=context.device
        ),
        score_fn=load_score_fn(spec, config, tokenizer, context),
    )


def num_updates(config: PPOConfig) -> int:
    """Return how many gradient steps a run takes if it does not stop early."""
    per_epoch = math.ceil(config.batch_size / config.minibatch_size)
    return config.num_iterations * config.num_epochs * per_epoch


def create_learners(models: Models, config: PPOConfig) -> tuple[Learner, Learner]:
    """Return the learners of policy and value model: the same settings but for the rate."""
    value_config = dataclasses.replace(
        config.optimizer,
        learning_rate=config.value_learning_rate,
        schedule=Schedule.CONSTANT,
    )
    total_steps = num_updates(config)
    return (
        _learner(models.policy, config.optimizer, total_steps),
        _learner(models.value_model, value_config, total_steps),
    )


def _learner(model: PreTrainedModel, config: OptimizerConfig, total_steps: int) -> Learner:
    optimizer = create_optimizer(model, config)
    schedule = create_schedule(optimizer, config, total_steps)
    return Learner(optimizer, schedule, config.max_grad_norm)
