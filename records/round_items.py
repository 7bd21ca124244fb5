"""What rounds ask that nobody writes there: prompts or pairs of responses, one JSON object a line.

A line holds what `records.prompts` writes, and for a pair its two responses:

    {"prompt_id": "7", "dialogue": {"system": "", "turns": [{"role": "user", "text": "Hello"}]},
     "next_turns": ["And then?"], "risk_category": "", "attack_vector": ""}
    {"prompt_id": "7", "dialogue": {...},
     "responses": [{"text": "Hi.", "source": "V1"}, {"text": "Yes?", "source": "V2"}]}

Every field is checked. One line is held at a time, however long the file is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from records.dialogues import Dialogue, Role
from records.errors import RecordError
from records.imports import Row, parse_object
from records.prompts import Prompt

MAX_LINE_BYTES = 1_000_000
MAX_TURNS = 200
"""Turns of one item that were said before, and those still to be said."""
MAX_ID_CHARACTERS = 200
MAX_SOURCE_CHARACTERS = 60

_PROMPT_FIELDS = ("prompt_id", "dialogue", "is_safety", "risk_category", "attack_vector")


class ItemKind(StrEnum):
    """What a line holds."""

    PROMPTS = "prompts"
    PAIRS = "pairs"


class Lines(Protocol):
    """A file of bytes, as far as it is read here."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, or `limit` bytes of it; nothing at the end."""
        ...


class ItemResponse(NamedTuple):
    """One of two responses, and what wrote it, where that is known."""

    text: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundItem:
    """One line: a prompt, and for a pair its responses."""

    row: Row
    """Where it stands; makes the errors of its fields."""
    prompt: Prompt
    responses: tuple[ItemResponse, ItemResponse] | None = None

    @property
    def texts(self) -> Iterator[tuple[str, str]]:
        """All texts with the names of their fields."""
        yield "dialogue", self.prompt.dialogue.system
        yield from (("dialogue", turn.text) for turn in self.prompt.dialogue.turns)
        yield from (("next_turns", text) for text in self.prompt.next_turns)
        yield from (("responses", response.text) for response in self.responses or ())


def read_round_items(file: Lines, name: str, kind: ItemKind) -> Iterator[RoundItem]:
    """Yield the items of a file of UTF-8 JSON Lines; empty lines are passed over.

    Args:
        file: Read from where it stands.
        name: What errors call it.
        kind: Whether its lines hold prompts or pairs.

    Raises:
        RecordError: A line is wrong; names the field, the line and the bound.
    """
    for number, line in enumerate(_lines(file, name), start=1):
        if line.strip():
            yield item_of(Row(Path(name), number, parse_object(name, number, line)), kind)


def item_of(row: Row, kind: ItemKind) -> RoundItem:
    """Return the item that a row of a file holds.

    Raises:
        RecordError: A field is wrong; names it, the line and the bound.
    """
    return _prompt_item(row) if kind is ItemKind.PROMPTS else _pair_item(row)


def _lines(file: Lines, name: str) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise RecordError("data", f"{name} line {number}: longer than {MAX_LINE_BYTES:,} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise RecordError("data", f"{name} line {number}: not UTF-8: {error.reason}") from error


def _prompt_item(row: Row) -> RoundItem:
    _check_fields(row, (*_PROMPT_FIELDS, "next_turns"))
    next_turns = row.values.get("next_turns", [])
    if not isinstance(next_turns, list):
        raise row.error("next_turns", "is not a list of texts")
    texts = [_text(row, "next_turns", text) for text in next_turns]
    return RoundItem(row=row, prompt=_prompt(row, tuple(texts)))


def _pair_item(row: Row) -> RoundItem:
    _check_fields(row, (*_PROMPT_FIELDS, "responses"))
    responses = row.value("responses")
    if not isinstance(responses, list) or len(responses) != 2:
        raise row.error("responses", "is not a list of 2 responses")
    first, second = (_response(row, response) for response in responses)
    return RoundItem(row=row, prompt=_prompt(row, ()), responses=(first, second))


def _response(row: Row, value: object) -> ItemResponse:
    part = row.part(value, "responses")
    _check_fields(part, ("text", "source"))
    source = part.values.get("source", "")
    if not isinstance(source, str) or not source.isprintable():
        raise row.error("source", f"{str(source)[:40]!r} is not text of one line")
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise row.error("source", f"{len(source)} characters are more than {MAX_SOURCE_CHARACTERS}")
    return ItemResponse(_text(row, "responses", part.value("text")), source.strip())


def _prompt(row: Row, next_turns: tuple[str, ...]) -> Prompt:
    dialogue = _dialogue(row)
    num_turns = len(dialogue.turns) + len(next_turns)
    if num_turns > MAX_TURNS:
        raise row.error("dialogue", f"{num_turns} turns are more than {MAX_TURNS}")
    is_safety = row.values.get("is_safety", False)
    if not isinstance(is_safety, bool):
        raise row.error("is_safety", f"{str(is_safety)[:40]!r} is neither true nor false")
    return Prompt(
        prompt_id=_prompt_id(row),
        dialogue=dialogue,
        is_safety=is_safety,
        next_turns=next_turns,
        risk_category=_word(row, "risk_category"),
        attack_vector=_word(row, "attack_vector"),
    )


def _prompt_id(row: Row) -> str:
    value = row.value("prompt_id")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.strip() or not text.isprintable():
        raise row.error("prompt_id", f"{str(value)[:40]!r} is not a name of one line")
    if len(text) > MAX_ID_CHARACTERS:
        raise row.error("prompt_id", f"{len(text)} characters are more than {MAX_ID_CHARACTERS}")
    return text


def _dialogue(row: Row) -> Dialogue:
    part = row.part(row.value("dialogue"), "dialogue")
    _check_fields(part, ("system", "turns"))
    turns = part.value("turns")
    if not isinstance(turns, list) or not turns:
        raise row.error("dialogue", "turns is not a list of turns")
    texts = []
    for index, value in enumerate(turns):
        turn = row.part(value, "dialogue")
        role = (Role.USER, Role.ASSISTANT)[index % 2]
        if turn.value("role") != role:
            raise row.error("dialogue", f"turn {index} is {turn.value('role')!r}, expected {role}")
        texts.append(_text(row, "dialogue", turn.value("text")))
    if len(texts) % 2 == 0:
        raise row.error("dialogue", "does not end with a turn of the user's")
    system = _text(row, "dialogue", part.values.get("system", ""), may_be_empty=True)
    return Dialogue.from_texts(*texts, system=system)


def _word(row: Row, name: str) -> str:
    value = row.values.get(name) or ""
    if not isinstance(value, str):
        raise row.error(name, f"{str(value)[:40]!r} is not text")
    return value


def _text(row: Row, name: str, value: Any, *, may_be_empty: bool = False) -> str:  # noqa: ANN401
    if not isinstance(value, str):
        raise row.error(name, f"{str(value)[:40]!r} is not text")
    text = value.strip()
    if not text and not may_be_empty:
        raise row.error(name, "holds an empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise row.error(name, "holds half of a character (a lone surrogate)") from None
    return text


def _check_fields(row: Row, known: Collection[str]) -> None:
    for name in row.values:
        if name not in known:
            raise row.error(ascii(name[:40])[1:-1], f"is not one of {', '.join(known)}")
