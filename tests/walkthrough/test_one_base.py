"""Reward models, rejection sampling and PPO, all as adapters of one base, each as a run of its own.

What each stage writes is what the next one reads; nothing here puts an adapter together by hand.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from language.kept_adapters import ADAPTER_FOLDER, read_adapter, weights_digest
from language.runs import RunContext
from policies.ppo import ppo
from policies.rejection_sampling import rejection_sampling
from records.ppo_choices import RewardNetwork
from records.preferences import Axis
from records.reward_configs import RewardModelConfig
from records.run_configs import RunConfig, RunKind
from records.rundirs import RunDirectory
from rewardmodels.training import train
from tests.policies import test_ppo, test_rejection_sampling
from tests.policies.toys import create_run, metrics_of, weights_of, write_inputs
from tests.rewardmodels.toys import LEARNING, preference, write_toy_snapshot

COMMANDS = {
    RunKind.REWARD_MODEL: train,
    RunKind.REJECTION_SAMPLING: rejection_sampling,
    RunKind.PPO: ppo,
}


def run(root: Path, kind: RunKind, config: RunConfig, inputs: dict[str, Path]) -> RunDirectory:
    directory, spec = create_run(root, kind, config, inputs)
    COMMANDS[kind](directory, spec, RunContext(directory, config))
    return directory


def reward_model_config(axis: Axis, dtype: str) -> RewardModelConfig:
    return RewardModelConfig(
        device="cpu",
        axis=axis,
        dtype=dtype,
        other_axis_share=0.0,
        pairs_per_batch=8,
        lora_rank=4,
        optimizer=LEARNING,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_chain_of_runs_on_one_base(tmp_path: Path, dtype: str) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    base = inputs["policy"]
    for axis in Axis:
        pairs = [preference(i, axis=axis) for i in range(24)]
        snapshot = write_toy_snapshot(tmp_path / f"{axis} snapshot", pairs)
        made = run(
            tmp_path / f"{axis} run",
            RunKind.REWARD_MODEL,
            reward_model_config(axis, dtype),
            {"policy": base, "snapshot": snapshot},
        )
        inputs[axis.value] = made.outputs / "reward_model"

    finetune = replace(test_rejection_sampling.CONFIG.finetune, lora_rank=2)
    sampled = run(
        tmp_path / "rejection sampling",
        RunKind.REJECTION_SAMPLING,
        replace(test_rejection_sampling.CONFIG, dtype=dtype, finetune=finetune),
        {role: inputs[role] for role in test_rejection_sampling.ROLES},
    )
    candidate = sampled.outputs / "policy"
    kept = read_adapter(candidate / ADAPTER_FOLDER)
    assert kept is not None
    assert kept.base_digest == weights_digest(base)

    config = replace(
        test_ppo.CONFIG,
        dtype=dtype,
        lora_rank=4,
        reward_network=RewardNetwork.ADAPTERS,
        num_iterations=3,
    )
    finished = run(
        tmp_path / "ppo",
        RunKind.PPO,
        config,
        {**{role: inputs[role] for role in test_ppo.ROLES}, "policy": candidate},
    )
    words = test_ppo.summary_of(finished)["networks"]
    assert words == "one base with adapters for policy, value model, helpfulness, safety"
    rows = metrics_of(finished)
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    # Sampler and trainer are one policy; what is left is rounding.
    assert all(row["ratio_max_deviation"] < 0.05 for row in rows[1:])
    before, after = weights_of(base), weights_of(finished.outputs / "policy")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(before[name].to(after[name].dtype), after[name])
    changed = "model.layers.1.mlp.down_proj.weight"
    assert not torch.equal(before[changed].to(after[changed].dtype), after[changed])
