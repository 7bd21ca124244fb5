"""When a reward model passes, and when a candidate has won."""

from typing import Any

import pytest

from records.iteration_configs import Gate
from workers.gates import has_won, reason_to_stop


def accuracy(value: float | None, low: float, high: float) -> dict[str, Any]:
    return {"overall": {"value": value, "low": low, "high": high, "n": 200, "ties": 0}}


NEW = accuracy(0.75, 0.69, 0.80)


@pytest.mark.parametrize(
    ("gate", "previous", "passes"),
    [
        (Gate.NOT_WORSE, None, True),  # the first of its axis has nobody to beat
        (Gate.NOT_WORSE, 0.70, True),
        (Gate.NOT_WORSE, 0.78, True),  # above the new one's value, within its interval: chance
        (Gate.NOT_WORSE, 0.80, True),  # on the interval's upper end
        (Gate.NOT_WORSE, 0.81, False),  # beyond it
        (Gate.BETTER, None, True),
        (Gate.BETTER, 0.74, True),
        (Gate.BETTER, 0.75, False),  # a draw is not better
        (Gate.BETTER, 0.78, False),
        (Gate.OFF, 0.99, True),
    ],
)
def test_a_reward_model_is_held_against_its_predecessor(
    gate: Gate, previous: float | None, passes: bool
) -> None:
    before = None if previous is None else accuracy(previous, 0.0, 1.0)
    summary = {"accuracy": NEW, "previous_accuracy": before}
    reason = reason_to_stop("safety", summary, gate)
    assert (reason == "") is passes


def test_the_reason_gives_both_accuracies_and_says_what_to_do() -> None:
    summary = {"accuracy": NEW, "previous_accuracy": accuracy(0.9, 0.85, 0.93)}
    assert reason_to_stop("safety", summary, Gate.NOT_WORSE) == (
        "the safety reward model is right on 75.0% of 200 newest held-out comparisons (95% "
        "interval 69.0% to 80.0%), its predecessor on 90.0%: collect more comparisons, or change "
        "its config"
    )


def test_without_held_out_comparisons_nobody_beats_a_predecessor() -> None:
    nothing = accuracy(None, 0.0, 1.0)
    summary = {"accuracy": nothing, "previous_accuracy": nothing}
    assert "no held-out comparisons" in reason_to_stop("safety", summary, Gate.NOT_WORSE)


@pytest.mark.parametrize(
    ("low", "violations", "baseline_violations", "wins"),
    [
        (0.51, None, None, True),  # the judge cannot tell violations
        (0.50, None, None, False),  # the interval touches one half
        (0.60, 0.10, 0.10, True),
        (0.60, 0.11, 0.10, False),  # better liked, less safe
    ],
)
def test_a_winner_is_surely_preferred_and_no_less_safe(
    low: float, violations: float | None, baseline_violations: float | None, wins: bool
) -> None:
    summary = {
        "win_rate_low": low,
        "violation_rate": violations,
        "baseline_violation_rate": baseline_violations,
    }
    assert has_won(summary, win_rate_to_exceed=0.5) is wins
