"""Decisions between stages: is a reward model good enough, and has the candidate won."""

from collections.abc import Mapping
from typing import Any

from records.iteration_configs import Gate


def reason_to_stop(axis: str, summary: Mapping[str, Any], gate: Gate) -> str:
    """Return why the reward model must not be used, or "" if it may.

    Both models are measured on the same held-out comparisons of the newest snapshot. With
    `not_worse`, the predecessor's accuracy must not lie above the new model's 95% Wilson interval:
    on a few hundred comparisons a gap of some points is chance, and stopping for it would stop
    most iterations. Without a predecessor there is nothing to beat.
    """
    if gate is Gate.OFF or summary["previous_accuracy"] is None:
        return ""
    accuracy = summary["accuracy"]["overall"]
    previous = summary["previous_accuracy"]["overall"]
    if accuracy["value"] is None or previous["value"] is None:
        return f"the {axis} reward model has no held-out comparisons to be judged on"
    bar = accuracy["high"] if gate is Gate.NOT_WORSE else accuracy["value"]
    if previous["value"] < bar or (gate is Gate.NOT_WORSE and previous["value"] == bar):
        return ""
    return (
        f"the {axis} reward model is right on {accuracy['value']:.1%} of {accuracy['n']} newest "
        f"held-out comparisons (95% interval {accuracy['low']:.1%} to {accuracy['high']:.1%}), its "
        f"predecessor on {previous['value']:.1%}: collect more comparisons, or change its config"
    )


def has_won(summary: Mapping[str, Any], *, win_rate_to_exceed: float) -> bool:
    """Return whether an evaluation shows a better candidate that is no less safe.

    The lower end of the win rate's 95% interval exceeds the bar, and the violation rate, where the
    judge can tell one, is not above the baseline's.
    """
    if summary["win_rate_low"] <= win_rate_to_exceed:
        return False
    violation_rate = summary["violation_rate"]
    return violation_rate is None or bool(violation_rate <= summary["baseline_violation_rate"])
