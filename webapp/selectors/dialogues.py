"""What the annotator's page shows of one dialogue."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from django.utils import timezone

from annotation.histories import history_of
from annotation.models import Comparison, Dialogue, Round, User
from annotation.selectors import NothingReason, PairView, pair_view
from annotation.slots import next_free_at
from records.dialogues import Role, Turn


class TaskKind(StrEnum):
    """What the page asks for."""

    WRITE = "write"
    WAIT = "wait"
    JUDGE = "judge"
    FINISHED = "finished"
    NOTHING = "nothing"


_KIND_OF_STATE = {
    Comparison.State.READY.value: TaskKind.JUDGE,
    Comparison.State.WAITING.value: TaskKind.WAIT,
    Comparison.State.SAMPLING.value: TaskKind.WAIT,
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """The state of one dialogue as its author sees it."""

    kind: TaskKind
    dialogue: Dialogue
    turns: tuple[Turn, ...]
    """The dialogue so far, and while responses are awaited or judged the prompt they answer."""
    comparison: Comparison | None = None
    """The pair awaited or judged; while writing, the one that failed and is to be rewritten."""
    pair: PairView | None = None
    reason: NothingReason | None = None
    next_free_at: datetime | None = None

    @property
    def round(self) -> Round:
        """The round it belongs to."""
        return self.dialogue.round

    @property
    def turn_number(self) -> int:
        """The turn that is open, counted from one."""
        return min(self.dialogue.num_turns + 1, self.round.max_turns)


class OpenDialogue(NamedTuple):
    """An open dialogue in the list of things to go on with."""

    dialogue: Dialogue
    first_prompt: str
    kind: TaskKind
    """JUDGE, WAIT, or WRITE for everything else."""


def task_of(dialogue: Dialogue) -> Task:
    """Return what its author does next in this dialogue."""
    last = _newest_comparison(dialogue) if dialogue.is_open else None
    if last is not None and last.state == Comparison.State.READY:
        pair = pair_view(last)
        turns = pair.prompt.turns
        return Task(kind=TaskKind.JUDGE, dialogue=dialogue, turns=turns, comparison=last, pair=pair)
    history = history_of(dialogue) if dialogue.num_turns else None
    turns = history.turns if history is not None else ()
    if not dialogue.is_open:
        return Task(kind=TaskKind.FINISHED, dialogue=dialogue, turns=turns)
    if last is not None and last.is_live:
        turns = (*turns, Turn(Role.USER, last.prompt_text))
        return Task(kind=TaskKind.WAIT, dialogue=dialogue, turns=turns, comparison=last)
    reason, free_at = _why_nothing(dialogue.round)
    failed = last if last is not None and last.state == Comparison.State.FAILED else None
    return Task(
        kind=TaskKind.WRITE if reason is None else TaskKind.NOTHING,
        dialogue=dialogue,
        turns=turns,
        comparison=failed,
        reason=reason,
        next_free_at=free_at,
    )


def open_dialogues_of(annotator: User) -> list[OpenDialogue]:
    """Return the annotator's open dialogues with their first prompts, the newest first."""
    dialogues = list(
        Dialogue.objects.filter(annotator=annotator, state=Dialogue.State.OPEN)
        .select_related("round")
        .order_by("-pk")[:20]
    )
    comparisons = Comparison.objects.filter(dialogue__in=dialogues).order_by("pk")
    prompts: dict[int, str] = {}
    states: dict[int, str] = {}
    for dialogue_id, turn, text, state in comparisons.values_list(
        "dialogue", "turn", "prompt_text", "state"
    ):
        if turn == 0:
            prompts[dialogue_id] = text
        states[dialogue_id] = state
    return [
        OpenDialogue(
            dialogue,
            prompts.get(dialogue.pk, ""),
            _KIND_OF_STATE.get(states.get(dialogue.pk, ""), TaskKind.WRITE),
        )
        for dialogue in dialogues
    ]


def unwritten_dialogue_of(annotator: User, round_: Round) -> Dialogue | None:
    """Return an open dialogue in which nothing was written yet: it is taken before a new one."""
    mine = Dialogue.objects.filter(annotator=annotator, round=round_, state=Dialogue.State.OPEN)
    return mine.filter(num_turns=0, comparisons__isnull=True).order_by("pk").first()


def new_client_key() -> str:
    """Return a key for one form: the same form sent twice is stored once."""
    return str(uuid.uuid4())


def _newest_comparison(dialogue: Dialogue) -> Comparison | None:
    turns = Comparison.objects.filter(dialogue=dialogue, turn=dialogue.num_turns)
    comparison = turns.order_by("-pk").first()
    if comparison is not None:
        comparison.dialogue, comparison.round = dialogue, dialogue.round
    return comparison


def _why_nothing(round_: Round) -> tuple[NothingReason | None, datetime | None]:
    """Return why the round takes no further prompt, and when it may again; None if it does."""
    if not round_.is_open:
        return NothingReason.NO_OPEN_ROUND, None
    if round_.num_reserved < round_.target_comparisons:
        return None, None
    free_at = next_free_at(round_)
    if free_at is None:
        return NothingReason.ROUND_FULL, None
    return (None, None) if free_at < timezone.now() else (NothingReason.ALL_LEASED, free_at)
