"""The Llama 2 chat format, in token ids (github.com/meta-llama/llama, generation.py).

A finished exchange is `BOS + "[INST] user [/INST] answer " + EOS`, an open one
`BOS + "[INST] user [/INST]"`; exchanges follow one another, each encoded by itself. The tags are
plain text. The system prompt is part of the first user turn.
"""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.tokenizers import bos_id_of, eos_id_of, plain_ids
from records.dialogues import Dialogue

B_INST, E_INST = "[INST]", "[/INST]"
B_SYS, E_SYS = "<<SYS>>\n", "\n<</SYS>>\n\n"
TAGS = (B_INST, E_INST, "<<SYS>>", "<</SYS>>")


class TagInjectionError(ValueError):
    """A message holds one of the format's own tags, so it could pose as another speaker.

    Attributes:
        tag: The tag found.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(f"a message must not hold {tag}; remove it and send the message again")
        self.tag = tag


class EncodedDialogue(NamedTuple):
    """The ids of a finished dialogue."""

    ids: tuple[int, ...]
    response_mask: tuple[bool, ...]
    """True on every token of every assistant turn, its end token included."""


def encode_prompt(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> list[int]:
    """Return the ids a policy continues: finished exchanges, then the open one.

    Raises:
        ValueError: The dialogue does not end with a user turn.
        TagInjectionError: A message holds a tag of the format.
    """
    if not dialogue.is_prompt:
        raise ValueError("dialogue: the last turn of a prompt is the user's")
    return [token for part in _exchanges(tokenizer, dialogue) for token in part.ids]


def encode_response(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids that follow a prompt's when it is answered by `text`; the last ends the turn.

    Raises:
        TagInjectionError: `text` holds a tag of the format.
    """
    _refuse_tags(text)
    tag_ids = plain_ids(tokenizer, E_INST)
    ids = plain_ids(tokenizer, f"{E_INST} {text.strip()} ")
    if ids[: len(tag_ids)] != tag_ids:
        raise ValueError(
            "tokenizer: it merges the end of a prompt with the beginning of its response, "
            "so the two cannot be told apart in ids; use a tokenizer of Llama 2's construction"
        )
    return [*ids[len(tag_ids) :], eos_id_of(tokenizer)]


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of sampled ids, without end token and surrounding whitespace.

    The null character, a byte that a model may sample, becomes U+FFFD: no database stores it.
    """
    text = tokenizer.decode(list(ids), skip_special_tokens=True)
    assert isinstance(text, str)
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").strip()


def encode_dialogue(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> EncodedDialogue:
    """Return the ids of a finished dialogue and which of them the assistant spoke.

    Raises:
        ValueError: The dialogue ends with a user turn.
        TagInjectionError: A message holds a tag of the format.
    """
    if dialogue.is_prompt:
        raise ValueError("dialogue: a finished dialogue ends with the assistant's turn")
    parts = _exchanges(tokenizer, dialogue)
    ids = tuple(token for part in parts for token in part.ids)
    return EncodedDialogue(ids, tuple(flag for part in parts for flag in part.response_mask))


def fit_prompt(
    tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue, max_tokens: int
) -> list[int] | None:
    """Return the prompt's ids in at most `max_tokens`, leaving out its oldest exchanges if needed.

    The system prompt is always kept. None when not even the last user turn fits.

    Raises:
        TagInjectionError: A message holds a tag of the format.
    """
    turns = dialogue.turns
    for first in range(0, len(turns), 2):
        shorter = Dialogue(turns[first:], system=dialogue.system)
        ids = encode_prompt(tokenizer, shorter)
        if len(ids) <= max_tokens:
            return ids
    return None


def _exchanges(tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> list[EncodedDialogue]:
    """Return each exchange's ids, the open one included; prompt and response joined as ids."""
    _refuse_tags(dialogue.system)
    parts = []
    texts = [turn.text for turn in dialogue.turns]
    for index in range(0, len(texts), 2):
        _refuse_tags(texts[index])
        user = texts[index]
        if index == 0 and dialogue.system:
            user = f"{B_SYS}{dialogue.system}{E_SYS}{user}"
        ids = [bos_id_of(tokenizer), *plain_ids(tokenizer, f"{B_INST} {user.strip()} {E_INST}")]
        response = encode_response(tokenizer, texts[index + 1]) if index + 1 < len(texts) else []
        mask = [False] * len(ids) + [True] * len(response)
        parts.append(EncodedDialogue((*ids, *response), tuple(mask)))
    return parts


def _refuse_tags(text: str) -> None:
    for tag in TAGS:
        if tag in text:
            raise TagInjectionError(tag)
