"""Proportions with their 95% interval, and histograms of scores: what every report is made of."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_Z_95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""
_NUM_BINS = 20


class Proportion(NamedTuple):
    """A share of `n` trials with its 95% interval; `value` is None when there were no trials."""

    value: float | None
    low: float
    high: float
    n: int


def wilson_proportion(successes: float, n: int) -> Proportion:
    """Return successes / n with its Wilson score interval at 95%.

    With p = successes / n and z = 1.96, the interval is
    (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Successes may be fractional: a tie counts
    one half, and since a tie varies less than a coin the interval is then on the wide side.

    Raises:
        ValueError: `successes` is not between 0 and `n`.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}], not {successes}")
    if n == 0:
        return Proportion(None, 0.0, 1.0, 0)
    share = successes / n
    scale = 1 + _Z_95**2 / n
    centre = (share + _Z_95**2 / (2 * n)) / scale
    half = _Z_95 * math.sqrt(share * (1 - share) / n + _Z_95**2 / (4 * n * n)) / scale
    low = 0.0 if successes == 0 else max(0.0, centre - half)  # exactly, where rounding would miss
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Proportion(share, low, high, n)


def score_histogram(scores_by_name: Mapping[str, Iterable[float]]) -> dict[str, list[float]]:
    """Return `edges`, from 0 to 1, and under each name the counts of σ(score) between them.

    Scores are raw; a share that lies on an edge counts to its right, 1 to the last bin.
    """
    histogram: dict[str, list[float]] = {"edges": [i / _NUM_BINS for i in range(_NUM_BINS + 1)]}
    for name, scores in scores_by_name.items():
        counts = [0] * _NUM_BINS
        for score in scores:
            counts[min(int(sigmoid(score) * _NUM_BINS), _NUM_BINS - 1)] += 1
        histogram[name] = [*counts]
    return histogram


def sigmoid(score: float) -> float:
    """Return σ(score) = 1 / (1 + exp(-score)), a raw score as a share of one."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    return math.exp(score) / (1 + math.exp(score))
