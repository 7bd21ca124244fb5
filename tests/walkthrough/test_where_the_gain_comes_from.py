"""PPO gains by preferences and by nothing else: against noise it wins no more than chance."""

from pathlib import Path
from typing import Any

import pytest

from language.checkpoints import latest_checkpoint, unpack_model
from language.models import load_policy, save_model
from language.scalars import create_scalar_model
from language.tokenizers import load_tokenizer
from records.policy_configs import EvaluationConfig, PPOConfig
from records.preferences import Axis
from records.prompts import write_prompts
from records.run_configs import OptimizerConfig, Schedule
from records.rundirs import RunDirectory
from simulation.corpus import sample_prompts
from tests.walkthrough.sandbox import SAMPLING, SandboxModels, run_new

pytestmark = pytest.mark.slow

REWARD, NOISE = "rewardmodels.scoring:load_score_fn", "policies.noise:load_score_fn"


def write_prompt_files(folder: Path) -> dict[str, Path]:
    """Write prompts to train on, to look at meanwhile, and to judge by; no seed twice."""
    files = {}
    for seed, (name, number) in enumerate(
        {"prompts": 800, "heldout_prompts": 64, "evaluation": 700}.items()
    ):
        files[name] = folder / f"{name}.jsonl"
        write_prompts(files[name], sample_prompts(20 + seed, number, safety_share=0.25))
    return files


def ppo_config(score_function: str) -> PPOConfig:
    return PPOConfig(
        num_iterations=14,
        batch_size=96,
        minibatch_size=24,
        sampling=SAMPLING,
        kl_coef=0.05,
        value_learning_rate=3e-4,
        # Rambling to the token limit is punished whatever the scores say: a preference too.
        truncation_penalty=1.0 if score_function == REWARD else 0.0,
        eval_every=14,
        checkpoint_every=1000,
        score_function=score_function,
        optimizer=OptimizerConfig(
            learning_rate=1e-4, schedule=Schedule.CONSTANT, adam_epsilon=1e-8
        ),
    )


def true_figures_after_ppo(
    folder: Path, models: SandboxModels, score_function: str
) -> dict[str, Any]:
    """Return what the sandbox's truth says of SFT after some PPO against `score_function`."""
    folder.mkdir()
    prompts = write_prompt_files(folder)
    rewards = {axis.value: models.reward_models[axis] for axis in Axis}
    starts = rewards
    if score_function == NOISE:
        # The value model starts from the helpfulness reward model: what that one knows would leak
        # into the advantages until the value model has forgotten it.
        starts = dict.fromkeys(rewards, write_ignorant_model(folder, models.sft))
    inputs = {
        "policy": models.sft,
        "reference": models.sft,
        "prompts": prompts["prompts"],
        "heldout_prompts": prompts["heldout_prompts"],
        **starts,
    }
    run_new(folder / "ppo", ppo_config(score_function), inputs)
    inputs = {
        "policy": write_last_policy(folder, models),
        "baseline": models.sft,
        "reference": models.sft,
        "prompts": prompts["evaluation"],
        **rewards,
    }
    evaluation = EvaluationConfig(sampling=SAMPLING, judge="sandbox", num_examples=0)
    run_new(folder / "evaluation", evaluation, inputs)
    result = RunDirectory(folder / "evaluation").read_result()
    assert result is not None
    summary: dict[str, Any] = result["summary"]
    return summary


def write_ignorant_model(folder: Path, policy: Path) -> Path:
    """Write a reward model as it is before training: the policy with a fresh head."""
    save_model(create_scalar_model(policy, seed=0), load_tokenizer(policy), folder / "rm")
    return folder / "rm"


def write_last_policy(folder: Path, models: SandboxModels) -> Path:
    """Write the policy as the last iteration left it: against noise the best is the first one."""
    policy = load_policy(models.sft)
    checkpoint = latest_checkpoint(folder / "ppo" / "checkpoints")
    assert checkpoint is not None
    unpack_model(policy, checkpoint, prefix="policy")
    save_model(policy, load_tokenizer(models.sft), folder / "last")
    return folder / "last"


def test_against_noise_the_win_rate_stays_near_one_half(
    tmp_path: Path, sandbox_models: SandboxModels
) -> None:
    by_noise, by_preferences = (
        true_figures_after_ppo(tmp_path / name, sandbox_models, score_function)
        for name, score_function in {"noise": NOISE, "reward": REWARD}.items()
    )
    assert by_noise["kl"] > 0.5, "the policy has moved"
    assert 0.43 < by_noise["win_rate"] < 0.57
    assert by_preferences["win_rate_low"] > 0.57
    assert by_preferences["win_rate_low"] > by_noise["win_rate_high"]
    assert by_preferences["violation_rate"] < by_preferences["baseline_violation_rate"]
