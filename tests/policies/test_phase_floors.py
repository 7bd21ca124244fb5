"""Floors of PPO's phases: products as they are counted while they run, and shares of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from language.engines import LocalEngine
from language.floors import Rates, measure_rates
from language.rows import TokenRow
from language.runs import RunContext
from language.scalars import create_scalar_model
from policies.networks import Networks, adapter_networks, shared_networks
from policies.phase_floors import Amount, Passes, PhaseFloors, measure_floors, phase_flops
from policies.ppo_models import create_learners
from policies.rollouts import Rollout, groups_of, sample_rollout
from policies.statistics import Moments
from policies.updates import Experience, update_
from policies.views import logprobs_of
from records.policy_configs import PPOConfig
from records.run_configs import RunKind, SamplingConfig
from tests.models import tiny_policy, write_tiny_policy
from tests.policies.toys import LEARNING, create_run, encoded, prompts, separate

SHAPE = tiny_policy().config.to_dict()
CONFIG = PPOConfig(
    batch_size=8,
    minibatch_size=8,
    num_threads=1,
    sampling=SamplingConfig(max_new_tokens=10),
    optimizer=LEARNING,
)
PHASES = ("generate", "score", "reference", "logprobs", "update")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_policy(tmp_path_factory.mktemp("models") / "policy")


@pytest.fixture(scope="module")
def rollout() -> Rollout:
    return sample_rollout(
        LocalEngine(tiny_policy()),
        encoded(*prompts(8)),
        list(range(8)),
        sampling=CONFIG.sampling,
        eos_id=2,
        rows_per_batch=8,
        device=torch.device("cpu"),
    )


def amount_of(rollout: Rollout) -> Amount:
    return Amount(sum(row.num_tokens for row in rollout.rows), len(rollout.place_M), 8)


def flops_of(passes: Passes, rollout: Rollout, *, num_epochs: int = 1) -> dict[str, float]:
    return phase_flops(passes, amount_of(rollout), num_epochs=num_epochs, is_view_kept=False)


@contextmanager
def counted() -> Iterator[list[int]]:
    """Give a list that holds, after the block, the FLOP of the block's matrix products."""
    flops: list[int] = []
    with FlopCounterMode(display=False) as counter:
        yield flops
    products = (torch.ops.aten.mm, torch.ops.aten.addmm)
    flops.append(sum(counter.get_flop_counts()["Global"].get(name, 0) for name in products))


def counted_update(networks: Networks, rollout: Rollout, config: PPOConfig = CONFIG) -> int:
    """Return the FLOP of an update's products."""
    zeros_M = torch.zeros(len(rollout.place_M))
    experience = Experience(rollout, zeros_M, zeros_M, zeros_M, zeros_M)
    learners, generator = create_learners(networks, config), torch.Generator().manual_seed(0)
    with counted() as flops:
        update_(
            networks,
            learners,
            experience,
            units=Moments(0.0, 1.0),
            config=config,
            generator=generator,
        )
    return flops[0]


def test_the_reference_makes_the_products_of_its_floor(rollout: Rollout) -> None:
    flops = flops_of(Passes(SHAPE, SHAPE, [], is_base_frozen=False), rollout)

    with counted() as seen:
        logprobs_of(tiny_policy(), rollout, groups_of(rollout, tokens=10_000), temperature=1.0)

    assert seen == [flops["reference"]]


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_an_update_makes_the_products_of_its_floor(
    folder: Path, rollout: Rollout, num_epochs: int
) -> None:
    networks = separate(tiny_policy(), create_scalar_model(folder, seed=1), tiny_policy())
    passes = Passes(SHAPE, SHAPE, [], is_base_frozen=False)

    seen = counted_update(networks, rollout, replace(CONFIG, num_epochs=num_epochs))

    # The value head, one number a token, is left out of the floor.
    head = 2 * SHAPE["hidden_size"] * len(rollout.place_M)
    floor = flops_of(passes, rollout, num_epochs=num_epochs)["update"]
    assert seen == floor + 3 * num_epochs * head


def test_a_value_head_on_the_policys_layers_takes_one_pass(rollout: Rollout) -> None:
    networks = shared_networks(tiny_policy(), tiny_policy())

    seen = counted_update(networks, rollout)

    floor = flops_of(Passes(SHAPE, None, [], is_base_frozen=False), rollout)["update"]
    assert floor <= seen <= 1.01 * floor


def test_weights_that_stay_have_no_gradients_in_the_floor(rollout: Rollout) -> None:
    networks = adapter_networks(tiny_policy(), rank=1, alpha=1, seed=0)

    seen = counted_update(networks, rollout)

    floor = flops_of(Passes(SHAPE, SHAPE, [], is_base_frozen=True), rollout)["update"]
    assert 0.9 * floor < seen < 1.35 * floor  # thin products on top, the first layer's input below


def test_a_kept_pass_is_not_counted_twice() -> None:
    passes, amount = Passes(SHAPE, SHAPE, [], is_base_frozen=False), Amount(100, 40, 8)
    fresh, kept = (
        phase_flops(passes, amount, num_epochs=1, is_view_kept=is_kept) for is_kept in (False, True)
    )
    assert fresh["update"] == pytest.approx(1.5 * kept["update"])
    assert fresh["logprobs"] == kept["logprobs"]


def test_shares_are_floors_over_seconds() -> None:
    # One row of a token of prompt and two of response, by hand: layers, then the output layer.
    shape = {
        "hidden_size": 2,
        "intermediate_size": 3,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "vocab_size": 5,
    }
    rollout = Rollout(
        [TokenRow((1,), (3, 2))],
        [False],
        torch.tensor([True]),
        torch.zeros(2),
        torch.ones(1, 2, dtype=torch.bool),
        torch.arange(2),
    )
    layers = 2 * (3 * 4) * 3 + 2 * (4 + 18) * 2  # queries, keys, values of three tokens; the rest
    policy = layers + 2 * 2 * 5 * 2
    score = 2 * (3 * 4) * 3 + 2 * (4 + 18) * 1
    floors = PhaseFloors(
        Passes(shape, shape, [shape], is_base_frozen=False),
        Rates(flops=1000.0, num_bytes=100.0),
        weight_bytes=40,
    )
    laps = {f"seconds_{phase}": 2.0 for phase in PHASES}

    shares = floors.shares(rollout, laps, num_epochs=1, is_view_kept=True)

    assert shares == {
        "floor_share_generate": 0.4,  # two tokens by 40 bytes by 100 a second, above the products
        "floor_share_score": round(score / 2000, 4),
        "floor_share_reference": round(policy / 2000, 4),
        "floor_share_logprobs": round((policy + layers) / 2000, 4),
        "floor_share_update": round(2 * (policy + layers) / 2000, 4),
    }


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, set()),
        ({"engine": "lab"}, {"generate"}),
        ({"score_function": "policies.noise:load_score_fn"}, {"score"}),
    ],
)
def test_what_is_not_computed_here_has_no_floor(
    folder: Path, rollout: Rollout, tmp_path: Path, changes: dict[str, str], missing: set[str]
) -> None:
    networks = separate(tiny_policy(), create_scalar_model(folder, seed=1), tiny_policy())
    config = replace(CONFIG, **changes)
    inputs = {"helpfulness": folder, "safety": folder}
    directory, spec = create_run(tmp_path / "run", RunKind.PPO, config, inputs)
    floors = measure_floors(spec, config, RunContext(directory, config), networks)

    shares = floors.shares(
        rollout, {f"seconds_{p}": 1.0 for p in PHASES}, num_epochs=1, is_view_kept=True
    )

    assert shares.keys() == {f"floor_share_{p}" for p in set(PHASES) - missing}
    assert all(share > 0.0 for share in shares.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_measured_rates_are_those_of_a_machine(dtype: torch.dtype) -> None:
    state = torch.random.get_rng_state()
    rates = measure_rates(torch.device("cpu"), dtype)
    assert 1e7 < rates.flops < 1e15
    assert 1e7 < rates.num_bytes < 1e14
    assert torch.equal(torch.random.get_rng_state(), state), "no random number is used up"
