"""Simulated annotators: graded verdicts from the true utilities, with noise, habits and care."""

import math
import random
from dataclasses import dataclass
from typing import NamedTuple

from records.dialogues import Dialogue
from records.preferences import Axis, Rating, SafetyBin
from simulation.prompts import SandboxPrompt, sample_follow_up, sample_prompt
from simulation.utilities import helpfulness, is_violation, safety


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """A kind of annotator, with known quality."""

    name: str
    noise: float = 0.0
    """Scale of the logistic noise added to the difference of utilities."""
    misreading: float = 0.0
    """Probability of taking one response's violation for none, or the other way round."""
    position_bias: float = 0.0
    """Added in favour of the left response."""
    length_bias: float = 0.0
    """Added in favour of the longer response, per unit of log length ratio."""
    carelessness: float = 0.0
    """Probability of a verdict drawn without reading."""
    expected_accuracy: float
    """Share of `agreement.measure_agreement` on helpfulness; the persona's known quality."""


PERSONAS: dict[str, Persona] = {
    persona.name: persona
    for persona in (
        Persona(
            name="careful", noise=0.12, misreading=0.01, carelessness=0.03, expected_accuracy=0.93
        ),
        Persona(
            name="average", noise=0.35, misreading=0.04, carelessness=0.05, expected_accuracy=0.86
        ),
        Persona(name="hasty", noise=0.5, misreading=0.1, carelessness=0.2, expected_accuracy=0.78),
        Persona(
            name="position_biased",
            noise=0.35,
            misreading=0.04,
            position_bias=1.0,
            expected_accuracy=0.78,
        ),
        Persona(
            name="length_biased",
            noise=0.35,
            misreading=0.04,
            length_bias=1.5,
            expected_accuracy=0.80,
        ),
        Persona(name="random", carelessness=1.0, expected_accuracy=0.5),
    )
}

_THRESHOLDS: dict[Axis, tuple[float, float, float]] = {
    Axis.HELPFULNESS: (2.6, 1.45, 0.7),
    Axis.SAFETY: (3.0, 1.2, 0.3),
}
"""Least difference for significantly better, better and slightly better."""
SAFETY_PROMPT_SHARES = {Axis.HELPFULNESS: 0.05, Axis.SAFETY: 0.75}
"""Share of unsafe prompts that annotators write, by the round's axis."""
_HELPFULNESS_SHARE = 0.3
"""Weight of helpfulness beside safety in a safety verdict."""


class Verdict(NamedTuple):
    """One judgement of a pair."""

    prefers_left: bool
    rating: Rating
    safety_bin: SafetyBin | None
    """Set on the safety axis only."""


class SimulatedAnnotator:
    """One annotator: a persona with a random stream of its own."""

    def __init__(self, persona: Persona, seed: int) -> None:
        self.persona = persona
        self._rng = random.Random(f"{persona.name}:{seed}")

    def write_prompt(self, axis: Axis) -> SandboxPrompt:
        """Return a prompt as a round of this axis asks for: mostly unsafe ones on safety."""
        is_safety = self._rng.random() < SAFETY_PROMPT_SHARES[axis]
        return sample_prompt(self._rng, is_safety=is_safety)

    def follow_up(self, dialogue: Dialogue) -> str:
        """Return the next user turn after a dialogue that ends with the assistant."""
        return sample_follow_up(self._rng, dialogue)

    def judge(self, prompt: Dialogue, left: str, right: str, axis: Axis) -> Verdict:
        """Return a verdict; it never prefers a response it holds unsafe to one it holds safe."""
        persona, rng = self.persona, self._rng
        if rng.random() < persona.carelessness:
            bins = tuple(SafetyBin) if axis is Axis.SAFETY else (None,)
            return Verdict(rng.random() < 0.5, rng.choice(tuple(Rating)), rng.choice(bins))
        difference = true_difference(prompt, left, right, axis)
        observed = difference + self._error(left, right)
        rating = rating_of(abs(observed), axis)
        prefers_left = observed > 0.0
        if difference == 0.0:
            prefers_left, rating = rng.random() < 0.5, Rating.NEGLIGIBLY_BETTER
        if axis is Axis.HELPFULNESS:
            return Verdict(prefers_left, rating, None)
        return self._safety_verdict(
            prefers_left, rating, self._is_unsafe(prompt, left), self._is_unsafe(prompt, right)
        )

    def _error(self, left: str, right: str) -> float:
        """Return what noise and habits add in favour of the left response."""
        uniform = self._rng.uniform(1e-9, 1.0 - 1e-9)
        noise = self.persona.noise * math.log(uniform / (1.0 - uniform))
        ratio = math.log((1 + len(left.split())) / (1 + len(right.split())))
        return noise + self.persona.position_bias + self.persona.length_bias * ratio

    def _is_unsafe(self, prompt: Dialogue, response: str) -> bool:
        return is_violation(prompt, response) != (self._rng.random() < self.persona.misreading)

    def _safety_verdict(
        self, prefers_left: bool, rating: Rating, is_left_unsafe: bool, is_right_unsafe: bool
    ) -> Verdict:
        if is_left_unsafe and is_right_unsafe:
            return Verdict(prefers_left, rating, SafetyBin.BOTH_UNSAFE)
        if not is_left_unsafe and not is_right_unsafe:
            return Verdict(prefers_left, rating, SafetyBin.BOTH_SAFE)
        if prefers_left is is_left_unsafe:  # what it holds safe wins, if only just
            prefers_left, rating = not prefers_left, Rating.NEGLIGIBLY_BETTER
        return Verdict(prefers_left, rating, SafetyBin.CHOSEN_SAFE)


def true_difference(prompt: Dialogue, left: str, right: str, axis: Axis) -> float:
    """Return by how much `left` is truly better on an axis: the quantity that is judged."""
    difference = helpfulness(prompt, left) - helpfulness(prompt, right)
    if axis is Axis.SAFETY:
        difference = _HELPFULNESS_SHARE * difference + safety(prompt, left) - safety(prompt, right)
    return round(difference, 9)


def rating_of(distance: float, axis: Axis) -> Rating:
    """Return the rating that a difference of utilities of this size deserves."""
    for rating, threshold in zip(Rating, _THRESHOLDS[axis], strict=False):
        if distance >= threshold:
            return rating
    return Rating.NEGLIGIBLY_BETTER
