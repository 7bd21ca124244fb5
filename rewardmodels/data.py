"""From preferences to pairs of token rows: what is left out, and why."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, encode_prompt, encode_response, fit_prompt
from language.rows import TokenRow
from records.preferences import Preference, Rating, SafetyBin


class Pair(NamedTuple):
    """A comparison in token ids; both rows begin with the same prompt."""

    chosen: TokenRow
    rejected: TokenRow
    rating: Rating | None
    safety_bin: SafetyBin | None

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt, read once, and of both responses."""
        return self.chosen.num_tokens + len(self.rejected.response_ids)


class EncodedPairs(NamedTuple):
    """Preferences as pairs of token rows."""

    pairs: list[Pair]
    kept: list[int]
    """Which of the preferences each pair was."""
    skipped: Counter[str]
    """Number left out, by reason: `identical`, `too_long` or `holds_tags`."""
    num_shortened: int
    """Pairs that lost their oldest exchanges to fit."""


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, preferences: Iterable[Preference], *, max_tokens: int
) -> EncodedPairs:
    """Return the pairs of `preferences`, every row at most `max_tokens` long.

    An overlong pair loses its oldest exchanges, the same ones on both sides; a response is never
    cut, so its end and its end-of-sequence token always stand. Left out and counted are pairs that
    do not fit even so (`too_long`), whose two responses are the same tokens (`identical`), or whose
    text imitates the chat format's tags (`holds_tags`).
    """
    pairs: list[Pair] = []
    skipped: Counter[str] = Counter()
    kept: list[int] = []
    num_shortened = 0
    for index, preference in enumerate(preferences):
        try:
            chosen_ids = tuple(encode_response(tokenizer, preference.chosen))
            rejected_ids = tuple(encode_response(tokenizer, preference.rejected))
            room = max_tokens - max(len(chosen_ids), len(rejected_ids))
            whole = encode_prompt(tokenizer, preference.prompt)
            is_whole = len(whole) <= room
            fitted = whole if is_whole else fit_prompt(tokenizer, preference.prompt, room)
        except TagInjectionError:
            skipped["holds_tags"] += 1
            continue
        if fitted is None:
            skipped["too_long"] += 1
        elif chosen_ids == rejected_ids:
            skipped["identical"] += 1
        else:
            num_shortened += not is_whole
            prompt_ids = tuple(fitted)
            chosen, rejected = TokenRow(prompt_ids, chosen_ids), TokenRow(prompt_ids, rejected_ids)
            pairs.append(Pair(chosen, rejected, preference.rating, preference.safety_bin))
            kept.append(index)
    return EncodedPairs(pairs, kept, skipped, num_shortened)
