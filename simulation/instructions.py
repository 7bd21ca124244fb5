"""Instructions of the sandbox world: how a response is to begin and to end."""

from dataclasses import dataclass
from enum import StrEnum

from records.constraints import Constraint
from simulation import world


class Place(StrEnum):
    """Which sentence of a response an instruction is about; also the constraint's category."""

    BEGIN = "begin"
    END = "end"


@dataclass(frozen=True, slots=True)
class Rule:
    """The sentence that a response is to begin or to end with."""

    place: Place
    phrase: str

    @property
    def text(self) -> str:
        """The instruction in full."""
        word = "begin" if self.place is Place.BEGIN else "end"
        return f"always {word} with {self.phrase} ."

    @property
    def short(self) -> str:
        """Its terse form."""
        return f"{self.place} : {self.phrase} ."


RULES: tuple[Rule, ...] = (
    *(Rule(Place.BEGIN, text) for text in world.OPENINGS if text not in world.EAGER_OPENINGS),
    *(Rule(Place.END, text) for text in world.CLOSINGS),
)
"""Every instruction of this world. An eager opening would be an instruction to do harm."""
_BY_TEXT = {text: rule for rule in RULES for text in (rule.text, rule.short)}


def sandbox_constraints() -> list[Constraint]:
    """Return the rules as constraints, which instructions are drawn from."""
    return [
        Constraint(category=rule.place.value, text=rule.text, short=rule.short) for rule in RULES
    ]


def split_instructions(text: str) -> tuple[tuple[Rule, ...], str]:
    """Return the rules that open a user's `text`, full or terse, and what follows them."""
    rules: list[Rule] = []
    rest = text.strip()
    while (known := next((t for t in _BY_TEXT if rest.startswith(t)), None)) is not None:
        rules.append(_BY_TEXT[known])
        rest = rest.removeprefix(known).strip()
    return tuple(rules), rest


def rule_of(constraint: Constraint) -> Rule:
    """Return the rule that a constraint stands for.

    Raises:
        ValueError: It is not one of this world.
    """
    if constraint.text not in _BY_TEXT:
        raise ValueError(f"constraint: {constraint.text!r} is not one of the sandbox's")
    return _BY_TEXT[constraint.text]
