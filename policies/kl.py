"""Estimates of KL(policy || reference) from the probabilities of sampled tokens, and its control.

Estimators k1, k2, k3 are those of J. Schulman, "Approximating KL divergence" (2020). Shapes: B
rows, R tokens of a response.
"""

import torch
from torch import Tensor

from policies.rewards import last_response_tokens
from records.ppo_choices import KLEstimator, KLScope

_MAX_ERROR = 0.2
"""The controller looks no further than this relative error."""


def kl_estimates(
    logprobs: Tensor, reference_logprobs: Tensor, estimator: KLEstimator = KLEstimator.K1
) -> Tensor:
    """Return one estimate per element, of the shape given; no gradient flows through it.

    An element is the log-probability of a token, or of a whole response, that was drawn from π.
    With d = log π - log π_ref of it:
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


def kl_penalties(
    logprobs_BR: Tensor,
    reference_BR: Tensor,
    response_mask_BR: Tensor,
    *,
    estimator: KLEstimator,
    scope: KLScope,
) -> Tensor:
    """Return kl_BR, whose sum over a row is what the row pays and what is reported; else 0.

    By token each token holds its own estimate. By sequence the last token holds one estimate, of
    the probabilities of the whole response: its mean is KL too, and for k2 and k3 another number
    than the sum over tokens.
    """
    if scope is KLScope.TOKEN:
        kl_BR = kl_estimates(logprobs_BR, reference_BR, estimator)
        return kl_BR.masked_fill(~response_mask_BR, 0.0)
    sums_B = [
        part_BR.double().masked_fill(~response_mask_BR, 0.0).sum(dim=1)
        for part_BR in (logprobs_BR, reference_BR)
    ]
    kl_B = kl_estimates(sums_B[0], sums_B[1], estimator).to(logprobs_BR.dtype)
    is_last_BR = last_response_tokens(response_mask_BR)
    return torch.where(is_last_BR, kl_B[:, None], torch.zeros_like(logprobs_BR))


def next_kl_coef(kl_coef: float, kl: float, *, target: float, gain: float) -> float:
    """Return β for the next iteration, steered so that `kl` comes to `target`.

    The controller of arXiv:1909.08593, section 2.2: e = clip((KL - target) / target, ±0.2), then
    β (1 + gain e). `kl` is the mean of the tensor that was penalised. A target of 0 keeps β.
    """
    if target == 0.0:
        return kl_coef
    error = min(max((kl - target) / target, -_MAX_ERROR), _MAX_ERROR)
    return kl_coef * (1.0 + gain * error)
