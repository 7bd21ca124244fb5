"""Weights of partial agreement between ordered categories 1 ... K (Gwet 2014, section 3.5)."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class Weighting(StrEnum):
    """How near two categories are: 1 for the same one, 0 for the farthest."""

    IDENTITY = "identity"
    LINEAR = "linear"
    QUADRATIC = "quadratic"
    ORDINAL = "ordinal"
    RADICAL = "radical"
    RATIO = "ratio"
    CIRCULAR = "circular"
    BIPOLAR = "bipolar"


def weight_matrix(weighting: Weighting, num_categories: int) -> NDArray[np.float64]:
    """Return the K × K weights: w = 1 - d / max(d) for the distances d of the scheme.

    With categories k and l from 1 to K: linear |k - l|, quadratic (k - l)², radical sqrt(|k - l|),
    ordinal C(|k - l| + 1, 2), ratio ((k - l) / (k + l))², circular sin²(π (k - l) / K), bipolar
    (k - l)² / ((k + l - 2) (2K - k - l)).

    Raises:
        ValueError: There are fewer than two categories.
    """
    if num_categories < 2:
        raise ValueError(f"agreement needs at least 2 categories, not {num_categories}")
    values = np.arange(1.0, num_categories + 1)
    first, second = values[:, None], values[None, :]
    gap, total = np.abs(first - second), first + second
    match weighting:
        case Weighting.IDENTITY:
            distances = (gap > 0).astype(float)
        case Weighting.LINEAR:
            distances = gap
        case Weighting.QUADRATIC:
            distances = gap**2
        case Weighting.ORDINAL:
            distances = gap * (gap + 1) / 2
        case Weighting.RADICAL:
            distances = np.sqrt(gap)
        case Weighting.RATIO:
            distances = (gap / total) ** 2
        case Weighting.CIRCULAR:
            distances = np.sin(np.pi * gap / num_categories) ** 2
        case Weighting.BIPOLAR:
            room = (total - 2) * (2 * num_categories - total)
            distances = np.divide(gap**2, room, out=np.zeros_like(room), where=gap > 0)
    weights: NDArray[np.float64] = 1 - distances / distances.max()
    return weights
