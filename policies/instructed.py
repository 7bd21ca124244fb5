"""Ghost Attention's dialogues: which instruction, which turns of the user, and the trained rows."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import TagInjectionError, encode_prompt
from language.conversations import Spoken
from language.rows import TokenRow
from records.constraints import Constraint, draw_instruction
from records.errors import RecordError
from records.instruction_configs import GhostAttentionConfig, TrainedTurns
from records.prompts import Demonstration, Prompt
from records.scripts import Script, instructed_once, lengthened, script_of


class InstructedDialogue(NamedTuple):
    """What a user says, and the instruction that all responses are to obey."""

    script: Script
    """Without the instruction."""
    instruction: str
    """In full: so it is given when responses are sampled."""
    trained_instruction: str
    """As it stands in the trained row: in full or terse."""


class TrainedRow(NamedTuple):
    """One row to fine-tune on: all but the last response is its prompt and has no loss."""

    row: TokenRow
    demonstration: Demonstration


class TrainedRows(NamedTuple):
    """The rows of all dialogues."""

    rows: list[TrainedRow]
    skipped: Counter[str]
    """What gave no row, by reason: dialogues that are `too_short` (not two turns fitted into the
    model), responses that are `unfinished` (they did not end by themselves), rows that are
    `too_long` or whose texts hold tags of the chat format (`holds_tags`)."""


def plan_dialogues(
    prompts: Sequence[Prompt], constraints: Sequence[Constraint], config: GhostAttentionConfig
) -> list[InstructedDialogue]:
    """Return the dialogues to hold, each decided by the seed and its number alone.

    Prompts tagged as safety prompts are left out: an instruction is no way around a refusal.

    Raises:
        RecordError: There is no prompt that is not one, or no constraint.
    """
    scripts = [script_of(prompt) for prompt in prompts if not prompt.is_safety]
    if not scripts:
        raise RecordError("prompts", "Ghost Attention needs prompts that are no safety prompts")
    dialogues = []
    for number in range(config.num_dialogues):
        rng = random.Random(f"ghost attention:{config.seed}:{number}")
        num_turns = rng.randint(config.min_turns, config.max_turns)
        script = lengthened(scripts[number % len(scripts)], scripts, num_turns, rng)
        instruction = draw_instruction(rng, constraints, max_constraints=config.max_constraints)
        is_short = rng.random() < config.short_share
        trained = instruction.short if is_short else instruction.text
        dialogues.append(InstructedDialogue(script, instruction.text, trained))
    return dialogues


def instructed_everywhere(dialogue: InstructedDialogue) -> Script:
    """Return the script that responses are sampled on: the instruction opens every user turn."""
    turns = tuple(f"{dialogue.instruction} {text}" for text in dialogue.script.turns)
    return Script(turns=turns, system=dialogue.script.system)


def trained_rows(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: Sequence[InstructedDialogue],
    spoken: Sequence[Sequence[Spoken]],
    *,
    config: GhostAttentionConfig,
    max_tokens: int,
    source: str,
) -> TrainedRows:
    """Return what is trained on: the sampled responses, the instruction on the first turn only.

    The loss covers the last response of a row. All before it is the row's prompt, the earlier
    responses included: they were sampled with an instruction that is no longer there. A row is
    never shortened, which would take the instruction away.
    """
    rows: list[TrainedRow] = []
    skipped: Counter[str] = Counter()
    for dialogue, responses in zip(dialogues, spoken, strict=True):
        if len(responses) < 2:
            skipped["too_short"] += 1
            continue
        script = instructed_once(dialogue.script, dialogue.trained_instruction, config.placement)
        last = len(responses) - 1
        turns = [last] if config.trained_turns is TrainedTurns.LAST else range(last + 1)
        for turn in turns:
            earlier, response = responses[:turn], responses[turn]
            if not response.is_finished:
                skipped["unfinished"] += 1
                continue
            prompt = script.prompt([item.text for item in earlier])
            try:
                row = TokenRow(tuple(encode_prompt(tokenizer, prompt)), response.ids)
            except TagInjectionError:
                skipped["holds_tags"] += 1
                continue
            if row.num_tokens > max_tokens:
                skipped["too_long"] += 1
                continue
            demonstration = Demonstration(prompt=prompt, response=response.text, source=source)
            rows.append(TrainedRow(row, demonstration))
    return TrainedRows(rows, skipped)
