"""One iteration's gradient steps: minibatches, micro-batches, the optimizer."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from language.engines import LocalEngine
from language.optimizers import create_optimizer, create_schedule
from language.scalars import create_scalar_model
from policies.advantages import generalised_advantages
from policies.networks import Networks, adapter_networks, shared_networks
from policies.ppo_models import create_learners
from policies.rollouts import groups_of, sample_rollout
from policies.scoring import derived_seed
from policies.statistics import Moments, whiten
from policies.updates import Experience, Learner, Learners, UpdateMetrics, draw_minibatches, update_
from policies.views import is_view_kept, kept_view_of, view_of
from records.policy_configs import PPOConfig
from records.run_configs import OptimizerConfig, SamplingConfig
from tests.models import tiny_policy, write_tiny_policy
from tests.policies.toys import LEARNING, encoded, prompts, separate

UNITS = Moments(0.5, 2.0)
CONFIG = PPOConfig(
    batch_size=8,
    minibatch_size=8,
    sampling=SamplingConfig(temperature=0.9, max_new_tokens=10),
    optimizer=replace(LEARNING, learning_rate=1e-3),
    value_learning_rate=1e-3,
)


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("models") / "policy")


def learner_of(model: nn.Module, config: OptimizerConfig) -> Learner:
    optimizer = create_optimizer(model, config)
    return Learner(optimizer, create_schedule(optimizer, config, 100), config.max_grad_norm)


def experience_of(networks: Networks, *, is_kept: bool = False) -> Experience:
    rollout = sample_rollout(
        LocalEngine(networks.as_policy()),
        encoded(*prompts(8)),
        [derived_seed(index) for index in range(8)],
        sampling=CONFIG.sampling,
        eos_id=2,
        rows_per_batch=8,
        device=torch.device("cpu"),
    )
    groups = groups_of(rollout, tokens=10_000)
    view, kept = view_of(networks, rollout, groups, temperature=0.9, units=UNITS), None
    if is_kept:
        (group,) = groups
        view, kept = kept_view_of(networks, rollout, group, temperature=0.9, units=UNITS)
    mask_BR = rollout.response_mask_BR
    rewards_BR = torch.randn(mask_BR.shape, generator=torch.Generator().manual_seed(1)) * mask_BR
    advantages_BR, returns_BR = generalised_advantages(
        rewards_BR, rollout.grid(view.values_M), mask_BR, gamma=1.0, gae_lambda=0.95
    )
    white_M = rollout.flat(whiten(advantages_BR, mask_BR))
    returns_M = rollout.flat(returns_BR)
    return Experience(rollout, view.logprobs_M, view.values_M, white_M, returns_M, kept)


def update(
    networks: Networks, learners: Learners, experience: Experience, config: PPOConfig = CONFIG
) -> UpdateMetrics:
    return update_(
        networks,
        learners,
        experience,
        units=UNITS,
        config=config,
        generator=torch.Generator().manual_seed(0),
    )


def updated(folder: Path, config: PPOConfig) -> tuple[UpdateMetrics, dict[str, Tensor]]:
    policy, value_model = tiny_policy(), create_scalar_model(folder, seed=1)
    networks = separate(policy, value_model, tiny_policy())
    metrics = update(networks, create_learners(networks, config), experience_of(networks), config)
    weights = {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
    values = {f"value.{name}": tensor for name, tensor in value_model.state_dict().items()}
    return metrics, weights | values


def test_the_first_ratio_is_one_and_nothing_is_clipped_by_the_first_step(
    policy_folder: Path,
) -> None:
    metrics, _ = updated(policy_folder, CONFIG)
    assert metrics.ratio_max_deviation < 1e-5
    assert metrics.approx_kl < 1e-8
    assert metrics.clip_fraction == 0.0
    # With every ratio one the loss is minus the mean of whitened advantages.
    assert metrics.policy_loss == pytest.approx(0.0, abs=1e-5)


def test_micro_batches_change_nothing_but_rounding(policy_folder: Path) -> None:
    whole, whole_weights = updated(policy_folder, CONFIG)
    parts, parts_weights = updated(policy_folder, replace(CONFIG, tokens_per_microbatch=60))
    assert parts.policy_loss == pytest.approx(whole.policy_loss, abs=1e-5)
    assert parts.value_loss == pytest.approx(whole.value_loss, rel=1e-4)
    assert parts.grad_norm == pytest.approx(whole.grad_norm, rel=1e-4)
    assert parts.value_grad_norm == pytest.approx(whole.value_grad_norm, rel=1e-4)
    torch.testing.assert_close(parts_weights, whole_weights, atol=2e-5, rtol=1e-4)


def plain_networks(folder: Path) -> Networks:
    return separate(tiny_policy(), create_scalar_model(folder, seed=1), tiny_policy())


def trunk_networks(_: Path) -> Networks:
    return shared_networks(tiny_policy(), tiny_policy())


def adapted_networks(_: Path) -> Networks:
    return adapter_networks(tiny_policy(), rank=4, alpha=8, seed=1)


@pytest.mark.parametrize("create", [plain_networks, trunk_networks, adapted_networks])
def test_a_pass_that_was_kept_is_the_steps_forward_pass(
    policy_folder: Path, create: Callable[[Path], Networks]
) -> None:
    """The same weights come of it, and no model is passed again."""
    all_weights, all_metrics = [], []
    for is_kept in (False, True):
        networks = create(policy_folder)
        learners = create_learners(networks, CONFIG)
        experience = experience_of(networks, is_kept=is_kept)
        passes: list[int] = []
        for model in (networks.policy, networks.value_model):
            model.model.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        metrics = update(networks, learners, experience)
        assert bool(passes) is not is_kept
        all_weights.append({**networks.policy_parameters, **networks.value_parameters})
        all_metrics.append(metrics)
    apart, kept = all_metrics
    assert kept.grad_norm == pytest.approx(apart.grad_norm, rel=1e-4)
    assert kept.policy_loss == pytest.approx(apart.policy_loss, abs=1e-5)
    assert kept.value_loss == pytest.approx(apart.value_loss, rel=1e-4)
    assert kept.ratio_max_deviation == kept.clip_fraction == 0.0
    torch.testing.assert_close(*all_weights, atol=2e-5, rtol=1e-4)


def test_a_pass_is_kept_for_one_step_whose_activations_fit(policy_folder: Path) -> None:
    networks = plain_networks(policy_folder)
    rollout = experience_of(networks).rollout
    tokens = sum(row.num_tokens for row in rollout.rows)
    fitting = replace(CONFIG, tokens_per_microbatch=2 * tokens)
    assert is_view_kept(networks, rollout, fitting)
    assert not is_view_kept(networks, rollout, replace(fitting, tokens_per_microbatch=tokens))
    assert not is_view_kept(networks, rollout, replace(fitting, num_epochs=2))
    assert not is_view_kept(networks, rollout, replace(fitting, minibatch_size=4))
    assert not is_view_kept(replace(networks, has_checkpoints=True), rollout, fitting)
    # On one trunk a token's activations are held once.
    trunk, small = trunk_networks(policy_folder), replace(fitting, tokens_per_microbatch=tokens)
    assert is_view_kept(trunk, rollout, small)


def test_every_minibatch_is_one_step(policy_folder: Path) -> None:
    config = replace(CONFIG, minibatch_size=3, num_epochs=2)
    minibatches = draw_minibatches(8, config, torch.Generator().manual_seed(0))
    assert [len(minibatch) for minibatch in minibatches] == [3, 3, 2, 3, 3, 2]
    assert sorted(chain(*minibatches[:3])) == sorted(chain(*minibatches[3:])) == list(range(8))
    assert minibatches[:3] != minibatches[3:]


class CountReads(TorchDispatchMode):
    """Counts what makes the processor wait for the device: numbers read, shapes found from data."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
        is_mask = func.overloadpacket.__name__ == "index" and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        self.count += func.overloadpacket.__name__ in waits or is_mask
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device(policy_folder: Path) -> None:
    """However many steps there are, as many numbers are read: those after the last of them."""
    counts = []
    for minibatch_size, num_epochs in ((8, 1), (2, 3)):
        config = replace(CONFIG, minibatch_size=minibatch_size, num_epochs=num_epochs)
        networks = plain_networks(policy_folder)
        learners, experience = create_learners(networks, config), experience_of(networks)
        with CountReads() as reads:
            update(networks, learners, experience, config)
        counts.append(reads.count)
    assert counts[0] == counts[1] <= 2


def test_later_steps_move_the_ratio(policy_folder: Path) -> None:
    metrics, _ = updated(policy_folder, replace(CONFIG, num_epochs=4))
    assert metrics.ratio_max_deviation < 1e-5  # still that of the first step
    assert metrics.approx_kl > 1e-6


def test_one_step_of_the_optimizer_is_adamws_closed_form() -> None:
    """The first step moves by lr · ĝ / (|ĝ| + ε) after decay, ĝ being the clipped gradient."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    config = OptimizerConfig(
        learning_rate=0.1, weight_decay=0.5, adam_epsilon=0.25, min_warmup_steps=0, warmup_ratio=0.0
    )
    model.weight.grad = torch.tensor([[3.0, -4.0]])
    norm = learner_of(model, config).step_()
    assert norm.item() == pytest.approx(5.0)
    decayed = 1.0 - 0.1 * 0.5
    expected = [decayed - 0.1 * 0.6 / (0.6 + 0.25), decayed + 0.1 * 0.8 / (0.8 + 0.25)]
    assert model.weight[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert model.weight.grad is None


def test_a_gradient_that_is_not_finite_stops_the_run(policy_folder: Path) -> None:
    networks = plain_networks(policy_folder)
    experience = experience_of(networks)
    experience.advantages_M[0] = float("nan")
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        update(networks, create_learners(networks, CONFIG), experience)
