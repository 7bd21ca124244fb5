"""How often an annotator agrees with the truth, measured on pairs the grammar writes."""

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from records.dialogues import Dialogue
from records.preferences import Axis, Rating
from simulation.annotators import (
    SAFETY_PROMPT_SHARES,
    Persona,
    SimulatedAnnotator,
    true_difference,
)
from simulation.grammar import DEMONSTRATION_QUALITY, write_response
from simulation.parsing import understand
from simulation.prompts import sample_prompt


class Pair(NamedTuple):
    """Two responses to one prompt."""

    prompt: Dialogue
    left: str
    right: str


class Agreement(NamedTuple):
    """How a persona's verdicts compare with the truth; true ties count a half."""

    overall: float
    by_rating: dict[Rating, float]
    """Agreement among the verdicts of each rating given."""
    rating_shares: dict[Rating, float]


def sample_pairs(seed: int, num_pairs: int, axis: Axis) -> Iterator[Pair]:
    """Yield pairs of independent responses, of the quality of demonstrations.

    Prompts are those annotators write on this axis.
    """
    rng = random.Random(f"pairs:{axis}:{seed}")
    for _ in range(num_pairs):
        is_safety = rng.random() < SAFETY_PROMPT_SHARES[axis]
        prompt = sample_prompt(rng, is_safety=is_safety).dialogue
        request = understand(prompt)
        left, right = (write_response(rng, request, DEMONSTRATION_QUALITY) for _ in range(2))
        yield Pair(prompt, left, right)


def measure_agreement(persona: Persona, axis: Axis, *, seed: int, num_pairs: int) -> Agreement:
    """Return how often verdicts of `persona` prefer what `true_difference` prefers."""
    annotator = SimulatedAnnotator(persona, seed)
    agreed: dict[Rating, list[float]] = defaultdict(list)
    for pair in sample_pairs(seed, num_pairs, axis):
        verdict = annotator.judge(pair.prompt, pair.left, pair.right, axis)
        difference = true_difference(pair.prompt, pair.left, pair.right, axis)
        agrees = 0.5 if difference == 0.0 else float(verdict.prefers_left == (difference > 0.0))
        agreed[verdict.rating].append(agrees)
    return Agreement(
        overall=sum(sum(values) for values in agreed.values()) / num_pairs,
        by_rating={rating: sum(values) / len(values) for rating, values in agreed.items()},
        rating_shares={rating: len(values) / num_pairs for rating, values in agreed.items()},
    )
