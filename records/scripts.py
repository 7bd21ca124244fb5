"""Scripts: what users say in a dialogue, turn by turn, whatever the responses are."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from records.dialogues import Dialogue, Role
from records.errors import RecordError
from records.instruction_configs import Placement
from records.prompts import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The user's side of a dialogue."""

    turns: tuple[str, ...]
    system: str = ""

    def __post_init__(self) -> None:
        if not self.turns:
            raise RecordError("turns", "a script has at least one turn")

    def prompt(self, responses: Sequence[str]) -> Dialogue:
        """Return the prompt that follows `responses`, one to each of the first turns.

        Raises:
            ValueError: There are as many responses as turns, or more.
        """
        if len(responses) >= len(self.turns):
            raise ValueError(f"{len(responses)} responses leave no turn of {len(self.turns)}")
        said = list(self.turns[: len(responses) + 1])
        texts = [text for pair in zip(said, responses, strict=False) for text in pair]
        return Dialogue.from_texts(*texts, said[-1], system=self.system)


def script_of(prompt: Prompt) -> Script:
    """Return what the user says in `prompt` and goes on to say after it."""
    turns = [turn.text for turn in prompt.dialogue.turns if turn.role is Role.USER]
    return Script(turns=(*turns, *prompt.next_turns), system=prompt.dialogue.system)


def lengthened(
    script: Script, others: Sequence[Script], num_turns: int, rng: random.Random
) -> Script:
    """Return `script` with exactly `num_turns` turns: cut, or gone on with the turns of `others`.

    The others are drawn one after another, each with all its turns: the user changes the subject.
    """
    turns = list(script.turns)
    while len(turns) < num_turns:
        turns += rng.choice(others).turns
    return Script(turns=tuple(turns[:num_turns]), system=script.system)


def instructed_once(script: Script, instruction: str, placement: Placement) -> Script:
    """Return the script in which the instruction is given at the beginning and never again."""
    if placement is Placement.SYSTEM:
        system = "\n\n".join(text for text in (instruction, script.system) if text)
        return Script(turns=script.turns, system=system)
    first, *rest = script.turns
    return Script(turns=(f"{instruction} {first}", *rest), system=script.system)
