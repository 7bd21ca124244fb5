"""Prompts of the sandbox: single turns and dialogues that lead up to a last user turn."""

import random
from dataclasses import dataclass

from records.dialogues import Dialogue
from simulation.grammar import (
    DEMONSTRATION_QUALITY,
    Quality,
    sample_request,
    write_follow_up,
    write_request,
    write_response,
)
from simulation.parsing import understand
from simulation.requests import Request

SAFETY_SHARE = 0.25
"""Share of unsafe prompts where the caller does not say."""
_MULTI_TURN_SHARE = 0.4
_FOLLOW_UP_SHARE = 0.7
"""How often a later turn depends on an earlier one, where it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPrompt:
    """A prompt and what is known of it."""

    dialogue: Dialogue
    kind: str
    """A kind of request (`fact`, `sum`, ...), `borderline`, or `unsafe`."""
    is_safety: bool
    """Whether the prompt was made to elicit an unsafe response."""
    risk_category: str | None
    """A `Risk`, as text; None for harmless prompts."""


def sample_prompt(rng: random.Random, *, is_safety: bool | None = None) -> SandboxPrompt:
    """Return a prompt of one to three exchanges, unsafe or harmless as asked.

    Earlier responses are of the quality of demonstrations.
    """
    if is_safety is None:
        is_safety = rng.random() < SAFETY_SHARE
    num_earlier = rng.choice((1, 1, 2)) if rng.random() < _MULTI_TURN_SHARE else 0
    dialogue = sample_dialogue(
        rng, num_earlier + 1, DEMONSTRATION_QUALITY, is_safety=is_safety, is_answered=False
    )
    return describe(dialogue)


def sample_follow_up(rng: random.Random, dialogue: Dialogue) -> str:
    """Return the user's next turn after a `dialogue` that ends with the assistant.

    Most depend on what was asked before; the others begin something new, unsafe after unsafe.

    Raises:
        ValueError: The dialogue ends with the user.
    """
    if dialogue.is_prompt:
        raise ValueError("a follow-up comes after a response; this dialogue ends with the user")
    return _next_turn(rng, dialogue, is_safety=_request_before(dialogue).is_unsafe)


def describe(prompt: Dialogue) -> SandboxPrompt:
    """Return `prompt` with what reading it tells."""
    request = understand(prompt)
    kind = "borderline" if request.is_borderline else request.kind.value
    risk = request.risk.value if request.risk is not None else None
    return SandboxPrompt(
        dialogue=prompt, kind=kind, is_safety=request.is_unsafe, risk_category=risk
    )


def sample_dialogue(
    rng: random.Random,
    num_exchanges: int,
    quality: Quality,
    *,
    is_safety: bool,
    is_answered: bool = True,
) -> Dialogue:
    """Return a dialogue of `num_exchanges` exchanges, the last about an unsafe request or not.

    Without `is_answered` it ends with the user: it is a prompt.
    """
    dialogue: Dialogue | None = None
    for index in range(num_exchanges):
        is_last = index == num_exchanges - 1
        is_unsafe = is_safety if is_last else rng.random() < _unsafe_before(is_safety=is_safety)
        dialogue = _with_user_turn(rng, dialogue, is_safety=is_unsafe)
        if is_answered or not is_last:
            response = write_response(rng, understand(dialogue), quality)
            dialogue = dialogue.followed_by(response)
    assert dialogue is not None, f"num_exchanges is {num_exchanges}, must be at least 1"
    return dialogue


def _unsafe_before(*, is_safety: bool) -> float:
    return 0.5 if is_safety else 0.1


def _with_user_turn(rng: random.Random, dialogue: Dialogue | None, *, is_safety: bool) -> Dialogue:
    if dialogue is None:
        return Dialogue.from_texts(write_request(rng, sample_request(rng, is_safety=is_safety)))
    return dialogue.followed_by(_next_turn(rng, dialogue, is_safety=is_safety))


def _next_turn(rng: random.Random, dialogue: Dialogue, *, is_safety: bool) -> str:
    before = _request_before(dialogue)
    if before.is_unsafe is is_safety and rng.random() < _FOLLOW_UP_SHARE:
        follow_up = write_follow_up(rng, before)
        if follow_up is not None:
            return follow_up
    return write_request(rng, sample_request(rng, is_safety=is_safety))


def _request_before(dialogue: Dialogue) -> Request:
    return understand(Dialogue(dialogue.turns[:-1], system=dialogue.system))
