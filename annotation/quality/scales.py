"""Scales of judgement: ordered categories, and which of the two samples each prefers."""

from typing import NamedTuple

from records.preferences import Rating


class Scale(NamedTuple):
    """Ordered categories from "the first sample is much better" to "the second is".

    `directions` holds -1 for a category that prefers the first sample, 1 for the second, 0 for a
    tie.
    """

    directions: tuple[int, ...]

    @property
    def num_categories(self) -> int:
        """How many categories there are."""
        return len(self.directions)


EIGHT_STEPS = Scale((-1,) * len(Rating) + (1,) * len(Rating))
"""Ours: forced choice in four degrees, mirrored."""


def mirrored_scale(num_degrees: int) -> Scale:
    """Return a scale with a tie in its middle and `num_degrees` on either side of it."""
    return Scale((-1,) * num_degrees + (0,) + (1,) * num_degrees)


def step_of(rating: str, *, prefers_first: bool) -> int:
    """Return the category of a judgement on `EIGHT_STEPS`, from the samples' order, not the sides.

    Raises:
        ValueError: There is no such rating.
    """
    degree = list(Rating).index(Rating(rating))
    return degree if prefers_first else EIGHT_STEPS.num_categories - 1 - degree
