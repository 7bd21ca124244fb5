"""KL estimates: the three formulae, their bias, and the gradient they must not be used for."""

import math

import pytest
import torch

from policies.kl import kl_estimates, kl_penalties, next_kl_coef
from records.ppo_choices import KLEstimator, KLScope

POLICY_5 = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
REFERENCE_5 = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2], dtype=torch.float64)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (KLEstimator.K1, [0.5, -0.5]),
        (KLEstimator.K2, [0.125, 0.125]),
        (KLEstimator.K3, [math.exp(-0.5) - 1 + 0.5, math.exp(0.5) - 1 - 0.5]),
    ],
)
def test_each_estimator_is_its_formula(estimator: KLEstimator, expected: list[float]) -> None:
    logprobs, reference = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -1.5])
    estimates = kl_estimates(logprobs, reference, estimator)
    assert estimates.tolist() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("estimator", [KLEstimator.K1, KLEstimator.K3])
def test_unbiased_estimates_average_to_the_exact_divergence(estimator: KLEstimator) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.multinomial(POLICY_5, 100_000, replacement=True, generator=generator)
    estimates = kl_estimates(POLICY_5.log()[tokens], REFERENCE_5.log()[tokens], estimator)
    exact = float((POLICY_5 * (POLICY_5 / REFERENCE_5).log()).sum())
    error = float(estimates.std() / 100_000**0.5)
    assert abs(float(estimates.mean()) - exact) < 4 * error


def test_k1_keeps_its_negative_values() -> None:
    # Clamped at zero its mean would be far above the divergence.
    estimates = kl_estimates(POLICY_5.log(), REFERENCE_5.log())
    assert (estimates < 0).tolist() == [False, False, True, True, True]


def test_a_policy_is_no_distance_from_itself() -> None:
    for estimator in KLEstimator:
        assert kl_estimates(POLICY_5.log(), POLICY_5.log(), estimator).abs().sum() == 0.0


def test_no_gradient_flows_through_an_estimate() -> None:
    logprobs = torch.tensor([-1.0], requires_grad=True)
    assert not any(kl_estimates(logprobs, torch.zeros(1), e).requires_grad for e in KLEstimator)


def test_k1_as_a_reward_has_the_gradient_of_the_divergence() -> None:
    """The policy gradient with -k1 as reward is that of -KL; k3 differentiated would not be."""
    logits = POLICY_5.log().requires_grad_()
    logprobs = logits.log_softmax(dim=0)
    exact = (logprobs.exp() * (logprobs - REFERENCE_5.log())).sum()
    (exact_gradient,) = torch.autograd.grad(exact, logits, retain_graph=True)
    k1 = kl_estimates(logprobs, REFERENCE_5.log())
    (policy_gradient,) = torch.autograd.grad((POLICY_5 * k1 * logprobs).sum(), logits)
    torch.testing.assert_close(policy_gradient, exact_gradient)


def test_by_sequence_the_last_token_pays_for_the_whole_response() -> None:
    logprobs_BR = torch.tensor([[-1.0, -2.0, 7.0], [-0.5, 7.0, 7.0]])
    reference_BR = torch.tensor([[-1.5, -1.0, 9.0], [-1.0, 9.0, 9.0]])
    mask_BR = torch.tensor([[True, True, False], [True, False, False]])
    # Row 0: d = 0.5 - 1 = -0.5 in all, k2 = 0.125; by token it would be 0.125 + 0.5.
    kl_BR = kl_penalties(
        logprobs_BR, reference_BR, mask_BR, estimator=KLEstimator.K2, scope=KLScope.SEQUENCE
    )
    assert kl_BR.tolist() == [[0.0, 0.125, 0.0], [0.125, 0.0, 0.0]]
    kl_BR = kl_penalties(
        logprobs_BR, reference_BR, mask_BR, estimator=KLEstimator.K2, scope=KLScope.TOKEN
    )
    assert kl_BR.tolist() == [[0.125, 0.5, 0.0], [0.125, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.1),  # at the target nothing moves
        (6.6, 0.101),  # 10% above: 1 + 0.1 * 0.1
        (5.4, 0.099),  # 10% below
        (60.0, 0.102),  # far above: as if by 20%
        (-3.0, 0.098),  # k1 may be negative: as if 20% below
    ],
)
def test_the_coefficient_is_steered_towards_the_target(kl: float, expected: float) -> None:
    assert next_kl_coef(0.1, kl, target=6.0, gain=0.1) == pytest.approx(expected)


def test_without_a_target_the_coefficient_stays() -> None:
    assert next_kl_coef(0.1, 60.0, target=0.0, gain=0.1) == 0.1
