"""From prompts and demonstrations to token ids: what is encoded, what is left out, and why."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import (
    B_INST,
    B_SYS,
    E_INST,
    E_SYS,
    TagInjectionError,
    encode_prompt,
    encode_response,
    fit_prompt,
)
from language.rows import TokenRow
from records.dialogues import Dialogue
from records.prompts import Demonstration, Prompt, read_demonstrations


class EncodedRows(NamedTuple):
    """Demonstrations as token rows, in their order."""

    rows: list[TokenRow]
    skipped: Counter[str]
    """Number left out, by reason: `too_long` or `holds_tags`."""
    num_shortened: int
    """Rows that lost their oldest exchanges to fit."""


class EncodedPrompt(NamedTuple):
    """A prompt with the ids a policy continues."""

    prompt: Prompt
    ids: tuple[int, ...]


class EncodedPrompts(NamedTuple):
    """Prompts with their ids, in their order."""

    prompts: list[EncodedPrompt]
    skipped: Counter[str]
    """Number left out, by reason: `too_long` or `holds_tags`."""
    num_shortened: int
    """Prompts that lost their oldest exchanges to fit."""


def encode_demonstrations(
    tokenizer: PreTrainedTokenizerBase, demonstrations: Iterable[Demonstration], *, max_tokens: int
) -> EncodedRows:
    """Return the rows of `demonstrations`, each at most `max_tokens` long.

    A longer one loses its oldest exchanges. A response is never cut, so its end token always
    stands; where it does not fit with the last user turn the demonstration is left out and counted,
    as it is where a text imitates the chat format's tags.
    """
    rows: list[TokenRow] = []
    skipped: Counter[str] = Counter()
    num_shortened = 0
    for demonstration in demonstrations:
        try:
            response_ids = tuple(encode_response(tokenizer, demonstration.response))
            room = max_tokens - len(response_ids)
            prompt_ids, is_shortened = _fitted(tokenizer, demonstration.prompt, room)
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if prompt_ids is None:
            skipped["too_long"] += 1
            continue
        num_shortened += is_shortened
        rows.append(TokenRow(prompt_ids, response_ids))
    return EncodedRows(rows, skipped, num_shortened)


def rows_beside(
    tokenizer: PreTrainedTokenizerBase, paths: Mapping[str, Path], *, max_tokens: int
) -> list[TokenRow]:
    """Return the rows of a run's optional input `demonstrations`, trained on beside what it makes.

    None where it has no such input.
    """
    if "demonstrations" not in paths:
        return []
    demonstrations = read_demonstrations(paths["demonstrations"])
    return encode_demonstrations(tokenizer, demonstrations, max_tokens=max_tokens).rows


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Iterable[Prompt], *, max_tokens: int
) -> EncodedPrompts:
    """Return `prompts` with ids, at most `max_tokens` each, shortened as demonstrations are."""
    encoded: list[EncodedPrompt] = []
    skipped: Counter[str] = Counter()
    num_shortened = 0
    for prompt in prompts:
        try:
            ids, is_shortened = _fitted(tokenizer, prompt.dialogue, max_tokens)
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if ids is None:
            skipped["too_long"] += 1
            continue
        num_shortened += is_shortened
        encoded.append(EncodedPrompt(prompt, ids))
    return EncodedPrompts(encoded, skipped, num_shortened)


def exchange_texts(demonstration: Demonstration) -> list[str]:
    """Return the text of each exchange in the chat format: what a tokenizer is trained on."""
    dialogue: Dialogue = demonstration.prompt.followed_by(demonstration.response)
    texts = [turn.text.strip() for turn in dialogue.turns]
    if dialogue.system:
        texts[0] = f"{B_SYS}{dialogue.system}{E_SYS}{texts[0]}"
    pairs = zip(texts[::2], texts[1::2], strict=True)
    return [f"{B_INST} {user} {E_INST} {response} " for user, response in pairs]


def _fitted(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, max_tokens: int
) -> tuple[tuple[int, ...] | None, bool]:
    """Return the prompt's ids in at most `max_tokens` (or None), and whether it was shortened."""
    ids = encode_prompt(tokenizer, dialogue)
    if len(ids) <= max_tokens:
        return tuple(ids), False
    shorter = fit_prompt(tokenizer, dialogue, max_tokens)
    return (None if shorter is None else tuple(shorter)), shorter is not None
