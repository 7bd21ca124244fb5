"""The arrangements of PPO's networks: adapters on one base, and weights in two precisions."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from language.adapters import save_merged_model
from language.models import load_policy
from language.packing import packed_hidden
from language.scalars import head_of, load_scalar_model
from policies.networks import POLICY, Networks, adapter_networks, shared_networks
from policies.ppo_models import create_learners
from policies.rollouts import Rollout, groups_of
from policies.views import logprobs_of
from records.policy_configs import PPOConfig
from tests.models import tiny_policy, tiny_tokenizer
from tests.policies.toys import sampled


@pytest.fixture
def networks() -> Networks:
    """Policy and value model on one base, their adapters far from zero."""
    made = adapter_networks(tiny_policy(), rank=4, alpha=8, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in (*made.policy_parameters.values(), *made.value_parameters.values()):
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made


def own_logprobs(networks: Networks, rollout: Rollout) -> Tensor:
    return logprobs_of(
        networks.as_policy(), rollout, groups_of(rollout, tokens=1000), temperature=1.0
    )


def test_the_reference_is_the_base_to_the_last_bit_whatever_the_adapters_say(
    networks: Networks,
) -> None:
    rollout = sampled(networks)
    groups = groups_of(rollout, tokens=1000)
    base_M = logprobs_of(tiny_policy(), rollout, groups, temperature=1.0)
    own_M = own_logprobs(networks, rollout)
    reference_M = logprobs_of(networks.as_reference(), rollout, groups, temperature=1.0)
    assert torch.equal(reference_M, base_M)
    assert (own_M - base_M).abs().max() > 0.01
    assert torch.equal(own_logprobs(networks, rollout), own_M), "and the policy is itself again"


def test_the_sampler_samples_from_the_policy_with_its_adapter(networks: Networks) -> None:
    rollout = sampled(networks)
    gap_M = (own_logprobs(networks, rollout) - rollout.sampler_logprobs_M).abs()
    assert gap_M.max() < 1e-4


def test_new_adapters_change_nothing_and_new_heads_say_nothing() -> None:
    networks = adapter_networks(tiny_policy(), rank=4, alpha=8, seed=1)
    rollout = sampled(networks)
    groups = groups_of(rollout, tokens=1000)
    base_M = logprobs_of(tiny_policy(), rollout, groups, temperature=1.0)
    torch.testing.assert_close(own_logprobs(networks, rollout), base_M, atol=1e-6, rtol=1e-6)
    assert networks.value_model.score.weight.abs().max() == 0.0


def test_each_adapter_learns_from_its_own_passes_alone(networks: Networks) -> None:
    (group,) = groups_of(sampled(networks), tokens=1000)
    packed_hidden(networks.as_policy().model, group.packed).square().sum().backward()
    assert all(p.grad is not None for p in networks.policy_parameters.values())
    assert all(p.grad is None for p in networks.value_parameters.values())
    assert networks.policy.lm_head.weight.grad is None, "the base is frozen"
    for parameter in networks.policy_parameters.values():
        parameter.grad = None
    hidden_TD = packed_hidden(networks.as_value_model().model, group.packed)
    head_of(networks.value_model, hidden_TD).sum().backward()
    assert all(p.grad is None for p in networks.policy_parameters.values())
    assert all(p.grad is not None for p in networks.value_parameters.values())


def test_what_is_saved_is_a_plain_model_that_says_the_same(
    networks: Networks, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    rollout = sampled(networks)
    groups = groups_of(rollout, tokens=1000)
    save_merged_model(networks.policy, tiny_tokenizer(), folder / "policy", name=POLICY)
    plain_M = logprobs_of(load_policy(folder / "policy"), rollout, groups, temperature=1.0)
    torch.testing.assert_close(plain_M, own_logprobs(networks, rollout), atol=1e-5, rtol=1e-5)

    name = networks.value_adapter
    save_merged_model(networks.value_model, tiny_tokenizer(), folder / "value", name=name)
    plain, packed = load_scalar_model(folder / "value"), groups[0].packed
    with torch.no_grad():
        ours_T = head_of(
            networks.value_model, packed_hidden(networks.as_value_model().model, packed)
        )
        theirs_T = head_of(plain, packed_hidden(plain.model, packed))
    torch.testing.assert_close(theirs_T, ours_T, atol=1e-5, rtol=1e-4)


def test_a_full_model_in_bfloat16_is_trained_in_float32() -> None:
    networks = shared_networks(tiny_policy(), tiny_policy(), dtype=torch.bfloat16)
    (group,) = groups_of(sampled(networks), tokens=1000)
    hidden_TD = packed_hidden(networks.as_policy().model, group.packed)
    assert hidden_TD.dtype is torch.bfloat16
    hidden_TD.float().square().sum().backward()
    trained = networks.policy_parameters["model.layers.0.mlp.up_proj.weight"]
    assert trained.dtype is torch.float32
    assert trained.grad is not None
    with torch.no_grad():
        trained.fill_(0.5)
    networks.refresh_()
    assert (networks.policy.model.layers[0].mlp.up_proj.weight == 0.5).all()


@pytest.mark.parametrize("is_shared", [False, True])
def test_recomputed_activations_change_no_gradient_and_leave_sampling_its_cache(
    is_shared: bool,
) -> None:
    gradients = []
    for checkpoint_activations in (False, True):
        networks = adapter_networks(
            tiny_policy(),
            rank=4,
            alpha=8,
            seed=1,
            is_trunk_shared=is_shared,
            checkpoint_activations=checkpoint_activations,
        )
        (group,) = groups_of(sampled(networks), tokens=1000)
        policy = networks.as_policy(is_trained=True)
        assert policy.training == checkpoint_activations
        packed_hidden(policy.model, group.packed).square().sum().backward()
        gradients.append([p.grad for p in networks.policy_parameters.values()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("use", [Networks.as_policy, Networks.as_value_model])
def test_learners_move_all_their_weights_whichever_adapter_was_used_last(
    networks: Networks, use: Callable[[Networks], object]
) -> None:
    use(networks)
    learners = create_learners(networks, PPOConfig(lora_rank=4))
    for learner, parameters in (
        (learners.policy, networks.policy_parameters),
        (learners.value, networks.value_parameters),
    ):
        moved = [p for group in learner.optimizer.param_groups for p in group["params"]]
        assert set(map(id, moved)) == set(map(id, parameters.values()))
