"""What PPO's config offers beyond its defaults: each choice runs, resumes and does what it says."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from language.models import load_policy, save_model
from language.runs import RunContext, RunStopped
from language.scalars import load_scalar_model
from language.tokenizers import train_tokenizer
from policies.ppo import ppo
from records.policy_configs import PPOConfig
from records.ppo_choices import (
    AlarmConfig,
    KLEstimator,
    KLScope,
    TruncationRule,
    ValueNetwork,
    WhitenScope,
)
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from tests.models import TEXTS
from tests.policies.test_ppo import CONFIG, ROLES, run, summary_of
from tests.policies.toys import (
    StopAfter,
    assert_equal_weights,
    create_run,
    metrics_of,
    run_ppo,
    token_scorer,
    weights_of,
    write_inputs,
    write_reward_model,
)

CHOICES = {
    "controllers": replace(
        CONFIG,
        kl_target=0.5,
        kl_gain=1.0,
        whiten_scope=WhitenScope.RUNNING,
        truncation=TruncationRule.BOOTSTRAP,
        has_whitened_advantages=False,
    ),
    "shared": replace(
        CONFIG,
        value_network=ValueNetwork.SHARED,
        kl_estimator=KLEstimator.K3,
        kl_scope=KLScope.SEQUENCE,
        truncation=TruncationRule.REPLACE,
        whiten_scope=WhitenScope.START,
    ),
    "adapters": replace(CONFIG, lora_rank=4),
    "adapters, shared": replace(CONFIG, lora_rank=4, value_network=ValueNetwork.SHARED),
    "bfloat16": replace(CONFIG, dtype="bfloat16"),
    "recomputed": replace(
        CONFIG, checkpoint_activations=True, value_network=ValueNetwork.SHARED, lora_rank=2
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    made = write_inputs(folder)
    general = write_reward_model(folder / "general", made["policy"], seed=3)
    return {**{role: made[role] for role in ROLES}, "general": general}


@pytest.mark.parametrize("name", list(CHOICES))
def test_every_choice_resumes_bit_for_bit(
    inputs: dict[str, Path], tmp_path: Path, name: str
) -> None:
    config = CHOICES[name]
    if config.lora_rank:
        inputs = {**inputs, "reference": inputs["policy"]}
    whole = run_alike(tmp_path / "whole", config, inputs)
    directory = run_alike(tmp_path / "parts", config, inputs, stops=(3, 1))
    assert metrics_of(directory) == metrics_of(whole)
    for output in ("policy", "value"):
        assert_equal_weights(directory.outputs / output, whole.outputs / output)
    assert summary_of(directory) == summary_of(whole)
    rows = metrics_of(whole)[1:]
    assert all(row["ratio_max_deviation"] < 0.05 for row in rows)
    assert any(row["kl"] != 0.0 for row in rows), "the policy learns"
    assert math.isfinite(rows[-1]["heldout_general"])
    load_policy(whole.outputs / "policy")
    load_scalar_model(whole.outputs / "value")


def run_alike(
    root: Path, config: PPOConfig, inputs: dict[str, Path], stops: tuple[int, ...] = ()
) -> RunDirectory:
    """Run to the end, interrupted after so many iterations each; policy and reference are one."""
    directory, spec = create_run(root, RunKind.PPO, config, inputs)
    same = spec.inputs["reference"]._replace(digest=spec.inputs["policy"].digest)
    spec = replace(spec, inputs={**spec.inputs, "reference": same})
    return run_ppo(directory, spec, config, stops)


def test_the_coefficient_follows_the_divergence_that_was_penalised(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = metrics_of(run(tmp_path / "run", CHOICES["controllers"], inputs))[1:]
    for row, after in itertools.pairwise(rows):
        error = min(max((row["kl"] - 0.5) / 0.5, -0.2), 0.2)
        assert after["kl_coef"] == pytest.approx(row["kl_coef"] * (1 + error))
    assert rows[0]["kl_coef"] == CONFIG.kl_coef != rows[1]["kl_coef"]


def test_the_general_model_is_looked_at_and_changes_nothing(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    watched = metrics_of(run(tmp_path / "watched", CONFIG, inputs))
    alone = {role: path for role, path in inputs.items() if role != "general"}
    unwatched = metrics_of(run(tmp_path / "unwatched", CONFIG, alone))
    looks = [row.pop("heldout_general") for row in watched if "heldout_general" in row]
    assert len(looks) == 4
    assert len(set(looks)) > 1
    assert watched == unwatched


def test_a_general_model_with_another_tokenizer_is_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save_model(token_scorer([5], scale=1.0), train_tokenizer(TEXTS, vocabulary_size=300), other)
    with pytest.raises(ValueError, match=r"general.*tokenizer"):
        run(tmp_path / "run", CONFIG, {**inputs, "general": other})


def test_with_adapters_the_reference_is_the_policy_without_them_and_stays_so(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    rows = metrics_of(run_alike(tmp_path / "run", CHOICES["adapters"], inputs))
    assert rows[0]["heldout_kl"] == rows[1]["kl"] == 0.0
    assert rows[-1]["kl"] != 0.0
    before, after = weights_of(inputs["policy"]), weights_of(tmp_path / "run/outputs/value")
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    changed = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(before[changed], after[changed])


def test_adapters_on_another_policy_than_the_reference_are_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"lora_rank.*must be the same"):
        run(tmp_path / "run", CHOICES["adapters"], inputs)


def test_small_updates_are_not_lost_in_bfloat16(inputs: dict[str, Path], tmp_path: Path) -> None:
    """A step of 1e-5 is far below bfloat16's spacing at a weight of 0.02: only float32 adds it up.

    Rounded at every step, only weights near 0 would move, fewer than one in four.
    """
    config = replace(
        CONFIG, dtype="bfloat16", value_learning_rate=1e-5, num_epochs=12, num_iterations=6
    )
    directory = run(tmp_path / "run", config, inputs)
    before, after = weights_of(inputs["helpfulness"]), weights_of(directory.outputs / "value")
    name = "model.layers.0.mlp.up_proj.weight"
    assert after[name].dtype is torch.bfloat16
    moved = (after[name] != before[name].bfloat16()).float().mean().item()
    assert moved > 0.5


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    whole = run(tmp_path / "whole", CONFIG, inputs)
    directory, spec = create_run(tmp_path / "run", RunKind.PPO, CONFIG, inputs)
    with pytest.raises(RunStopped):
        ppo(directory, spec, StopAfter(directory, CONFIG, steps=4))
    newest = directory.checkpoints / "step-00000004" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    ppo(directory, spec, RunContext(directory, CONFIG))
    assert metrics_of(directory) == metrics_of(whole)
    assert_equal_weights(directory.outputs / "policy", whole.outputs / "policy")


def test_the_best_policy_of_the_checkpoint_before_is_kept_until_that_one_goes(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    # Without a price for divergence, and on such toys, some later look is better than the first.
    config = replace(CONFIG, kl_coef=0.0, eval_every=1, checkpoint_every=1, patience=100)
    directory, spec = create_run(tmp_path / "run", RunKind.PPO, config, inputs)
    has_kept_two = False
    for _ in range(config.num_iterations):
        with pytest.raises(RunStopped):
            ppo(directory, spec, StopAfter(directory, config, steps=1))
        needed = {best_of(path) for path in directory.checkpoints.glob("step-*")}
        there = {path.name for path in directory.checkpoints.glob("best-*")}
        assert there == needed
        has_kept_two |= len(needed) > 1
    assert has_kept_two, "the best policy changed"


def best_of(checkpoint: Path) -> str:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    return f"best-{manifest['state']['progress']['best_iteration']:08d}"


def test_an_alarm_is_a_metric_and_an_event_of_its_iteration(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    # k3 is never negative: 0 before the first update, above 0 after it.
    config = replace(
        CONFIG, num_iterations=2, kl_estimator=KLEstimator.K3, alarms=AlarmConfig(kl=1e-9)
    )
    first, second = metrics_of(run(tmp_path / "run", config, inputs))[1:]
    assert first["alarm_kl"] == 0.0
    assert "event" not in first
    assert second["alarm_kl"] == 1.0
    assert "Raise kl_coef" in second["event"]
