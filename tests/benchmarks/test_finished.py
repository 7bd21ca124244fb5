"""Runs of experiments: done once, and PPO in stages is the same as PPO at a stretch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.finished import finished_run, ppo_in_stages, summary_of
from language.checkpoints import latest_checkpoint, unpack_model
from language.models import load_policy
from language.runs import RunContext
from policies.ppo import ppo
from records.policy_configs import PPOConfig, SFTConfig
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory
from tests.policies.toys import (
    LEARNING,
    create_run,
    metrics_of,
    only,
    write_inputs,
)

CONFIG = PPOConfig(
    seed=5,
    device="cpu",
    num_iterations=5,
    batch_size=4,
    minibatch_size=4,
    sampling=SamplingConfig(max_new_tokens=6),
    eval_every=2,
    checkpoint_every=2,
    optimizer=replace(LEARNING, learning_rate=1e-3),
    value_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def ppo_inputs(inputs: dict[str, Path]) -> dict[str, Path]:
    roles = ("policy", "reference", "prompts", "heldout_prompts", "helpfulness", "safety")
    return only(inputs, *roles)


def test_ppo_in_stages_yields_each_policy_of_the_uninterrupted_run(
    ppo_inputs: dict[str, Path], tmp_path: Path
) -> None:
    stages = list(ppo_in_stages(tmp_path / "stages", CONFIG, ppo_inputs))
    assert [stage.iteration for stage in stages] == [2, 4, 5]

    whole, spec = create_run(tmp_path / "whole", RunKind.PPO, CONFIG, ppo_inputs)
    ppo(whole, spec, RunContext(whole, CONFIG))
    staged = RunDirectory(tmp_path / "stages")
    assert metrics_of(staged) == metrics_of(whole)
    assert summary_of(staged) == summary_of(whole)
    checkpoint = latest_checkpoint(whole.checkpoints)
    assert checkpoint is not None
    at_a_stretch = load_policy(ppo_inputs["policy"])
    unpack_model(at_a_stretch, checkpoint, prefix="policy")
    expected = at_a_stretch.state_dict()
    staged_weights = load_policy(stages[-1].policy).state_dict()
    assert all(torch.equal(staged_weights[name], expected[name]) for name in expected)
    start = load_policy(ppo_inputs["policy"]).state_dict()
    assert any(not torch.equal(start[name], expected[name]) for name in expected)


def test_stages_that_are_there_are_told_again_without_another_run(
    ppo_inputs: dict[str, Path], tmp_path: Path
) -> None:
    stages = ppo_in_stages(tmp_path / "run", CONFIG, ppo_inputs)
    first = next(stages)
    stages.close()  # the process is cut off while the first stage is judged
    assert RunDirectory(tmp_path / "run").read_result() is None
    written_at = first.policy.stat().st_mtime_ns
    for _ in range(2):
        again = ppo_in_stages(tmp_path / "run", CONFIG, ppo_inputs)
        assert [stage.iteration for stage in again] == [2, 4, 5]
    assert first.policy.stat().st_mtime_ns == written_at


def test_a_run_is_done_again_only_with_another_config(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    used = only(inputs, "policy", "demonstrations")
    config = SFTConfig(num_epochs=1, batch_size=6, max_tokens=128, device="cpu", optimizer=LEARNING)
    first = finished_run(tmp_path / "run", config, used)
    before = (first.root / "result.json").stat().st_mtime_ns
    again = finished_run(tmp_path / "run", config, used)
    assert (again.root / "result.json").stat().st_mtime_ns == before
    other = finished_run(tmp_path / "run", replace(config, seed=1), used)
    assert (other.root / "result.json").stat().st_mtime_ns > before
    assert other.read_spec().config == replace(config, seed=1)
