"""Files of prompts and pairs for rounds: every field is checked, and named with its line."""

import io
import json
from typing import Any

import pytest

from records.dialogues import Dialogue
from records.errors import RecordError
from records.prompts import Prompt, read_prompts, write_prompts
from records.round_items import ItemKind, RoundItem, read_round_items

TURNS = [{"role": "user", "text": "Hello"}]
PROMPT = {"prompt_id": "1", "dialogue": {"turns": TURNS}}
PAIR = PROMPT | {"responses": [{"text": "Hi.", "source": "one"}, {"text": "Yes?"}]}


def read(*rows: Any, kind: ItemKind = ItemKind.PROMPTS) -> list[RoundItem]:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    return list(read_round_items(io.BytesIO(b"\n".join(lines)), "week.jsonl", kind))


def test_a_prompt_has_a_history_further_turns_and_what_it_probes() -> None:
    turns = [*TURNS, {"role": "assistant", "text": "Hi."}, {"role": "user", "text": " How? "}]
    row = {
        "prompt_id": 7,
        "dialogue": {"system": "Be brief.", "turns": turns},
        "next_turns": ["And then?", "Why?"],
        "risk_category": "hateful_and_harmful",
        "attack_vector": "other",
    }

    (item,) = read(row)

    assert item.prompt == Prompt(
        prompt_id="7",
        dialogue=Dialogue.from_texts("Hello", "Hi.", "How?", system="Be brief."),
        next_turns=("And then?", "Why?"),
        risk_category="hateful_and_harmful",
        attack_vector="other",
    )
    assert item.responses is None


def test_a_pair_has_two_responses_with_or_without_a_source() -> None:
    (item,) = read(PAIR, kind=ItemKind.PAIRS)
    assert item.responses == (("Hi.", "one"), ("Yes?", ""))


def test_what_records_prompts_writes_can_be_read(tmp_path: Any) -> None:
    prompts = [
        Prompt(prompt_id="a", dialogue=Dialogue.from_texts("Hello"), is_safety=True),
        Prompt(prompt_id="b", dialogue=Dialogue.from_texts("Hi"), next_turns=("Bye",)),
    ]
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, prompts)

    assert list(read_prompts(path)) == prompts
    with path.open("rb") as file:
        items = list(read_round_items(file, path.name, ItemKind.PROMPTS))
    assert [item.prompt for item in items] == prompts
    assert [item.row.line for item in items] == [1, 2]


def test_empty_lines_are_passed_over_and_counted_as_lines() -> None:
    items = read(PROMPT, b"", b"  ", PROMPT | {"prompt_id": "2"})
    assert [(item.prompt.prompt_id, item.row.line) for item in items] == [("1", 1), ("2", 4)]


BAD_PROMPTS: list[tuple[Any, str]] = [
    (b"{", "data: week.jsonl line 2 is no JSON"),
    (b"[1]", "data: week.jsonl line 2 is no JSON object"),
    (b"9" * 5000, "data: week.jsonl line 2 is no JSON"),
    (b"\xff", "data: week.jsonl line 2: not UTF-8"),
    (b'{"a": "' + b"x" * 1_000_000 + b'"}', "data: week.jsonl line 2: longer than 1,000,000 bytes"),
    ({"dialogue": {"turns": TURNS}}, "prompt_id: week.jsonl line 2: is missing"),
    (PROMPT | {"prompt_id": " "}, "prompt_id: week.jsonl line 2: ' ' is not a name"),
    (PROMPT | {"prompt_id": "x" * 201}, "prompt_id: .* 201 characters are more than 200"),
    (PROMPT | {"prompt_id": "a\0"}, "prompt_id: .* is not a name of one line"),
    (PROMPT | {"next_turn": []}, "next_turn: .* is not one of prompt_id, dialogue"),
    (PROMPT | {"next_turns": "And?"}, "next_turns: .* is not a list of texts"),
    (PROMPT | {"next_turns": [""]}, "next_turns: .* holds an empty text"),
    (PROMPT | {"next_turns": ["Hm"] * 200}, "dialogue: .* 201 turns are more than 200"),
    (PROMPT | {"dialogue": "Hello"}, "dialogue: .* is not an object"),
    (PROMPT | {"dialogue": {"turns": []}}, "dialogue: .* turns is not a list of turns"),
    (
        PROMPT | {"dialogue": {"turns": TURNS * 2}},
        "dialogue: .* turn 1 is 'user', expected assistant",
    ),
    (
        PROMPT | {"dialogue": {"turns": [*TURNS, {"role": "assistant", "text": "Hi"}]}},
        "dialogue: .* does not end with a turn of the user's",
    ),
    (
        b'{"prompt_id": "2", "dialogue": {"turns": [{"role": "user", "text": "\\ud800"}]}}',
        "dialogue: .* half of a character",
    ),
    (PROMPT | {"risk_category": 3}, "risk_category: .* '3' is not text"),
    (PROMPT | {"is_safety": "no"}, "is_safety: .* 'no' is neither true nor false"),
    (PAIR, "responses: .* is not one of"),
]


@pytest.mark.parametrize(("row", "message"), BAD_PROMPTS)
def test_a_wrong_prompt_is_named_by_field_and_line(row: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read(PROMPT, row)


BAD_PAIRS: list[tuple[Any, str]] = [
    (PROMPT, "responses: week.jsonl line 1: is missing"),
    (PAIR | {"responses": PAIR["responses"][:1]}, "responses: .* not a list of 2"),  # type: ignore[index]
    (PAIR | {"responses": ["Hi", "Yes"]}, "responses: .* is not an object"),
    (PAIR | {"responses": [{"text": "Hi"}, {"text": " "}]}, "responses: .* holds an empty text"),
    (PAIR | {"responses": [{"text": "Hi", "model": "m"}] * 2}, "model: .* not one of text, source"),
    (PAIR | {"responses": [{"text": "Hi", "source": 1}] * 2}, "source: .* not text of one line"),
    (
        PAIR | {"responses": [{"text": "Hi", "source": "s" * 61}] * 2},
        "source: .* 61 characters are more than 60",
    ),
    (PAIR | {"next_turns": ["And?"]}, "next_turns: .* is not one of"),
]


@pytest.mark.parametrize(("row", "message"), BAD_PAIRS)
def test_a_wrong_pair_is_named_by_field_and_line(row: Any, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        read(row, kind=ItemKind.PAIRS)


def test_a_file_is_read_line_by_line() -> None:
    good = json.dumps(PROMPT).encode() + b"\n"
    items = read_round_items(io.BytesIO(good + b"{"), "week.jsonl", ItemKind.PROMPTS)
    assert next(items).prompt.prompt_id == "1"
    with pytest.raises(RecordError):
        next(items)
