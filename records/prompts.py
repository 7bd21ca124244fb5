"""Prompts and demonstrations: what policies are sampled on and fine-tuned on, as JSON Lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from records.dialogues import Dialogue
from records.errors import RecordError
from records.json_lines import read_json_lines, write_json_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A dialogue that waits for a response."""

    prompt_id: str
    dialogue: Dialogue
    is_safety: bool = False
    """Tag of a prompt written to elicit an unsafe response: IS_SAFETY(p) of the gated reward."""
    next_turns: tuple[str, ...] = ()
    """What the user goes on to say, whatever the responses are."""
    risk_category: str = ""
    """What an adversarial prompt aims at."""
    attack_vector: str = ""
    """How it tries."""

    def __post_init__(self) -> None:
        if not self.dialogue.is_prompt:
            raise RecordError("dialogue", f"prompt {self.prompt_id} does not end with a user turn")

    def to_json(self) -> dict[str, object]:
        """Return a JSON-ready mapping; what is empty of the last three is left out."""
        values: dict[str, object] = {
            "prompt_id": self.prompt_id,
            "dialogue": self.dialogue.to_json(),
            "is_safety": self.is_safety,
        }
        more: dict[str, object] = {
            "next_turns": list(self.next_turns),
            "risk_category": self.risk_category,
            "attack_vector": self.attack_vector,
        }
        return values | {name: value for name, value in more.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """A prompt with a response worth imitating."""

    prompt: Dialogue
    response: str
    source: str = ""
    """Who wrote the response: a person's pseudonym or the name of a policy version."""

    def __post_init__(self) -> None:
        if not self.prompt.is_prompt:
            raise RecordError("prompt", "the last turn of a prompt is the user's")


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> int:
    """Write one JSON object a line and return how many."""
    return write_json_lines(path, (prompt.to_json() for prompt in prompts))


def read_prompts(path: Path) -> Iterator[Prompt]:
    """Yield the prompts that `write_prompts` wrote."""
    for row in read_json_lines(path):
        yield Prompt(
            prompt_id=str(row["prompt_id"]),
            dialogue=Dialogue.from_json(row["dialogue"]),  # type: ignore[arg-type]
            is_safety=bool(row["is_safety"]),
            next_turns=tuple(map(str, row.get("next_turns", ()))),  # type: ignore[call-overload]
            risk_category=str(row.get("risk_category", "")),
            attack_vector=str(row.get("attack_vector", "")),
        )


def write_demonstrations(path: Path, demonstrations: Iterable[Demonstration]) -> int:
    """Write one JSON object a line and return how many."""
    return write_json_lines(
        path,
        (
            {"prompt": d.prompt.to_json(), "response": d.response, "source": d.source}
            for d in demonstrations
        ),
    )


def read_demonstrations(path: Path) -> Iterator[Demonstration]:
    """Yield the demonstrations that `write_demonstrations` wrote."""
    for row in read_json_lines(path):
        yield Demonstration(
            prompt=Dialogue.from_json(row["prompt"]),  # type: ignore[arg-type]
            response=str(row["response"]),
            source=str(row["source"]),
        )
