"""KL estimates: the three formulae, their bias, and the gradient they must not be used for."""

import math

import pytest
import torch

from policies.kl import kl_estimates
from records.configs import KLEstimator

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
