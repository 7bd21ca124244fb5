"""The max-versus-median curve: what rejection sampling stands to gain from more samples.

Shapes: P prompts, K responses per prompt.
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

    The two lines of arXiv:2307.09288, figure 7. The expectation is exact, over all subsets of n of
    a prompt's K samples, and so has less noise than the first n samples would give. Up to 16 each
    n is listed, beyond that the powers of two and K.
    """
    num_responses = scores_PK.shape[1]
    sorted_PK = scores_PK.double().sort(dim=1).values
    sizes = {n for n in range(1, num_responses + 1) if n <= _EVERY_SIZE_UP_TO or n & (n - 1) == 0}
    points = []
    for n in sorted(sizes | {num_responses}):
        middle = (
            _expected_rank(sorted_PK, n, (n + 1) // 2),
            _expected_rank(sorted_PK, n, n // 2 + 1),
        )
        points.append(CurvePoint(n, _expected_rank(sorted_PK, n, n), sum(middle) / 2))
    return points


def _expected_rank(sorted_PK: Tensor, n: int, rank: int) -> float:
    """Return the mean over prompts of the `rank`-th smallest of n samples, over all subsets.

    The i-th smallest of K is the rank-th smallest of a subset when rank - 1 members lie below it
    and n - rank above.
    """
    total = sorted_PK.shape[1]
    weights = [
        comb(i, rank - 1) * comb(total - 1 - i, n - rank) / comb(total, n) for i in range(total)
    ]
    return float((sorted_PK @ torch.tensor(weights, dtype=torch.float64)).mean())
