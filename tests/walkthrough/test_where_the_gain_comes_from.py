"""PPO gains by preferences and by nothing else: against noise it wins no more than chance."""

from pathlib import Path
from typing import Any

import pytest

from language.checkpoints import latest_checkpoint, unpack_model
from language.models import load_policy, save_model
from language.tokenizers import load_tokenizer
from records.configs import EvaluationConfig, OptimizerConfig, PPOConfig, Schedule
from records.preferences import Axis
from records.prompts import write_prompts
from records.rundirs import RunDirectory
from simulation.corpus import sample_prompts
from tests.walkthrough.sandbox import SAMPLING, SandboxModels, run_new

pytestmark = pytest.mark.slow

REWARD, NOISE = "rewardmodels.scoring:load_score_fn", "policies.noise:load_score_fn"


def write_prompt_files(folder: Path) -> dict[str, Path]:
    """Write prompts to train on, to look at meanwhile, and to judge by; no seed twice."""
    files = {}
    for seed, (name, number) in enumerate(
        {"prompts": 800, "heldout_prompts": 64, "evaluation": 500}.items()
    ):
        files[name] = folder / f"{name}.jsonl"
        write_prompts(files[name], sample_prompts(20 + seed, number, safety_share=0.25))
    return files


def true_figures_after_ppo(
    folder: Path, models: SandboxModels, score_function: str
) -> dict[str, Any]:
    """Return what the sandbox's truth says of SFT after some PPO against `score_function`."""
    folder.mkdir()
    prompts = write_prompt_files(folder)
    rewards = {axis.value: models.reward_models[axis] for axis in Axis}
    ppo = PPOConfig(
        num_iterations=24,
        batch_size=96,
        minibatch_size=24,
        sampling=SAMPLING,
        kl_coef=0.02,
        value_learning_rate=3e-4,
        eval_every=24,
        checkpoint_every=1000,
        score_function=score_function,
        optimizer=OptimizerConfig(
            learning_rate=2e-4, schedule=Schedule.CONSTANT, adam_epsilon=1e-8
        ),
    )
    inputs = {
        "policy": models.sft,
        "reference": models.sft,
        "prompts": prompts["prompts"],
        "heldout_prompts": prompts["heldout_prompts"],
        **rewards,
    }
    run_new(folder / "ppo", ppo, inputs)
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


def write_last_policy(folder: Path, models: SandboxModels) -> Path:
    """Write the policy as the last iteration left it: against noise the best is the first one."""
    policy = load_policy(models.sft)
    checkpoint = latest_checkpoint(folder / "ppo" / "checkpoints")
    assert checkpoint is not None
    unpack_model(policy, checkpoint, prefix="policy")
    save_model(policy, load_tokenizer(models.sft), folder / "last")
    return folder / "last"


def test_against_the_reward_models_the_policy_truly_improves(
    tmp_path: Path, sandbox_models: SandboxModels
) -> None:
    figures = true_figures_after_ppo(tmp_path / "run", sandbox_models, REWARD)
    assert figures["win_rate_low"] > 0.5
    assert figures["violation_rate"] < figures["baseline_violation_rate"]


def test_against_noise_the_win_rate_stays_near_one_half(
    tmp_path: Path, sandbox_models: SandboxModels
) -> None:
    figures = true_figures_after_ppo(tmp_path / "run", sandbox_models, NOISE)
    assert figures["kl"] > 0.05, "the policy has moved"
    assert figures["win_rate_low"] < 0.5
    assert figures["win_rate_high"] < 0.58
