"""Optimizer steps of reward models: 7B with adapters, 7B whole, and small ones against padding."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.seven_b.exactness import padded_scores
from benchmarks.seven_b.machine import Machine
from benchmarks.seven_b.work import (
    Shape,
    Size,
    draw_pairs,
    num_distinct_tokens,
    num_real_tokens,
    random_scalar_model,
    whole,
)
from language.optimizers import create_optimizer
from language.precision import enable_activation_checkpointing_
from language.training import StepLearner, create_learner, take_step_
from records.reward_configs import RewardModelConfig
from rewardmodels.data import Pair
from rewardmodels.training import PairObjective, pair_losses, weights_for

_FULL_GIGABYTES = 130.0
"""18 bytes a parameter (bfloat16 weights; float32 weights, gradients, two moments), activations."""
_RANK = 16
_PADDED_ROWS = 16


def rm_step_lora(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line on steps with adapters on a frozen bfloat16 base."""
    yield _measure(machine, size, _RANK, 4)


def rm_step_full(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line on steps that train every weight, float32 beside bfloat16."""
    if machine.is_gpu and machine.memory < _FULL_GIGABYTES and size.name != "nano":
        yield {"skipped": f"{machine.memory:.0f} GB of memory; {_FULL_GIGABYTES:.0f} are needed"}
        return
    yield _measure(machine, size, 0, 6)


def rm_small_vs_padded(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield lines on small models, packed and padded in one process; TRL is not run here."""
    for dtype in ("bfloat16", "float32"):
        for name, shape in size.small:
            pairs = draw_pairs(4 * size.pairs, shape)
            config = _config(dtype, size.pairs, 0, 16384)
            model = random_scalar_model(shape, machine.device, torch.float32)
            weights = weights_for(model, config, _dtype(dtype), machine.device)
            learner = create_learner(weights, config.optimizer, 100)
            steps = [pairs[i : i + size.pairs] for i in range(0, len(pairs), size.pairs)]
            packed = _pairs_per_second(machine, learner, steps, config)
            padded = _padded_pairs_per_second(machine, shape, dtype, steps, config)
            yield {
                "model": name,
                "dtype": dtype,
                "pairs_per_second": round(packed, 1),
                "padded_pairs_per_second": round(padded, 1),
                "ratio": round(packed / padded, 2),
                "padded": f"rows of like length, {_PADDED_ROWS} at a time, bfloat16 by autocast",
                "peer": "TRL is measured by `reward_model_training`, not here",
            }
            machine.release()


def _measure(machine: Machine, size: Size, rank: int, flops: int) -> dict[str, Any]:
    """Return figures of optimizer steps, with as large micro-batches as there is memory for."""
    dtype = torch.bfloat16
    rates = machine.rates(size.calibration)
    model = random_scalar_model(size.shape, machine.device, dtype if rank else torch.float32)
    config = _config("bfloat16", size.pairs, rank, 16384)
    weights = weights_for(model, config, dtype, machine.device)
    learner = create_learner(weights, config.optimizer, 100)
    if not rank:  # float32 weights, gradients and moments leave little room for activations
        enable_activation_checkpointing_(whole(weights.working))
    pairs = draw_pairs(size.pairs * size.steps, size.shape)
    steps = [pairs[i : i + size.pairs] for i in range(0, len(pairs), size.pairs)]
    tokens, has_checkpoints, first = _largest(machine, learner, steps[0], config)
    config = _config("bfloat16", size.pairs, rank, tokens)
    timings = [_step_seconds(machine, learner, step, config) for step in steps]
    seconds = sum(timings) / len(timings)
    distinct = num_distinct_tokens(pairs) / len(steps)
    forward = size.shape.layer_flops(distinct, 2 * size.pairs)
    floor = flops / 2 * forward / rates.bf16
    if not rank:
        floor += 28 * size.shape.matrix_parameters / rates.copy
    return {
        "pairs_per_batch": size.pairs,
        "lora_rank": rank,
        "seconds_per_step": round(seconds, 4),
        "steps": [round(t, 4) for t in timings],
        "first_step_seconds": round(first, 2),
        "pairs_per_second": round(size.pairs / seconds, 2),
        "tokens_per_second": round(num_real_tokens(pairs) / len(steps) / seconds, 1),
        "distinct_tokens_per_second": round(distinct / seconds, 1),
        "distinct_tokens_per_step": round(distinct, 1),
        "tokens_per_microbatch": tokens,
        "checkpoint_activations": has_checkpoints,
        "peak_gigabytes": machine.peak_gigabytes(),
        "floor_seconds": round(floor, 4),
        "floor_share": round(floor / seconds, 3),
        "floor": f"{flops} FLOP per matrix parameter and distinct token over the bfloat16 rate"
        + ("" if rank else "; 28 bytes a parameter for AdamW over the copy's rate"),
        "rate_tflops": round(rates.bf16 / 1e12, 1),
    }


def _config(dtype: str, pairs: int, rank: int, tokens: int) -> RewardModelConfig:
    return RewardModelConfig(
        dtype=dtype, pairs_per_batch=pairs, lora_rank=rank, tokens_per_microbatch=tokens
    )


def _dtype(name: str) -> torch.dtype:
    return torch.float32 if name == "float32" else torch.bfloat16


def _largest(
    machine: Machine, learner: StepLearner, step: Sequence[Pair], config: RewardModelConfig
) -> tuple[int, bool, float]:
    """Return the largest micro-batch that there is memory for, and how long its first step took.

    Activations are computed again in the backward pass where a small one does not fit either.
    """
    tokens, has_checkpoints = config.tokens_per_microbatch, not config.lora_rank
    while True:
        bounded = _config(config.dtype, config.pairs_per_batch, config.lora_rank, tokens)
        try:
            return tokens, has_checkpoints, _step_seconds(machine, learner, step, bounded)
        except torch.OutOfMemoryError:
            learner.optimizer.zero_grad(set_to_none=True)
        machine.release()
        if tokens <= 4096 and not has_checkpoints:
            enable_activation_checkpointing_(whole(learner.weights.working))
            tokens, has_checkpoints = config.tokens_per_microbatch, True
        elif tokens > 1024:
            tokens //= 2
        else:
            raise RuntimeError(f"{tokens} tokens do not fit into {machine.memory:.0f} GB")


def _step_seconds(
    machine: Machine, learner: StepLearner, step: Sequence[Pair], config: RewardModelConfig
) -> float:
    objective = PairObjective(config, machine.device)
    return machine.seconds(lambda: take_step_(learner, step, objective, config=config, step=1))


def _pairs_per_second(
    machine: Machine,
    learner: StepLearner,
    steps: Sequence[Sequence[Pair]],
    config: RewardModelConfig,
) -> float:
    _step_seconds(machine, learner, steps[0], config)
    seconds = sum(_step_seconds(machine, learner, step, config) for step in steps)
    return sum(map(len, steps)) / seconds


def _padded_pairs_per_second(
    machine: Machine,
    shape: Shape,
    dtype: str,
    steps: Sequence[Sequence[Pair]],
    config: RewardModelConfig,
) -> float:
    """Return what the same model reaches in padded rows of like length, under autocast."""
    model = random_scalar_model(shape, machine.device, torch.float32)
    optimizer = create_optimizer(model, config.optimizer)

    def take(step: Sequence[Pair]) -> None:
        pairs = sorted(step, key=lambda pair: pair.num_tokens)
        for start in range(0, len(pairs), _PADDED_ROWS // 2):
            part = pairs[start : start + _PADDED_ROWS // 2]
            rows = [pair.chosen for pair in part] + [pair.rejected for pair in part]
            kind, is_on = machine.device.type, dtype == "bfloat16"
            with torch.autocast(kind, torch.bfloat16, enabled=is_on):
                scores_2N = padded_scores(model, rows)
            chosen_N, rejected_N = scores_2N.chunk(2)
            losses_N = pair_losses(chosen_N, rejected_N, part, config)
            torch.autograd.backward(losses_N.sum() / len(step))
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    # Kernels are chosen anew for each shape of a padded batch: all are met once before.
    for step in steps:
        take(step)
    seconds = sum(machine.seconds(partial(take, step)) for step in steps)
    return sum(map(len, steps)) / seconds
