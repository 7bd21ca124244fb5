"""Reward models as adapters of PPO's base: they score as before, and nothing leaks between them."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    BaseMismatchError,
    read_adapter,
    weights_digest,
)
from language.logprobs import token_logprobs
from language.models import load_policy
from language.packing import packed_hidden
from language.runs import RunContext, RunStopped
from language.scalars import load_scalar_model, score_rows
from policies.networks import WHITE, Networks, adapter_networks
from policies.ppo import ppo
from policies.reward_adapters import NetworkScorer, find_reward_adapters
from policies.rollouts import Rollout, groups_of
from policies.views import logprobs_of, value_pass
from records.errors import RecordError
from records.policy_configs import PPOConfig
from records.ppo_choices import RewardNetwork, ValueNetwork
from records.preferences import Axis
from records.run_configs import RunKind
from records.rundirs import RunDirectory
from tests.models import write_tiny_policy
from tests.policies.test_ppo import CONFIG, ROLES, summary_of
from tests.policies.toys import (
    StopAfter,
    assert_equal_weights,
    create_run,
    metrics_of,
    run_ppo,
    sampled,
    weights_of,
    write_adapter_model,
    write_finetuned_policy,
    write_inputs,
    write_reward_model,
)

ADAPTERS = replace(CONFIG, lora_rank=4, reward_network=RewardNetwork.ADAPTERS)
AUTO = replace(ADAPTERS, reward_network=RewardNetwork.AUTO)
WHOLE = replace(ADAPTERS, reward_network=RewardNetwork.WHOLE)
SHARED_TRUNK = replace(ADAPTERS, value_network=ValueNetwork.SHARED)
MODELS = ("helpfulness", "safety", "general")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reward models of three ranks, all trained on the policy."""
    folder = tmp_path_factory.mktemp("inputs")
    made = {role: path for role, path in write_inputs(folder).items() if role in ROLES}
    for number, role in enumerate(MODELS, start=1):
        path = folder / f"{role} as an adapter"
        made[role] = write_adapter_model(path, made["policy"], seed=number, rank=1 + number)
    return made


@pytest.fixture(scope="module")
def finetuned(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy fine-tuned by an adapter of the reward models' base."""
    folder = tmp_path_factory.mktemp("finetuned") / "policy"
    return write_finetuned_policy(folder, inputs["policy"], seed=7)


def run(
    root: Path, config: PPOConfig, inputs: dict[str, Path], stops: tuple[int, ...] = ()
) -> RunDirectory:
    """Run to the end, interrupted after so many iterations each; policy and reference are one."""
    directory, spec = create_run(root, RunKind.PPO, config, inputs)
    same = spec.inputs["reference"]._replace(digest=spec.inputs["policy"].digest)
    spec = replace(spec, inputs={**spec.inputs, "reference": same})
    for steps in stops:
        with pytest.raises(RunStopped):
            ppo(directory, spec, StopAfter(directory, config, steps=steps))
    ppo(directory, spec, RunContext(directory, config))
    return directory


def found(inputs: dict[str, Path]) -> dict[str, AdapterWeights]:
    return dict(find_reward_adapters(inputs, weights_digest(inputs["policy"]), ADAPTERS).shared)


def networks_on(inputs: dict[str, Path], *, has_models: bool = True) -> Networks:
    """Return networks whose policy is far from its base."""
    models = found(inputs)
    networks = adapter_networks(
        load_policy(inputs["policy"]),
        rank=4,
        alpha=8,
        seed=1,
        value_start=models["helpfulness"],
        reward_models=models if has_models else {},
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in networks.policy_parameters.values():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return networks


def scorer_of(networks: Networks) -> NetworkScorer:
    return NetworkScorer(networks, tokenizer_digest="", rows_per_batch=4)


def said_of(networks: Networks, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of a rollout under the policy and under the reference."""
    groups = groups_of(rollout, tokens=1000)
    own_M = logprobs_of(networks.as_policy(), rollout, groups, temperature=1.0)
    return own_M, logprobs_of(networks.as_reference(), rollout, groups, temperature=1.0)


# The networks.


def test_scores_of_adapters_are_those_of_the_merged_models(inputs: dict[str, Path]) -> None:
    networks = networks_on(inputs)
    rows = sampled(networks).rows
    scores = scorer_of(networks)(rows)
    general_B = score_rows(networks.as_reward_model("general"), rows, rows_per_batch=4)
    for role, ours_B in zip(MODELS, (*(scores[axis] for axis in Axis), general_B), strict=True):
        theirs_B = score_rows(load_scalar_model(inputs[role]), rows, rows_per_batch=4)
        torch.testing.assert_close(ours_B, theirs_B, atol=1e-5, rtol=0.0)
    assert (scores[Axis.HELPFULNESS] - scores[Axis.SAFETY]).abs().max() > 0.01


def test_scoring_leaves_policy_and_reference_as_they_were_to_the_last_bit(
    inputs: dict[str, Path],
) -> None:
    networks = networks_on(inputs)
    rollout = sampled(networks)
    before = said_of(networks, rollout)
    scorer_of(networks)(rollout.rows)
    after = said_of(networks, rollout)
    alone = said_of(networks_on(inputs, has_models=False), rollout)
    for one_M, other_M, alone_M in zip(before, after, alone, strict=True):
        assert torch.equal(one_M, other_M)
        assert torch.equal(one_M, alone_M), "further adapters on the base change nothing"
    assert (before[0] - before[1]).abs().max() > 0.01


def test_the_value_model_starts_as_the_helpfulness_model_and_leaves_it_alone(
    inputs: dict[str, Path],
) -> None:
    networks = networks_on(inputs)
    rows = sampled(networks).rows
    start_B = scorer_of(networks)(rows)[Axis.HELPFULNESS]
    values_B = score_rows(networks.as_value_model(), rows, rows_per_batch=4)
    torch.testing.assert_close(values_B, start_B, atol=1e-6, rtol=0.0)
    assert networks.is_value_raw
    with torch.no_grad():
        for parameter in networks.value_parameters.values():
            parameter.add_(1.0)
    assert torch.equal(scorer_of(networks)(rows)[Axis.HELPFULNESS], start_B)
    moved_B = score_rows(networks.as_value_model(), rows, rows_per_batch=4)
    assert (moved_B - start_B).abs().max() > 0.1


def test_nothing_of_a_reward_model_is_trained(inputs: dict[str, Path]) -> None:
    networks = networks_on(inputs)
    rows = sampled(networks).rows
    trained = {*networks.policy_parameters.values(), *networks.value_parameters.values()}
    for role in MODELS:
        model = networks.as_reward_model(role)
        own = [p for name, p in model.named_parameters() if f".{role}." in name]
        assert len(own) == 2 * 7 * 2
        assert trained.isdisjoint([*own, model.score.weight])
        assert not any(p.requires_grad for p in (*own, model.score.weight))
        assert not any(p.requires_grad for p in networks.policy_parameters.values())
    scorer_of(networks)(rows)
    networks.as_policy(is_trained=True)
    assert all(p.requires_grad for p in networks.policy_parameters.values())


def test_the_policys_adapter_learns_from_the_policys_loss_alone(inputs: dict[str, Path]) -> None:
    networks = networks_on(inputs)
    rollout = sampled(networks)
    (group,) = groups_of(rollout, tokens=1000)
    policy = networks.as_policy(is_trained=True)
    hidden_MD = packed_hidden(policy.model, group.packed, group.packed.before_M)
    ids_M = group.packed.response_ids_M
    token_logprobs(policy, hidden_MD, ids_M, temperature=1.0).sum().backward()
    after_policy = gradients_of(networks)
    assert after_policy
    assert all(".policy." in name for name in after_policy)

    scorer_of(networks)(rollout.rows)
    networks.as_reference()
    value_pass(
        networks,
        group.packed,
        group.packed.before_M,
        units=WHITE,
        trunk_RD=None,
        is_trained=True,
    ).sum().backward()
    after_both = gradients_of(networks)
    added = after_both.keys() - after_policy.keys()
    assert added
    assert all(".value." in name for name in added)
    assert networks.value_model.score.weight.grad is not None
    assert all(torch.equal(after_both[name], after_policy[name]) for name in after_policy)


def gradients_of(networks: Networks) -> dict[str, Tensor]:
    """Return every gradient on the base and its adapters, as it is now."""
    parameters = networks.policy.named_parameters()
    return {name: p.grad.clone() for name, p in parameters if p.grad is not None}


def test_in_bfloat16_adapters_stay_in_float32_and_scores_are_near(inputs: dict[str, Path]) -> None:
    networks = adapter_networks(
        load_policy(inputs["policy"], dtype=torch.bfloat16),
        rank=4,
        alpha=8,
        seed=1,
        reward_models=found(inputs),
        dtype=torch.bfloat16,
    )
    rows = sampled(networks).rows
    kinds = {p.dtype for n, p in networks.policy.named_parameters() if "lora_" in n}
    assert kinds == {torch.float32}
    scores = scorer_of(networks)(rows)
    for axis in Axis:
        whole = load_scalar_model(inputs[axis.value])
        theirs_B = score_rows(whole, rows, rows_per_batch=4)
        # 8 bits of mantissa over two layers.
        torch.testing.assert_close(scores[axis], theirs_B, atol=0.05, rtol=0.05)


# The run.


def test_a_run_on_adapters_is_the_run_with_whole_reward_models(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    shared, whole = (
        run(tmp_path / name, config, inputs)
        for name, config in (("shared", ADAPTERS), ("whole", WHOLE))
    )
    ours, theirs = metrics_of(shared), metrics_of(whole)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs] == list(range(7))
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"ratio_max_deviation", "sampler_gap_mean", "sampler_gap_max"}:
            assert one[name] == pytest.approx(other[name], abs=1e-4, rel=1e-3), name
    assert ours[-1]["kl"] != 0.0, "the policy learns"
    for output in ("policy", "value"):
        after, other = (weights_of(made.outputs / output) for made in (shared, whole))
        for name in after:
            torch.testing.assert_close(after[name], other[name], atol=1e-4, rtol=1e-3)
    words = summary_of(shared)["networks"]
    assert words == "one base with adapters for policy, value model, helpfulness, safety, general"
    assert "reward_network is whole" in summary_of(whole)["networks"]


@pytest.mark.parametrize("config", [ADAPTERS, SHARED_TRUNK], ids=["adapters", "shared trunk"])
def test_it_resumes_bit_for_bit(inputs: dict[str, Path], tmp_path: Path, config: PPOConfig) -> None:
    whole = run(tmp_path / "whole", config, inputs)
    parts = run(tmp_path / "parts", config, inputs, stops=(3, 1))
    assert metrics_of(parts) == metrics_of(whole)
    assert summary_of(parts) == summary_of(whole)
    for output in ("policy", "value"):
        assert_equal_weights(parts.outputs / output, whole.outputs / output)
    load_scalar_model(whole.outputs / "value")


def test_the_log_says_which_networks_there_are(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="policies.ppo_models"):
        run(tmp_path / "run", replace(SHARED_TRUNK, num_iterations=1), inputs)
    assert caplog.messages == [
        "networks: one base with adapters for policy with a value head on it, helpfulness, safety, "
        "general; 0.00 GB of weights, gradients and moments"
    ]


# A policy that was fine-tuned by an adapter of the base.


def test_a_finetuned_policy_starts_as_what_it_was_merged_to(
    inputs: dict[str, Path], finetuned: Path
) -> None:
    kept = read_adapter(finetuned / ADAPTER_FOLDER)
    assert kept is not None
    base = load_policy(inputs["reference"])
    networks = adapter_networks(base, rank=4, alpha=8, seed=1, policy_start=kept.weights)
    rollout = sampled(networks)
    groups = groups_of(rollout, tokens=1000)
    own_M, reference_M = said_of(networks, rollout)
    merged_M = logprobs_of(load_policy(finetuned), rollout, groups, temperature=1.0)
    torch.testing.assert_close(own_M, merged_M, atol=1e-5, rtol=0.0)
    base_M = logprobs_of(load_policy(inputs["reference"]), rollout, groups, temperature=1.0)
    assert torch.equal(reference_M, base_M)
    assert (own_M - reference_M).abs().max() > 0.01


def test_ppo_goes_on_from_its_adapter_and_resumes_bit_for_bit(
    inputs: dict[str, Path], finetuned: Path, tmp_path: Path
) -> None:
    mixed = {**inputs, "policy": finetuned}
    whole = run_from(tmp_path / "whole", mixed)
    rows = metrics_of(whole)
    assert rows[0]["heldout_kl"] != 0.0, "it is away from the base from the start"
    parts = run_from(tmp_path / "parts", mixed, stops=(3,))
    assert metrics_of(parts) == rows
    for output in ("policy", "value"):
        assert_equal_weights(parts.outputs / output, whole.outputs / output)
    assert "policy, value model, helpfulness, safety" in summary_of(whole)["networks"]


def test_a_policy_that_is_no_adapter_of_the_reference_is_refused(
    inputs: dict[str, Path], finetuned: Path, tmp_path: Path
) -> None:
    other = write_tiny_policy(tmp_path / "other", seed=9)
    with pytest.raises(ValueError, match=r"lora_rank: .*fine-tuned from `reference`"):
        run_from(tmp_path / "plain", {**inputs, "policy": other})
    with pytest.raises(BaseMismatchError, match="policy: its adapter was trained on") as caught:
        run_from(tmp_path / "strange", {**inputs, "policy": finetuned, "reference": other})
    for folder in (other, inputs["policy"]):
        assert weights_digest(folder)[:12] in str(caught.value)


def run_from(root: Path, inputs: dict[str, Path], stops: tuple[int, ...] = ()) -> RunDirectory:
    """Run with a policy that is not the reference, interrupted after so many iterations."""
    directory, spec = create_run(root, RunKind.PPO, ADAPTERS, inputs)
    return run_ppo(directory, spec, ADAPTERS, stops)


# Which reward models may stand on the base.


def test_a_model_of_another_base_is_whole_and_the_reason_names_both_digests(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    other = write_tiny_policy(tmp_path / "other", seed=9)
    strange = write_adapter_model(tmp_path / "safety", other, seed=2)
    mixed = {**inputs, "safety": strange}
    with pytest.raises(BaseMismatchError, match="safety") as caught:
        find_reward_adapters(mixed, weights_digest(inputs["policy"]), ADAPTERS)
    for folder in (other, inputs["policy"]):
        assert weights_digest(folder)[:12] in str(caught.value)
    adapters = find_reward_adapters(mixed, weights_digest(inputs["policy"]), AUTO)
    assert not adapters.shared, "one alone saves little: both axes or none"
    assert adapters.reason == str(caught.value)
    assert adapters.helpfulness is not None, "the value model may start from it all the same"
    directory = run(tmp_path / "run", replace(AUTO, num_iterations=1), mixed)
    assert weights_digest(other)[:12] in summary_of(directory)["networks"]


def test_a_model_that_kept_no_adapter_is_whole_or_refused(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    plain = write_reward_model(tmp_path / "plain", inputs["policy"], seed=4)
    mixed = {**inputs, "helpfulness": plain}
    with pytest.raises(
        ValueError, match="helpfulness: it kept no adapter; train it with lora_rank"
    ):
        find_reward_adapters(mixed, weights_digest(inputs["policy"]), ADAPTERS)
    auto = find_reward_adapters(
        mixed,
        weights_digest(inputs["policy"]),
        replace(ADAPTERS, reward_network=RewardNetwork.AUTO),
    )
    assert (auto.shared, auto.helpfulness) == ({}, None)


def test_a_monitor_of_another_base_is_whole_and_does_not_stop_the_axes(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    plain = write_reward_model(tmp_path / "plain", inputs["policy"], seed=4)
    adapters = find_reward_adapters(
        {**inputs, "general": plain}, weights_digest(inputs["policy"]), ADAPTERS
    )
    assert list(adapters.shared) == ["helpfulness", "safety"]
    assert "general: it kept no adapter" in adapters.describe(is_trunk_shared=False)


def test_another_score_function_is_what_scores(inputs: dict[str, Path]) -> None:
    noise = replace(ADAPTERS, score_function="policies.noise:load_score_fn")
    with pytest.raises(ValueError, match=r"score_function: policies\.noise"):
        find_reward_adapters(inputs, weights_digest(inputs["policy"]), noise)
    auto = replace(noise, reward_network=RewardNetwork.AUTO)
    assert not find_reward_adapters(inputs, weights_digest(inputs["policy"]), auto).shared


def test_adapters_need_a_rank() -> None:
    with pytest.raises(RecordError, match=r"reward_network.*lora_rank of at least 1"):
        replace(CONFIG, reward_network=RewardNetwork.ADAPTERS)
