"""The guard before the annotator: which pairs of responses nobody can or should compare."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from annotation.likeness import NEAR_IDENTICAL, likeness
from annotation.models import SamplingEvent
from annotation.services.texts import tag_in

_MODELS = (
    "alpaca|bard|bloom|chatgpt|claude|cohere|copilot|deepseek|falcon|gemini|gemma|gpt|gpt-3|gpt-4|"
    "grok|llama|mistral|mixtral|palm|phi|qwen|vicuna"
)
_VENDORS = "alibaba|anthropic|cohere|deepseek|facebook|google|meta|microsoft|mistral|openai|xai"
_INTRODUCTION = (
    r"(?:\b(?:i\s+am|i['’]m|my\s+name\s+is|i\s+am\s+called|you\s+are\s+(?:talking|speaking)\s+"
    r"(?:to|with))|(?:^|[.!?\n]\s*)as)"
    r"\s+(?:(?:a|an|the|called|named|large|language|ai|assistant|chatbot|model)[\s,]+){0,6}"
)
_ORIGIN = (
    r"\bi(?:\s+am|['’]m|\s+was|\s+have\s+been)\b[^.!?\n]{0,60}"
    r"\b(?:trained|made|created|developed|built)\s+by\s+[^.!?\n]{0,30}?"
)


class Response(NamedTuple):
    """What the guard looks at."""

    text: str
    is_finished: bool
    num_tokens: int
    max_new_tokens: int | None
    """None where the limit is not known."""


def problem_of_pair(
    responses: Sequence[Response], policy_names: Sequence[str]
) -> SamplingEvent.Reason | None:
    """Return why two responses must not be put before an annotator; None if they may.

    * One is empty, or stops before its limit without having come to its end: an error cut it.
    * One holds a mark of the chat format: no dialogue could go on from it.
    * One introduces itself by the name of a model, a vendor or a policy of the round.
    * They are the same but for case, punctuation and spacing, or share nine tenths of their pieces.
    """
    texts = [response.text.strip() for response in responses]
    if not all(texts):
        return SamplingEvent.Reason.EMPTY
    if any(_was_cut(response) for response in responses):
        return SamplingEvent.Reason.TRUNCATED
    if any(tag_in(text) for text in texts):
        return SamplingEvent.Reason.HOLDS_TAG
    if any(names_itself(text, policy_names) for text in texts):
        return SamplingEvent.Reason.NAMES_ITSELF
    if texts[0] == texts[1]:
        return SamplingEvent.Reason.IDENTICAL
    if likeness(*texts) >= NEAR_IDENTICAL:
        return SamplingEvent.Reason.NEAR_IDENTICAL
    return None


def names_itself(text: str, policy_names: Sequence[str] = ()) -> bool:
    """Whether a response says which model it is or who made it; to mention one is no harm."""
    names = "|".join([_MODELS, _VENDORS, *(re.escape(name) for name in policy_names)])
    introduction = rf"{_INTRODUCTION}(?:{names})\b"
    origin = rf"{_ORIGIN}\b(?:{_VENDORS})\b"
    return re.search(f"{introduction}|{origin}", text, re.IGNORECASE) is not None


def _was_cut(response: Response) -> bool:
    """Whether it stopped neither at its end nor at its limit."""
    if response.is_finished or response.max_new_tokens is None:
        return False
    return response.num_tokens < response.max_new_tokens
