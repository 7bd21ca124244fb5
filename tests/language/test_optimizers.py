"""The optimizer against its closed form, the schedule against hand-worked numbers."""

import math

import pytest
import torch
from torch import nn

from language.optimizers import create_optimizer, create_schedule, learning_rate_factor
from records.run_configs import OptimizerConfig, Schedule

CONFIG = OptimizerConfig(
    learning_rate=0.1,
    weight_decay=0.2,
    adam_beta1=0.9,
    adam_beta2=0.95,
    adam_epsilon=0.5,
    min_warmup_steps=0,
    warmup_ratio=0.0,
    schedule=Schedule.CONSTANT,
)


def test_two_steps_equal_the_closed_form_at_the_stated_epsilon() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimizer = create_optimizer(model, CONFIG)

    weight, moment, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        model.weight.grad = torch.tensor([[gradient]])
        optimizer.step()
        weight -= 0.1 * 0.2 * weight
        moment = 0.9 * moment + 0.1 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        scaled = moment / (1 - 0.9**step)
        weight -= 0.1 * scaled / (math.sqrt(square / (1 - 0.95**step)) + 0.5)
        assert model.weight.item() == pytest.approx(weight, abs=1e-6)


def test_vectors_are_not_decayed_and_frozen_weights_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    model[0].bias.requires_grad_(False)

    groups = create_optimizer(model, CONFIG).param_groups

    assert [group["weight_decay"] for group in groups] == [0.2, 0.0]
    assert [len(group["params"]) for group in groups] == [1, 2]


# warm-up of 2 of 10 steps, then half a cosine from 1 to 0.1 over the remaining 8
@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (0, 0.5),
        (1, 1.0),
        (2, 1.0),
        (4, 0.1 + 0.9 * 0.5 * (1 + math.sqrt(0.5))),
        (6, 0.55),
        (10, 0.1),
        (99, 0.1),
    ],
)
def test_the_cosine_schedule_warms_up_and_falls_to_its_minimum(step: int, factor: float) -> None:
    config = OptimizerConfig(warmup_ratio=0.2, min_warmup_steps=1, min_learning_rate_ratio=0.1)

    assert learning_rate_factor(config, step, 10) == pytest.approx(factor)


def test_the_constant_schedule_stays_after_warming_up() -> None:
    config = OptimizerConfig(schedule=Schedule.CONSTANT, warmup_ratio=0.0, min_warmup_steps=4)

    factors = [learning_rate_factor(config, step, 100) for step in (0, 1, 2, 3, 4, 99)]

    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_warming_up_takes_the_ratio_at_least_the_minimum_and_at_most_everything() -> None:
    config = OptimizerConfig(warmup_ratio=0.03, min_warmup_steps=5)

    assert learning_rate_factor(config, 29, 1000) == 1.0  # 30 steps
    assert learning_rate_factor(config, 14, 1000) == 0.5
    assert learning_rate_factor(config, 0, 100) == 0.2  # 5 steps, not 3
    assert learning_rate_factor(config, 0, 2) == 0.5  # 2 steps, all there are


def test_the_schedule_sets_the_rate_of_each_step() -> None:
    model = nn.Linear(1, 1)
    config = OptimizerConfig(learning_rate=0.1, min_warmup_steps=2, warmup_ratio=0.0)
    optimizer = create_optimizer(model, config)
    schedule = create_schedule(optimizer, config, 4)

    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()

    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.055])
