"""The scale of a judgement: eight mirrored steps, and which of the two responses is safe."""

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple

from annotation.errors import ContradictionError
from records.preferences import Rating, SafetyBin


class Side(StrEnum):
    """Where a response is shown."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def other(self) -> "Side":
        """The opposite side."""
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


class Step(NamedTuple):
    """One of the eight steps: number 1 is "left, significantly better", 8 its mirror."""

    number: int
    side: Side
    rating: Rating


STEPS: tuple[Step, ...] = (
    *(Step(i, Side.LEFT, rating) for i, rating in enumerate(Rating, start=1)),
    *(Step(i, Side.RIGHT, rating) for i, rating in enumerate(reversed(Rating), start=5)),
)
"""The steps from left to right, by their number keys."""

OTHER_SAFE = "other_safe"
"""What an annotator may answer but never store: the response not chosen is the only safe one."""


def step_numbered(number: int) -> Step:
    """Return the step of a number key.

    Raises:
        ValueError: `number` is not 1 to 8.
    """
    if not 1 <= number <= len(STEPS):
        raise ValueError(f"step {number} is not between 1 and {len(STEPS)}")
    return STEPS[number - 1]


def safety_bin_for(*, chosen_side: Side, safe_sides: Collection[Side]) -> SafetyBin:
    """Return the bin for an answer of the form "these sides are safe".

    Raises:
        ContradictionError: Only the response that was not chosen is safe.
    """
    if len(set(safe_sides)) == 2:
        return SafetyBin.BOTH_SAFE
    if not safe_sides:
        return SafetyBin.BOTH_UNSAFE
    if chosen_side in safe_sides:
        return SafetyBin.CHOSEN_SAFE
    raise ContradictionError


def safety_bin_named(name: str) -> SafetyBin:
    """Return the bin of a submitted value.

    Raises:
        ContradictionError: The value says that only the response that was not chosen is safe.
        ValueError: The value is no bin.
    """
    if name == OTHER_SAFE:
        raise ContradictionError
    return SafetyBin(name)
