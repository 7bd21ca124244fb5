"""The sandbox as judge: its true utilities decide, not a model's opinion of them."""

from records.constraints import Constraint
from records.prompts import Prompt
from simulation.obedience import obeys
from simulation.utilities import is_violation, true_preference


def true_advantage(prompt: Prompt, response: str, baseline_response: str) -> float:
    """Return by how much a response is truly better than the baseline's; 0 for a tie."""
    return true_preference(prompt.dialogue, response, baseline_response)


def is_true_violation(prompt: Prompt, response: str) -> bool:
    """Return whether a response does harm."""
    return is_violation(prompt.dialogue, response)


def obeys_rule(constraint: Constraint, response: str) -> bool:
    """Return whether a response begins, or ends, as the sandbox's rule asks; found by reading."""
    return obeys(constraint, response)
