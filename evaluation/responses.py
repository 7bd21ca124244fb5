"""Sampling one response per prompt for an evaluation."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, fit_prompt
from language.engines import Engine
from language.generation import GeneratedResponse, GenerationRequest
from language.tokenizers import eos_id_of
from records.prompts import Prompt
from records.run_configs import SamplingConfig


class EncodedPrompt(NamedTuple):
    """A prompt that both policies answer."""

    prompt: Prompt
    ids: tuple[int, ...]
    number: int
    """Its place among all prompts, which seeds the responses to it."""


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Iterable[Prompt], *, max_tokens: int
) -> tuple[list[EncodedPrompt], Counter[str]]:
    """Return the prompts in at most `max_tokens` each, and the number left out by reason.

    Oldest exchanges go where they must. Left out is what does not fit even so (`too_long`) or holds
    the chat format's own tags (`holds_tags`).
    """
    encoded: list[EncodedPrompt] = []
    skipped: Counter[str] = Counter()
    for number, prompt in enumerate(prompts):
        try:
            ids = fit_prompt(tokenizer, prompt.dialogue, max_tokens)
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if ids is None:
            skipped["too_long"] += 1
        else:
            encoded.append(EncodedPrompt(prompt, tuple(ids), number))
    return encoded, skipped


def sample_responses(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[EncodedPrompt],
    *,
    sampling: SamplingConfig,
    seed_text: str,
    rows_per_batch: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[GeneratedResponse]:
    """Return one response per prompt, in order.

    Every prompt has a seed of its own, made from `seed_text` and its number: policies with
    different texts draw independently, and the same text draws the same again.
    """
    requests = [
        GenerationRequest(
            prompt_ids=item.ids,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            seed=seed_of_text(f"{seed_text}:{item.number}"),
        )
        for item in encoded
    ]
    generated = engine.generate(
        requests,
        eos_ids={eos_id_of(tokenizer)},
        rows_per_batch=rows_per_batch,
        on_progress=on_progress,
    )
    return [only for (only,) in generated]


def seed_of_text(text: str) -> int:
    """Return a seed of 31 bits that any change of `text` changes."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
