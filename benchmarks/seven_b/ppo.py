"""An iteration of PPO at 7B with adapters: one base for policy, reference and value model."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import LlamaForCausalLM

from benchmarks.best_of_k import end_often_
from benchmarks.seven_b.machine import GIGA, Machine, Rates
from benchmarks.seven_b.sampling import decode_floor
from benchmarks.seven_b.work import (
    EOS_ID,
    Shape,
    Size,
    draw_prompts,
    random_policy,
    random_scalar_model,
    whole,
)
from language.engines import LocalEngine
from language.kept_adapters import AdapterWeights
from language.scores import ScoreFn
from policies.encoding import EncodedPrompt
from policies.footprint import footprint_of
from policies.heldout import HeldOutLook
from policies.iterations import Iteration, Stopwatch, iterate_
from policies.networks import Networks, adapter_networks
from policies.phase_floors import Amount, Passes, phase_flops
from policies.ppo_models import create_learners
from policies.ppo_progress import Progress
from policies.reward_adapters import NetworkScorer
from policies.statistics import Moments
from records.dialogues import Dialogue
from records.policy_configs import PPOConfig
from records.preferences import Axis
from records.prompts import Prompt
from records.run_configs import SamplingConfig
from rewardmodels.scoring import RewardScorer

_RANK, _ALPHA, _MAX_PROMPT = 16, 32, 512
_SMALL_CARD = 24.0
"""GiB."""
_PHASES = ("generate", "score", "reference", "logprobs", "update")


def ppo_iteration_lora(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line for each of two iterations: the first pays for compilation and allocation."""
    config, networks = _config(machine, size), _networks(machine, size)
    yield from _iterations(machine, size, config, networks, _score_fn(machine, size))


def ppo_iteration_one_base(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield the same with the reward models on the one base, in the memory of a card of 24 GiB.

    No more is to be had while it runs; `held_gigabytes` is what is there without activations.
    """
    config = dataclasses.replace(
        _config(machine, size),
        minibatch_size=16,
        rows_per_batch=16,
        tokens_per_microbatch=2048,
        checkpoint_activations=True,
    )
    with machine.only(_SMALL_CARD):
        networks = _one_base(machine, size)
        scorer = NetworkScorer(networks, tokenizer_digest="", rows_per_batch=config.rows_per_batch)
        held = round(footprint_of(networks).total / GIGA, 2)
        for line in _iterations(machine, size, config, networks, scorer):
            yield {**line, "held_gigabytes": held, "allowed_gibibytes": _SMALL_CARD}


def _iterations(
    machine: Machine, size: Size, config: PPOConfig, networks: Networks, score_fn: ScoreFn
) -> Iterator[dict[str, Any]]:
    learners = create_learners(networks, config)
    look = HeldOutLook(Moments(0.0, 1.0), 0.0, 1.0)
    progress = Progress.begin(look, 0.0, config.kl_coef)
    prompts = _prompts(2 * size.ppo_prompts, size.shape)
    generator = torch.Generator().manual_seed(0)
    for number in range(2):
        machine.wait()
        watch, first = Stopwatch(), number * size.ppo_prompts
        done = iterate_(
            LocalEngine(whole(networks.as_policy())),
            networks,
            learners,
            score_fn,
            prompts[first : first + size.ppo_prompts],
            list(range(first, first + size.ppo_prompts)),
            progress,
            config=config,
            eos_id=EOS_ID,
            generator=generator,
            watch=watch,
        )
        progress = done.progress
        kind = "warm-up" if number == 0 else "measured"
        yield {"iteration": kind, **_figures(machine, size, config, done, watch)}


def _config(machine: Machine, size: Size) -> PPOConfig:
    return PPOConfig(
        dtype="bfloat16",
        num_iterations=2,
        batch_size=size.ppo_prompts,
        minibatch_size=64,
        lora_rank=_RANK,
        lora_alpha=_ALPHA,
        tokens_per_microbatch=8192 if machine.memory > 100.0 else 4096,
        sampling=SamplingConfig(max_new_tokens=size.new_tokens),
    )


def _networks(machine: Machine, size: Size) -> Networks:
    base = random_policy(size.shape, machine.device, torch.bfloat16)
    end_often_(base, EOS_ID, size.mean_new_tokens)
    return adapter_networks(base, rank=_RANK, alpha=_ALPHA, seed=0, dtype=torch.bfloat16)


def _one_base(machine: Machine, size: Size) -> Networks:
    """Return networks with both reward models as adapters, the value model begun as one of them."""
    base = random_policy(size.shape, machine.device, torch.bfloat16)
    end_often_(base, EOS_ID, size.mean_new_tokens)
    models = {axis.value: _random_adapter(base, seed) for seed, axis in enumerate(Axis, start=1)}
    return adapter_networks(
        base,
        rank=_RANK,
        alpha=_ALPHA,
        seed=0,
        value_start=models[Axis.HELPFULNESS.value],
        reward_models=models,
        dtype=torch.bfloat16,
        checkpoint_activations=True,
    )


def _random_adapter(base: LlamaForCausalLM, seed: int) -> AdapterWeights:
    """Return what training on `base` might keep of a reward model, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"score.weight": (1, base.config.hidden_size)}
    for path, module in base.model.named_modules():
        if isinstance(module, nn.Linear):
            shapes[f"model.{path}.lora_A.weight"] = (_RANK, module.in_features)
            shapes[f"model.{path}.lora_B.weight"] = (module.out_features, _RANK)
    tensors = {path: 0.01 * torch.randn(s, generator=generator) for path, s in shapes.items()}
    return AdapterWeights(tensors, _RANK, _ALPHA)


def _score_fn(machine: Machine, size: Size) -> ScoreFn:
    """Return the two reward models as whole models beside the base."""
    models = {
        axis: random_scalar_model(size.shape, machine.device, torch.bfloat16, seed=seed)
        for seed, axis in enumerate(Axis, start=1)
    }
    handed_out = {axis: partial(models.__getitem__, axis) for axis in models}
    return RewardScorer(handed_out, tokenizer_digest="", rows_per_batch=32)


def _prompts(count: int, shape: Shape) -> list[EncodedPrompt]:
    ids = draw_prompts(count, shape, seed=5)
    return [
        EncodedPrompt(
            Prompt(
                prompt_id=str(number),
                dialogue=Dialogue.from_texts("prompt"),
                is_safety=number % 2 == 0,
            ),
            prompt[:_MAX_PROMPT],
        )
        for number, prompt in enumerate(ids)
    ]


def _figures(
    machine: Machine, size: Size, config: PPOConfig, done: Iteration, watch: Stopwatch
) -> dict[str, Any]:
    rollout = done.rollout
    seconds = {phase: watch.laps[f"seconds_{phase}"] for phase in _PHASES}
    total = sum(seconds.values())
    floors = _floors(size.shape, machine.rates(size.calibration), config, done)
    num_tokens = sum(row.num_tokens for row in rollout.rows)
    gap_M = (done.experience.logprobs_M - rollout.sampler_logprobs_M).abs()
    return {
        "prompts": len(rollout.rows),
        "prompt_tokens": sum(len(row.prompt_ids) for row in rollout.rows),
        "response_tokens": len(rollout.place_M),
        "longest_response": int(rollout.response_mask_BR.shape[1]),
        "seconds": round(total, 3),
        "phases": seconds,
        "tokens_per_second": round(num_tokens / total, 1),
        "floor_seconds": {phase: round(s, 4) for phase, s in floors.items()},
        "floor_shares": {
            **{phase: round(floors[phase] / seconds[phase], 3) for phase in _PHASES},
            "all": round(sum(floors.values()) / total, 3),
        },
        "floor": "2 FLOP per matrix parameter, token and pass, 4 where an adapter is trained, at "
        "the bfloat16 rate; sampling as in best_of_k",
        "tokens_per_microbatch": config.tokens_per_microbatch,
        "sampler_gap_max": float(gap_M.max()),
        "ratio_max_deviation": done.update.ratio_max_deviation,
        "grad_norms": [done.update.grad_norm, done.update.value_grad_norm],
        "peak_gigabytes": machine.peak_gigabytes(),
    }


def _floors(shape: Shape, rates: Rates, config: PPOConfig, done: Iteration) -> dict[str, float]:
    """Return the least seconds of each phase."""
    lengths = [len(row.response_ids) for row in done.rollout.rows]
    prompts = [len(row.prompt_ids) for row in done.rollout.rows]
    sizes = shape.as_config()
    passes = Passes(sizes, sizes, [sizes] * len(Axis), is_base_frozen=True)
    amount = Amount(sum(lengths) + sum(prompts), sum(lengths), len(lengths))
    is_kept = done.experience.kept is not None
    flops = phase_flops(passes, amount, num_epochs=config.num_epochs, is_view_kept=is_kept)
    floors = {phase: count / rates.bf16 for phase, count in flops.items()}
    return {**floors, "generate": decode_floor(shape, rates, prompts, lengths, 1)}
