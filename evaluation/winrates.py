"""How often one policy beats another, prompt by prompt."""

from collections.abc import Sequence
from typing import NamedTuple

from records.statistics import wilson_proportion


class WinRate(NamedTuple):
    """The share of prompts that are won, a tie counting one half, with its 95% interval."""

    value: float | None
    """(wins + ties / 2) / prompts; None without prompts."""
    low: float
    high: float
    num_wins: int
    num_ties: int
    num_losses: int


def win_rate(advantages: Sequence[float]) -> WinRate:
    """Return the win rate of advantages, one per prompt: positive a win, zero a tie.

    The value is (wins + ties / 2) / prompts; the interval is Wilson's for that share of as many
    independent prompts, which is on the wide side when there are ties.

    Raises:
        ValueError: An advantage is NaN.
    """
    num_wins = sum(advantage > 0 for advantage in advantages)
    num_ties = sum(advantage == 0 for advantage in advantages)
    num_losses = sum(advantage < 0 for advantage in advantages)
    if num_wins + num_ties + num_losses != len(advantages):
        raise ValueError("an advantage is NaN: a score function or a judge has failed")
    share = wilson_proportion(num_wins + num_ties / 2, len(advantages))
    return WinRate(share.value, share.low, share.high, num_wins, num_ties, num_losses)
