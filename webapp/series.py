"""Series of points made fit to be drawn: fewer of them, and less noise."""

import math
from collections.abc import Sequence
from itertools import accumulate

_MAX_POINTS = 240
_MIN_SMOOTHED = 40

Points = Sequence[tuple[float, float]]
"""(x, y) in order of x."""


def thinned(points: Points) -> list[tuple[float, float]]:
    """Return the lowest and highest point of each of `_MAX_POINTS` / 2 equal stretches."""
    if len(points) <= _MAX_POINTS:
        return list(points)
    size = math.ceil(len(points) / (_MAX_POINTS // 2))
    kept: set[int] = {0, len(points) - 1}
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        kept.add(min(stretch, key=lambda i: points[i][1]))
        kept.add(max(stretch, key=lambda i: points[i][1]))
    return [points[i] for i in sorted(kept)]


def smoothed(points: Points) -> Points:
    """Return means over about a twentieth of the points, those on both sides; short series as is.

    Towards an end those on that side are fewer.
    """
    if len(points) < _MIN_SMOOTHED:
        return points
    sums = list(accumulate((y for _, y in points), initial=0.0))
    reach = len(points) // 40 + 1
    means = []
    for i, (x, _) in enumerate(points):
        low, high = max(0, i - reach), min(len(points), i + reach + 1)
        means.append((x, (sums[high] - sums[low]) / (high - low)))
    return means
