"""Best and median of n responses: what rejection sampling stands to gain from more samples.

Expectations are exact, over all subsets of n of a prompt's K responses, and so have less noise than
the first n responses would give. Shapes: P prompts, K responses per prompt.
"""

from math import comb
from typing import NamedTuple

import torch
from torch import Tensor

_EVERY_SIZE_UP_TO = 16


class CurvePoint(NamedTuple):
    """Means over prompts when each has `n` samples."""

    n: int
    max: float
    median: float


def max_median_curve(scores_PK: Tensor) -> list[CurvePoint]:
    """Return expected maximum and median score of n of the K samples, for n up to K.

    The two lines of arXiv:2307.09288, figure 7, at the sizes of `curve_sizes`.
    """
    sorted_PK = scores_PK.double().sort(dim=1).values
    points = []
    for n in curve_sizes(scores_PK.shape[1]):
        middle = (
            _expected_rank(sorted_PK, n, (n + 1) // 2).mean(),
            _expected_rank(sorted_PK, n, n // 2 + 1).mean(),
        )
        best = _expected_rank(sorted_PK, n, n).mean()
        points.append(CurvePoint(n, float(best), float(sum(middle)) / 2))
    return points


def curve_sizes(num_responses: int) -> list[int]:
    """Return the n at which curves have points: each up to 16, then the powers of two, and K."""
    sizes = {n for n in range(1, num_responses + 1) if n <= _EVERY_SIZE_UP_TO or n & (n - 1) == 0}
    return sorted(sizes | {num_responses})


def expected_best(scores_PK: Tensor, n: int) -> Tensor:
    """Return best_P, the expected maximum of n of each prompt's K scores.

    Raises:
        ValueError: `n` is not between 1 and K.
    """
    if not 1 <= n <= scores_PK.shape[1]:
        raise ValueError(f"n {n} is not between 1 and {scores_PK.shape[1]}, the scores per prompt")
    return _expected_rank(scores_PK.double().sort(dim=1).values, n, n)


def _expected_rank(sorted_PK: Tensor, n: int, rank: int) -> Tensor:
    """Return the expected `rank`-th smallest of n samples of each prompt, over all subsets.

    The i-th smallest of K is the rank-th smallest of a subset when rank - 1 members lie below it
    and n - rank above.
    """
    total = sorted_PK.shape[1]
    weights = [
        comb(i, rank - 1) * comb(total - 1 - i, n - rank) / comb(total, n) for i in range(total)
    ]
    return sorted_PK @ torch.tensor(weights, dtype=torch.float64)
