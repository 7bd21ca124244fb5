"""Dialogues: alternating user and assistant turns, with an optional system prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from records.errors import RecordError


class Role(StrEnum):
    """Who speaks a turn."""

    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a dialogue."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns that alternate user, assistant, user, ...

    A dialogue that ends with a user turn is a *prompt*: it waits for a response.

    Raises:
        RecordError: `turns` is empty, does not begin with the user, or does not alternate.
    """

    turns: tuple[Turn, ...]
    system: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.turns:
            raise RecordError("turns", "a dialogue has at least one turn")
        for index, turn in enumerate(self.turns):
            expected = Role.USER if index % 2 == 0 else Role.ASSISTANT
            if turn.role is not expected:
                raise RecordError("turns", f"turn {index} is {turn.role}, expected {expected}")

    @classmethod
    def from_texts(cls, *texts: str, system: str = "") -> "Dialogue":
        """Return the dialogue of `texts`, spoken by user, assistant, user, ..."""
        roles = (Role.USER, Role.ASSISTANT)
        turns = tuple(Turn(roles[i % 2], text) for i, text in enumerate(texts))
        return cls(turns, system=system)

    @property
    def is_prompt(self) -> bool:
        """Whether the last turn is the user's."""
        return self.turns[-1].role is Role.USER

    def followed_by(self, text: str) -> "Dialogue":
        """Return this dialogue with one more turn, spoken by whoever comes next."""
        role = Role.ASSISTANT if self.is_prompt else Role.USER
        return Dialogue((*self.turns, Turn(role, text)), system=self.system)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        turns = [{"role": turn.role.value, "text": turn.text} for turn in self.turns]
        return {"system": self.system, "turns": turns}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Dialogue":
        """Return the dialogue that `to_json` wrote.

        Raises:
            RecordError: A key is missing or a role is unknown.
        """
        try:
            turns = tuple(Turn(Role(turn["role"]), str(turn["text"])) for turn in data["turns"])
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError("turns", f"not a list of role and text: {error}") from error
        return cls(turns, system=str(data.get("system", "")))
