"""The mathematics of PPO against verl's: recorded numbers, which `verl_oracle.py` derives anew."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.advantages import generalised_advantages
from policies.kl import kl_penalties
from policies.losses import policy_losses, token_mean, value_losses
from policies.statistics import whiten
from records.ppo_choices import KLEstimator, KLScope

RECORDED = json.loads((Path(__file__).parent / "recorded" / "verl.json").read_text())
CASES: list[dict[str, Any]] = RECORDED["cases"]
PADDING = 77.7
"""Stands after a response, and must not matter."""


def grid(rows: list[list[float]]) -> Tensor:
    width = max(map(len, rows))
    padded = [row + [PADDING] * (width - len(row)) for row in rows]
    return torch.tensor(padded, dtype=torch.float64)


def mask_of(case: dict[str, Any]) -> Tensor:
    return grid(case["given"]["values"]) != PADDING


def assert_equal(values_BR: Tensor, rows: list[list[float]], *, scale: float = 1.0) -> None:
    for line, row in zip(values_BR.tolist(), rows, strict=True):
        assert line[: len(row)] == pytest.approx([scale * value for value in row], abs=1e-7)


def bessel(case: dict[str, Any]) -> float:
    """Verl whitens by the sample's variance, we by the population's."""
    num_tokens = int(mask_of(case).sum())
    return math.sqrt(num_tokens / (num_tokens - 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("estimator", list(KLEstimator))
def test_kl_estimates_are_verls(case: dict[str, Any], estimator: KLEstimator) -> None:
    given = case["given"]
    kl_BR = kl_penalties(
        grid(given["old_logprobs"]),
        grid(given["reference_logprobs"]),
        mask_of(case),
        estimator=estimator,
        scope=KLScope.TOKEN,
    )
    assert_equal(kl_BR, case["told"][estimator.value])


@pytest.mark.parametrize("case", CASES)
def test_advantages_and_whitening_are_verls(case: dict[str, Any]) -> None:
    given, told, mask_BR = case["given"], case["told"], mask_of(case)
    advantages_BR, returns_BR = generalised_advantages(
        grid(given["rewards"]),
        grid(given["values"]),
        mask_BR,
        gamma=case["gamma"],
        gae_lambda=case["lam"],
    )
    assert_equal(returns_BR, told["returns"])
    scale = bessel(case)
    assert_equal(whiten(advantages_BR, mask_BR), told["whitened_advantages"], scale=scale)
    whitened_BR = whiten(grid(given["rewards"]), mask_BR)
    assert_equal(whitened_BR, told["whitened_rewards"], scale=scale)


@pytest.mark.parametrize("case", CASES)
def test_the_policy_loss_and_its_gradient_are_verls(case: dict[str, Any]) -> None:
    given, told, mask_BR = case["given"], case["told"], mask_of(case)
    logprobs_BR = grid(given["logprobs"]).requires_grad_()
    old_BR, advantages_BR = grid(given["old_logprobs"]), grid(told["whitened_advantages"])
    clip_range = RECORDED["clip_range"]
    losses_BR = policy_losses(logprobs_BR, old_BR, advantages_BR, clip_range=clip_range)
    loss = token_mean(losses_BR, mask_BR, num_tokens=int(mask_BR.sum()))
    (gradient_BR,) = torch.autograd.grad(loss, logprobs_BR)
    assert loss.item() == pytest.approx(told["policy_loss"], abs=1e-7)
    assert_equal(gradient_BR, told["policy_gradient"])


@pytest.mark.parametrize("case", CASES)
def test_the_value_loss_and_its_gradient_are_verls(case: dict[str, Any]) -> None:
    given, told, mask_BR = case["given"], case["told"], mask_of(case)
    values_BR = grid(given["new_values"]).requires_grad_()
    losses_BR = value_losses(
        values_BR,
        grid(given["values"]),
        grid(told["returns"]),
        clip_range=RECORDED["value_clip_range"],
    )
    loss = token_mean(losses_BR, mask_BR, num_tokens=int(mask_BR.sum()))
    (gradient_BR,) = torch.autograd.grad(loss, values_BR)
    assert loss.item() == pytest.approx(told["value_loss"], abs=1e-7)
    assert_equal(gradient_BR, told["value_gradient"])


def test_the_cases_have_clipped_tokens_on_both_sides() -> None:
    assert all(0.0 < case["told"]["clip_fraction"] < 1.0 for case in CASES)
