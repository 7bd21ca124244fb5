"""Estimates with their 95% interval, and the quantiles that intervals are made of."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Z_95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution."""
_CLOSED_FORM_UP_TO = 200


class Estimate(NamedTuple):
    """A number with its 95% interval from `n` items; None where the data do not say."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def student_quantile(degrees: int) -> float:
    """Return the 97.5% quantile of Student's t, exact to about 1e-10.

    Up to 200 degrees of freedom the closed form of the distribution (Abramowitz & Stegun, 26.7.3
    and 26.7.4) is inverted by bisection; above that its expansion in 1 / degrees (26.7.5) is used.

    Raises:
        ValueError: `degrees` is below 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, not {degrees}")
    if degrees > _CLOSED_FORM_UP_TO:
        return _expanded_quantile(degrees)
    low, high = 1.0, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central_mass(middle, degrees) < 0.95 else (low, middle)
    return (low + high) / 2


def quantile_estimate(values: Sequence[float], share: float) -> Estimate:
    """Return the `share` quantile (linear between ranks) with a distribution-free interval.

    The interval runs between the values of ranks n·share ± 1.96·sqrt(n·share·(1 - share)), rounded
    outwards: the binomial count of values below the true quantile, by its normal approximation. An
    end that lies beyond the least or greatest value is None.
    """
    ranked = sorted(values)
    n = len(ranked)
    if n == 0:
        return Estimate(None, None, None, 0)
    place = share * (n - 1)
    below = math.floor(place)
    above = min(below + 1, n - 1)
    value = ranked[below] + (place - below) * (ranked[above] - ranked[below])
    spread = Z_95 * math.sqrt(n * share * (1 - share))
    lowest, highest = math.floor(n * share - spread) - 1, math.ceil(n * share + spread)
    low = ranked[lowest] if lowest >= 0 else None
    high = ranked[highest] if highest < n else None
    return Estimate(value, low, high, n)


def _central_mass(t: float, degrees: int) -> float:
    """Return P(-t <= T <= t)."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2 == 1
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    first = 1 if is_odd else 0
    for power in range(first, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total


def _expanded_quantile(degrees: int) -> float:
    z = Z_95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, 1))
