"""PPO as a whole: it solves what can be solved exactly, resumes bit for bit, stops when told."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from language.models import load_policy, save_model
from language.runs import RunContext, RunStopped
from language.scalars import load_scalar_model
from language.tokenizers import train_tokenizer
from policies.heldout import HeldOutLook, objective_of
from policies.ppo import ppo
from policies.ppo_progress import Progress
from policies.statistics import Moments
from records.errors import RecordError
from records.policy_configs import PPOConfig
from records.ppo_choices import KLEstimator
from records.prompts import write_prompts
from records.run_configs import OptimizerConfig, RunKind, SamplingConfig, Schedule
from records.rundirs import RunDirectory
from tests.models import TEXTS, tiny_policy, tiny_tokenizer, write_tiny_policy
from tests.policies.toys import (
    LEARNING,
    StopAfter,
    assert_equal_weights,
    create_run,
    encoded,
    metrics_of,
    prompts,
    token_scorer,
    weights_of,
    write_inputs,
)

ROLES = ("policy", "reference", "prompts", "heldout_prompts", "helpfulness", "safety")
CONFIG = PPOConfig(
    seed=5,
    device="cpu",
    num_iterations=6,
    batch_size=8,
    minibatch_size=4,
    sampling=SamplingConfig(max_new_tokens=10),
    eval_every=2,
    checkpoint_every=2,
    optimizer=replace(LEARNING, learning_rate=1e-3),
    value_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = write_inputs(tmp_path_factory.mktemp("inputs"))
    return {role: made[role] for role in ROLES}


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run from beginning to end without interruption."""
    return run(tmp_path_factory.mktemp("runs") / "whole", CONFIG, inputs)


def run(root: Path, config: PPOConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, RunKind.PPO, config, inputs)
    ppo(directory, spec, RunContext(directory, config))
    return directory


def summary_of(directory: RunDirectory) -> dict[str, Any]:
    result = directory.read_result()
    assert result is not None
    summary: dict[str, Any] = result["summary"]
    return summary


# A bandit: one prompt, responses of one token, reward 1 for some tokens and 0 for the others.


def write_bandit(folder: Path, rewarded: list[int]) -> dict[str, Path]:
    """Write a bandit whose rewarded tokens are scored higher, as a run's inputs."""
    policy = write_tiny_policy(folder / "policy", num_layers=1)
    scorer = token_scorer(rewarded, scale=1.0)
    save_model(scorer, tiny_tokenizer(), folder / "scorer")
    (prompt,) = prompts(1)
    write_prompts(folder / "prompts.jsonl", [prompt])
    write_prompts(folder / "heldout.jsonl", [replace(prompt, prompt_id=f"h{i}") for i in range(64)])
    return {
        "policy": policy,
        "reference": policy,
        "prompts": folder / "prompts.jsonl",
        "heldout_prompts": folder / "heldout.jsonl",
        "helpfulness": folder / "scorer",
        "safety": folder / "scorer",
    }


def rewarded_probability(folder: Path, rewarded: list[int]) -> float:
    """Return the probability that the policy answers the bandit's prompt by a rewarded token."""
    return float(logprobs_of_bandit(folder).exp()[rewarded].sum())


def logprobs_of_bandit(folder: Path) -> torch.Tensor:
    """Return the policy's log-probabilities of all answers to the bandit's prompt."""
    (prompt,) = encoded(*prompts(1))
    with torch.no_grad():
        logits_V = load_policy(folder)(input_ids=torch.tensor([prompt.ids])).logits[0, -1]
    return logits_V.double().log_softmax(dim=0)


BANDIT = PPOConfig(
    seed=2,
    device="cpu",
    num_iterations=40,
    batch_size=128,
    minibatch_size=64,
    sampling=SamplingConfig(max_new_tokens=1),
    truncation_penalty=0.0,
    safety_threshold=0.0,
    eval_every=40,
    checkpoint_every=1000,
    optimizer=OptimizerConfig(
        learning_rate=1e-2, schedule=Schedule.CONSTANT, weight_decay=0.0, adam_epsilon=1e-8
    ),
    value_learning_rate=1e-2,
)


def test_a_rewarded_token_becomes_almost_certain(tmp_path: Path) -> None:
    rewarded = list(range(20, 60))
    sources = write_bandit(tmp_path / "inputs", rewarded)
    assert rewarded_probability(sources["policy"], rewarded) < 0.2
    optimizer = replace(BANDIT.optimizer, learning_rate=3e-2)
    config = replace(BANDIT, num_iterations=20, eval_every=20, batch_size=64, optimizer=optimizer)
    directory = run(tmp_path / "run", config, sources)
    assert rewarded_probability(directory.outputs / "policy", rewarded) > 0.9


def test_the_kl_penalty_holds_the_policy_at_the_exact_optimum(tmp_path: Path) -> None:
    """For two classes of tokens the optimum is known.

    The whitened reward is (r - p) / sqrt(p (1 - p)) when a share p is rewarded, so the two classes
    lie 1 / sqrt(p (1 - p)) apart. The policy that maximises reward less β KL is the reference times
    exp(reward / β), so at rest logit(p) = logit(p_ref) + 1 / (β sqrt(p (1 - p))).
    """
    rewarded, beta = list(range(4, 150)), 2.0
    sources = write_bandit(tmp_path / "inputs", rewarded)
    start = rewarded_probability(sources["policy"], rewarded)
    optimum = start
    for _ in range(100):
        pull = 1 / (beta * math.sqrt(optimum * (1 - optimum)))
        optimum = 1 / (1 + math.exp(-math.log(start / (1 - start)) - pull))
    assert start + 0.1 < optimum < 0.9
    directory = run(tmp_path / "run", replace(BANDIT, kl_coef=beta), sources)
    reached = rewarded_probability(directory.outputs / "policy", rewarded)
    assert reached == pytest.approx(optimum, abs=0.05)


def test_surprise_is_the_cross_entropy_of_policy_and_reference(tmp_path: Path) -> None:
    """A response of one token surprises by -log π_0 of it: on average -Σ π log π_0."""
    rewarded = list(range(20, 60))
    sources = write_bandit(tmp_path / "inputs", rewarded)
    config = replace(BANDIT, num_iterations=10, eval_every=10)
    directory = run(tmp_path / "run", config, sources)
    looks = [row["heldout_surprise"] for row in metrics_of(directory) if "heldout_kl" in row]
    reference_V = logprobs_of_bandit(sources["reference"])
    policies = (sources["policy"], directory.outputs / "policy")
    for policy, seen in zip(policies, looks, strict=True):
        policy_V = logprobs_of_bandit(policy)
        expected = float(-(policy_V.exp() * reference_V).sum())
        # 64 responses; within four standard errors.
        variance = float((policy_V.exp() * (reference_V + expected).square()).sum())
        assert seen == pytest.approx(expected, abs=4 * math.sqrt(variance / 64))
    assert not torch.equal(logprobs_of_bandit(policies[1]), reference_V)


# The run itself.


def test_before_training_policy_and_reference_are_the_same(finished: RunDirectory) -> None:
    first, second = metrics_of(finished)[:2]
    assert first["heldout_kl"] == 0.0
    assert first["heldout_objective"] == pytest.approx(
        -CONFIG.truncation_penalty * (1 - first["heldout_finished_share"])
    )
    assert second["kl"] == 0.0


def test_every_iteration_reports_what_a_healthy_run_is_known_by(finished: RunDirectory) -> None:
    rows = metrics_of(finished)
    assert [row["step"] for row in rows] == list(range(7))
    for row in rows[1:]:
        assert row["total_steps"] == 6
        assert row["ratio_max_deviation"] < 1e-5
        assert row["sampler_gap_max"] < 1e-4
        assert row["entropy"] > 0.0
        assert 1 <= row["mean_tokens"] <= 10
        assert 0.0 <= row["finished_share"] <= 1.0
        assert 0.0 <= row["clip_fraction"] <= 1.0
        assert row["grad_norm"] > 0.0
        assert row["kl_coef"] == CONFIG.kl_coef
        assert {"reward", "helpfulness", "safety", "policy_loss", "value_loss"} <= row.keys()
        assert {"approx_kl", "explained_variance", "learning_rate"} <= row.keys()
        assert ("heldout_reward" in row) == (row["step"] % 2 == 0)
    assert rows[-1]["kl"] != 0.0


def test_each_phase_is_timed_and_stands_beside_its_floor(finished: RunDirectory) -> None:
    rows, _ = finished.read_metrics()
    phases = ("generate", "score", "reference", "logprobs", "update")
    for row in rows[1:]:
        assert {f"seconds_{phase}" for phase in phases} <= row.keys()
        assert all(0.0 < row[f"floor_share_{phase}"] < 1.0 for phase in phases)


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path, steps: int
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.PPO, CONFIG, inputs)
    with pytest.raises(RunStopped):
        ppo(directory, spec, StopAfter(directory, CONFIG, steps=steps))
    assert metrics_of(directory)[-1]["step"] == steps
    ppo(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)
    assert_equal_weights(directory.outputs / "policy", finished.outputs / "policy")
    assert_equal_weights(directory.outputs / "value", finished.outputs / "value")
    assert summary_of(directory) == summary_of(finished)


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    directory, spec = create_run(tmp_path / "run", RunKind.PPO, CONFIG, inputs)
    with pytest.raises(RunStopped):
        ppo(directory, spec, StopAfter(directory, CONFIG, steps=1))
    (directory.checkpoints / "step-00000001" / "manifest.json").unlink()
    ppo(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(finished)


def test_the_best_policy_on_held_out_prompts_is_the_output(
    inputs: dict[str, Path], finished: RunDirectory, tmp_path: Path
) -> None:
    looks = {r["step"]: r["heldout_objective"] for r in metrics_of(finished) if "heldout_kl" in r}
    summary = summary_of(finished)
    assert summary["best_objective"] == max(looks.values()) == looks[summary["best_iteration"]]
    assert ("note" in summary) == (summary["best_iteration"] == 0)
    best = finished.checkpoints / f"best-{summary['best_iteration']:08d}"
    assert_equal_weights(best, finished.outputs / "policy")
    assert [path.name for path in finished.checkpoints.glob("best-*")] == [best.name]


def test_a_run_that_only_gets_worse_stops_early_and_returns_its_start(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    # So high a rate breaks the policy: nothing on held-out prompts can be better than the start.
    config = replace(
        CONFIG,
        num_iterations=30,
        eval_every=1,
        patience=2,
        kl_coef=5.0,
        optimizer=replace(LEARNING, learning_rate=0.5),
    )
    directory = run(tmp_path / "run", config, inputs)
    summary = summary_of(directory)
    assert summary["is_stopped_early"]
    assert summary["best_iteration"] == 0
    assert "the output is the policy as it began" in summary["note"]
    assert summary["num_iterations"] == metrics_of(directory)[-1]["step"] == 2
    assert_equal_weights(inputs["policy"], directory.outputs / "policy")


def test_the_value_model_starts_from_the_helpfulness_model_and_is_an_output(
    inputs: dict[str, Path], finished: RunDirectory
) -> None:
    before, after = weights_of(inputs["helpfulness"]), weights_of(finished.outputs / "value")
    assert before.keys() == after.keys()
    assert not torch.equal(before["score.weight"], after["score.weight"])
    # Six iterations of small steps leave it near where it began; a fresh head would be far off.
    torch.testing.assert_close(after["score.weight"], before["score.weight"], atol=0.02, rtol=0)
    assert load_scalar_model(finished.outputs / "value").score.weight.shape == (1, 32)


def test_noise_trains_without_a_reward_model_being_asked(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    config = replace(CONFIG, num_iterations=2, score_function="policies.noise:load_score_fn")
    rows = metrics_of(run(tmp_path / "run", config, inputs))
    assert [row["step"] for row in rows] == [0, 1, 2]


@pytest.mark.parametrize("estimator", list(KLEstimator))
def test_the_reported_divergence_is_the_one_that_is_penalised(
    inputs: dict[str, Path], tmp_path: Path, estimator: KLEstimator
) -> None:
    config = replace(CONFIG, num_iterations=2, kl_estimator=estimator)
    last = metrics_of(run(tmp_path / "run", config, inputs))[-1]
    if estimator is KLEstimator.K1:
        assert last["kl"] != 0.0
    else:
        assert last["kl"] > 0.0


@pytest.mark.parametrize("role", ["reference", "helpfulness"])
def test_another_tokenizer_is_refused(inputs: dict[str, Path], tmp_path: Path, role: str) -> None:
    other = train_tokenizer(TEXTS, vocabulary_size=300)
    model = tiny_policy() if role == "reference" else token_scorer([5], scale=1.0)
    save_model(model, other, tmp_path / "other")
    with pytest.raises(ValueError, match=f"{role}.*train them from a policy with this tokenizer"):
        run(tmp_path / "run", CONFIG, {**inputs, role: tmp_path / "other"})


def test_an_unknown_score_function_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="score_function"):
        run(tmp_path / "run", replace(CONFIG, score_function="policies.noise:nothing"), inputs)


def test_no_prompt_is_an_error(inputs: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    write_prompts(empty, [])
    with pytest.raises(ValueError, match="heldout_prompts: no prompt is left"):
        run(tmp_path / "run", CONFIG, {**inputs, "heldout_prompts": empty})


# What the held-out prompts decide.


def test_the_objective_is_the_whitened_gain_less_penalties() -> None:
    config = replace(CONFIG, kl_coef=0.1, truncation_penalty=2.0)
    look = HeldOutLook(Moments(5.0, 9.0), kl=3.0, finished_share=0.75)
    # (5 - 1) / 2 - 2 * 0.25 - 0.1 * 3
    assert objective_of(look, Moments(1.0, 4.0), config) == pytest.approx(1.2)


def test_equal_scores_before_training_count_as_one_deviation_apart() -> None:
    look = HeldOutLook(Moments(2.0, 0.0), kl=0.0, finished_share=1.0)
    assert look.units == Moments(2.0, 1.0)


def test_progress_keeps_the_first_of_equals_and_counts_the_looks_in_vain() -> None:
    look = HeldOutLook(Moments(0.0, 1.0), 0.0, 1.0)
    better = HeldOutLook(Moments(1.0, 1.0), 0.0, 1.0)
    progress = Progress.begin(look, 0.5, 0.01)
    progress = progress.after(look, 0.5, 10)
    assert (progress.best_iteration, progress.looks_without_better) == (0, 1)
    progress = progress.after(better, 0.6, 20)
    assert (progress.best_iteration, progress.looks_without_better) == (20, 0)
    assert progress.best == better
    assert Progress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
