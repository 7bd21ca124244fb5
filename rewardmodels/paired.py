"""Two judges on the same pairs: who is right more often, and whether that could be chance.

Shapes: `N` pairs, `C` dialogues.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class PairedComparison(NamedTuple):
    """What one judge gains over another on the same pairs."""

    difference: float
    """Difference of the accuracies, ties counting one half."""
    low: float
    """Lower end of the 95% percentile bootstrap interval, dialogues drawn with replacement."""
    high: float
    num_better: int
    """Pairs on which the first judge has more credit."""
    num_worse: int
    p_value: float
    """Exact McNemar test, two-sided: the chance of so uneven a split among pairs that differ."""


def compare_paired(
    credit_N: np.ndarray,
    other_credit_N: np.ndarray,
    dialogue_ids: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> PairedComparison | None:
    """Return the comparison of two judges' credits; None without pairs.

    The interval is a bootstrap over dialogues, not pairs: the turns of one dialogue are not
    independent, and an interval over pairs would be too narrow.
    """
    if credit_N.size == 0:
        return None
    gains_N = credit_N - other_credit_N
    low, high = _bootstrap_interval(gains_N, dialogue_ids, num_resamples, seed)
    num_better, num_worse = int((gains_N > 0).sum()), int((gains_N < 0).sum())
    return PairedComparison(
        float(gains_N.mean()),
        low,
        high,
        num_better,
        num_worse,
        mcnemar_p_value(num_better, num_worse),
    )


def mcnemar_p_value(num_better: int, num_worse: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (Psychometrika 12, 1947).

    Under equal judges each of the n pairs that differ goes either way like a fair coin:
    p = min(1, 2 Σ_{i <= min} C(n, i) / 2^n), in logarithms, so that no n overflows.
    """
    n, fewer = num_better + num_worse, min(num_better, num_worse)
    if n == 0:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
        for i in range(fewer + 1)
    ]
    highest = max(logs)
    tail = math.exp(highest) * sum(math.exp(value - highest) for value in logs)
    return min(1.0, 2 * tail)


def _bootstrap_interval(
    gains_N: np.ndarray, dialogue_ids: Sequence[str], num_resamples: int, seed: int
) -> tuple[float, float]:
    _, dialogue_N = np.unique(np.asarray(dialogue_ids), return_inverse=True)
    sums_C = np.bincount(dialogue_N, weights=gains_N)
    sizes_C = np.bincount(dialogue_N)
    generator = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    for index in range(num_resamples):
        drawn_C = generator.integers(0, sums_C.size, sums_C.size)
        means[index] = sums_C[drawn_C].sum() / sizes_C[drawn_C].sum()
    low, high = np.quantile(means, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
