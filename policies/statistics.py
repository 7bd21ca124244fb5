"""Masked means and whitening over tokens or rows.

Where several processes share a run they are over all of its rows, as every process holds them.

Shapes: B rows, T tokens in a row; functions take any shape with a mask of the same shape.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from torch import Tensor

WHITEN_EPSILON = 1e-8
"""Added to the variance before the root; that of lm-human-preferences (arXiv:1909.08593)."""


class Moments(NamedTuple):
    """Mean and population variance (divided by n, not n - 1) of the values under a mask."""

    mean: float
    variance: float


class RunningMoments(NamedTuple):
    """Mean and population variance of all values seen so far."""

    num_values: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def after(self, values: Tensor) -> "RunningMoments":
        """Return the moments with `values` added, in float64.

        Two sets' moments are joined as by Chan, Golub and LeVeque (Stanford STAN-CS-79-773, 1979).
        """
        new = masked_moments(values, torch.ones_like(values, dtype=torch.bool))
        num_values = self.num_values + values.numel()
        share = values.numel() / num_values
        gap = new.mean - self.mean
        spread = (1.0 - share) * self.variance + share * new.variance
        variance = spread + share * (1.0 - share) * gap * gap
        return RunningMoments(num_values, self.mean + share * gap, variance)

    @property
    def moments(self) -> Moments:
        """Mean and variance without the count."""
        return Moments(self.mean, self.variance)


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """Return the mean of `values` where `mask` is True, in float64.

    Raises:
        ValueError: The mask is False everywhere.
    """
    kept = values[mask].double()
    if not kept.numel():
        raise ValueError("mask: it is False everywhere, so there is no mean")
    return float(kept.sum()) / kept.numel()


def masked_moments(values: Tensor, mask: Tensor) -> Moments:
    """Return mean and population variance of `values` under `mask`.

    In float64 and in two passes, so that equal values have variance zero and not a rounding error.
    """
    mean = masked_mean(values.double(), mask)
    return Moments(mean, masked_mean((values.double() - mean).square(), mask))


def standardised(values: Tensor, moments: Moments) -> Tensor:
    """Return (x - mean) / sqrt(variance + 1e-8) with the moments given."""
    return (values - moments.mean) / math.sqrt(moments.variance + WHITEN_EPSILON)


def whiten(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return (x - mean) / sqrt(variance + 1e-8) under `mask`, 0 elsewhere.

    WHITEN of arXiv:2307.09288, section 3.2.3, as lm-human-preferences computes it: the variance is
    the population's (ddof 0), the scope is all that is given, never one process's share or one
    minibatch. Equal values give zeros.
    """
    mask = torch.ones_like(values, dtype=torch.bool) if mask is None else mask
    white = standardised(values.double(), masked_moments(values, mask))
    return white.masked_fill(~mask, 0.0).to(values.dtype)


def paired_t(now: Sequence[float], before: Sequence[float]) -> float:
    """Return the mean of now - before in its standard errors: Student's t of paired samples.

    Pairs that moved alike move the mean without any error: it is then infinite, or 0 where none
    moved. One pair alone says nothing: 0.

    Raises:
        ValueError: There are not as many of one as of the other.
    """
    differences = [x - y for x, y in zip(now, before, strict=True)]
    if len(differences) < 2:
        return 0.0
    mean = fmean(differences)
    error = stdev(differences, mean) / math.sqrt(len(differences))
    if error == 0.0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / error


def explained_variance(predictions: Tensor, targets: Tensor, mask: Tensor) -> float | None:
    """Return 1 - Var(target - prediction) / Var(target) under `mask`; None where targets are equal.

    1 is perfect, 0 is no better than a constant, negative is worse than that.
    """
    variance = masked_moments(targets, mask).variance
    if variance == 0.0:
        return None
    return 1.0 - masked_moments(targets - predictions, mask).variance / variance
