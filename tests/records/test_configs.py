"""Configs refuse values out of bounds by name, and every field explains itself."""

import dataclasses
import json

import pytest

from records.errors import RecordError
from records.functions import load_function
from records.policy_configs import PPOConfig, RejectionSamplingConfig, SFTConfig
from records.preferences import Rating
from records.reward_configs import MARGINS, MarginTable, RewardModelConfig
from records.run_configs import RunConfig, RunKind
from records.run_kinds import COMMANDS, CONFIGS
from records.sweeps import FIGURE_8_TEMPERATURES


@pytest.mark.parametrize("kind", RunKind)
def test_every_config_survives_json_and_documents_every_field(kind: RunKind) -> None:
    config = CONFIGS[kind]()
    assert CONFIGS[kind].from_json(config.to_json()) == config
    for doc in config.describe():
        assert doc.text.endswith("."), f"{kind}.{doc.name} has no sentence under it"
    assert kind in COMMANDS


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (PPOConfig, {"clip_range": 3}, "clip_range: 3.0 is above the highest allowed value 1.0"),
        (PPOConfig, {"clip_range": 0}, "clip_range: 0.0 must be greater than 0.0"),
        (PPOConfig, {"seed": -1}, "seed: -1 is below the lowest allowed value 0"),
        (PPOConfig, {"batch_size": 1.5}, "batch_size: 1.5 is not of type int"),
        (PPOConfig, {"batch_size": True}, "batch_size: True is not of type int"),
        (PPOConfig, {"bogus": 1}, "bogus: PPOConfig has no such field"),
        (PPOConfig, {"kl_estimator": "k9"}, "kl_estimator: 'k9' is not a valid value"),
        (PPOConfig, {"sampling": {"temperature": -1}}, "sampling.temperature: .*-1.0 is below"),
        (RewardModelConfig, {"margin_table": "huge"}, "margin_table: 'huge' is not a valid value"),
        (RewardModelConfig, {"axis": "beauty"}, "axis: 'beauty' is not a valid value"),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [1.0, 0]},
            "sweep_temperatures: 0.0 must be greater than 0.0",
        ),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [1.0, 5.5]},
            "sweep_temperatures: 5.5 is above the highest allowed value 5.0",
        ),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [1.0, "hot"]},
            "sweep_temperatures: 'hot' is not of type float",
        ),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [1.2]},
            "sweep_temperatures: 1 of them, but a sweep tries 2 to 32, or none",
        ),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [0.1 + 0.01 * i for i in range(33)]},
            "sweep_temperatures: 33 of them",
        ),
        (
            RejectionSamplingConfig,
            {"sweep_temperatures": [0.8, 1.2, 0.8]},
            "sweep_temperatures: 0.8 stands there more than once",
        ),
        (
            RejectionSamplingConfig,
            {"num_sweep_prompts": 1},
            "num_sweep_prompts: 1 is below the lowest allowed value 2",
        ),
    ],
)
def test_a_bad_value_names_the_field_and_the_bound(
    kind: type[RunConfig], data: dict[str, object], message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        kind.from_json(data)


def test_the_temperatures_of_figure_8_are_a_sweep_and_no_sweep_is_the_default() -> None:
    config = RejectionSamplingConfig(sweep_temperatures=FIGURE_8_TEMPERATURES)
    stored = json.loads(json.dumps(config.to_json()))
    assert RejectionSamplingConfig.from_json(stored) == config
    assert RejectionSamplingConfig().sweep_temperatures == ()


def test_nan_is_out_of_bounds() -> None:
    with pytest.raises(RecordError, match="gamma: nan is below"):
        PPOConfig(gamma=float("nan"))


def test_configs_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PPOConfig().seed = 1  # type: ignore[misc]


def test_the_margins_are_those_of_table_27() -> None:
    small, large = MARGINS[MarginTable.SMALL], MARGINS[MarginTable.LARGE]
    assert [small[rating] for rating in Rating] == [1, 2 / 3, 1 / 3, 0]
    assert [large[rating] for rating in Rating] == [3, 2, 1, 0]


def test_the_defaults_are_the_papers() -> None:
    ppo, reward_model, sft = PPOConfig(), RewardModelConfig(), SFTConfig()
    assert (ppo.batch_size, ppo.minibatch_size, ppo.num_epochs) == (512, 64, 1)
    assert (ppo.clip_range, ppo.kl_coef, ppo.optimizer.learning_rate) == (0.2, 0.01, 1e-6)
    assert (reward_model.pairs_per_batch, reward_model.num_epochs) == (512, 1)
    assert (reward_model.optimizer.learning_rate, reward_model.optimizer.warmup_ratio) == (
        1e-5,
        0.03,
    )
    assert (sft.batch_size, sft.num_epochs, sft.optimizer.learning_rate) == (64, 2, 2e-5)


@pytest.mark.parametrize(
    "name", ["os:system", "records.policy_configs:PPOConfig", "policies", "a.b:c"]
)
def test_a_function_name_outside_the_training_packages_is_refused(name: str) -> None:
    with pytest.raises(RecordError, match="score_function"):
        load_function("score_function", name)
