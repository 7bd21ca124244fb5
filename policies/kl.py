"""Per-token estimates of KL(policy || reference) from the probabilities of sampled tokens.

Estimators k1, k2, k3 are those of J. Schulman, "Approximating KL divergence" (2020).
"""

from torch import Tensor

from records.configs import KLEstimator


def kl_estimates(
    logprobs: Tensor, reference_logprobs: Tensor, estimator: KLEstimator = KLEstimator.K1
) -> Tensor:
    """Return one estimate per token, of the shape given; no gradient flows through it.

    With d = log π(token) - log π_ref(token) of a token drawn from π:
    k1 = d is unbiased, of either sign, and never clamped; k2 = d² / 2 is biased and varies less;
    k3 = exp(-d) - 1 + d is unbiased and never negative.
    The estimates are numbers to subtract from a reward. As a loss to differentiate k1 and k3 would
    have the wrong gradient, so the tensor is detached.
    """
    difference = (logprobs - reference_logprobs).detach()
    if estimator is KLEstimator.K1:
        return difference
    if estimator is KLEstimator.K2:
        return difference.square() / 2
    return (-difference).expm1() + difference
