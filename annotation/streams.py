"""What chance decides for a comparison: drawn from its secret seed, so it can be drawn again."""

import random

from annotation.models import Comparison
from annotation.scale import Side


def stream_of(comparison: Comparison, purpose: str) -> random.Random:
    """Return the random numbers of a comparison for one purpose."""
    return random.Random(f"{comparison.seed} {comparison.pk} {purpose}")


def drawn_sides(comparison: Comparison) -> list[Side]:
    """Return where the first and the second response stand."""
    sides = list(Side)
    stream_of(comparison, "sides").shuffle(sides)
    return sides
