"""What the annotator's page shows of one dialogue."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from django.utils import timezone

from annotation.eligibility import Missing, Need, missing_for
from annotation.exposure import CATEGORY_WORDS, categories_of
from annotation.histories import (
    history_of,
    last_to_take_back,
    may_finish,
    retraction_of,
    retraction_of_slot,
)
from annotation.models import Comparison, Dialogue, Pause, Round, Slot, User
from annotation.pauses import pause_for
from annotation.selectors import PairView, open_rounds, pair_view, slot_pair_view
from annotation.slots import next_free_at
from annotation.work import NothingReason, Work, WorkKind, work_for
from records.dialogues import Role, Turn
from webapp.addresses import address_of


class TaskKind(StrEnum):
    """What the page asks for."""

    WRITE = "write"
    WAIT = "wait"
    JUDGE = "judge"
    FINISHED = "finished"
    GONE = "gone"
    NOTHING = "nothing"


_KIND_OF_STATE = {
    Comparison.State.READY.value: TaskKind.JUDGE,
    Comparison.State.WAITING.value: TaskKind.WAIT,
    Comparison.State.SAMPLING.value: TaskKind.WAIT,
}


class TaskUrls(NamedTuple):
    """Where the forms of a task go."""

    page: str
    judge: str = ""
    skip: str = ""
    flag: str = ""
    beat: str = ""
    restore: str = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """The state of one dialogue as its author sees it, or one pair of somebody else's."""

    kind: TaskKind
    dialogue: Dialogue
    turns: tuple[Turn, ...]
    """The dialogue so far, and while responses are awaited or judged the prompt they answer."""
    comparison: Comparison | None = None
    """The pair awaited or judged; while writing, the one that failed and is to be rewritten."""
    pair: PairView | None = None
    reason: NothingReason | None = None
    next_free_at: datetime | None = None
    may_finish: bool = False
    """Whether its author may end the dialogue now."""
    to_take_back: Comparison | None = None
    """The pair judged last, while its judgement may be taken back."""
    is_taken_back: bool = False
    """Whether the pair was judged, and that was taken back."""
    slot: Slot | None = None
    """Set where somebody else wrote the prompt; why it is asked is not shown."""

    @property
    def round(self) -> Round:
        """The round it belongs to."""
        return self.dialogue.round if self.slot is None else self.slot.round

    @property
    def turn_number(self) -> int:
        """The turn that is open, counted from one."""
        if self.slot is not None and self.comparison is not None:
            return self.comparison.turn + 1
        return min(self.dialogue.num_turns + 1, self.num_turns)

    @property
    def num_turns(self) -> int:
        """How many turns the dialogue has at most."""
        return self.dialogue.max_turns or self.round.max_turns

    @property
    def is_own(self) -> bool:
        """Whether who sees it has written its prompts."""
        return self.slot is None and not self.dialogue.is_imported

    @property
    def system_prompt(self) -> str:
        """What both policies are told first."""
        return self.dialogue.system_prompt or self.round.system_prompt

    @property
    def draft_target(self) -> str:
        """What the draft of a judgement is of."""
        return "comparison" if self.slot is None else "slot"

    @property
    def draft_id(self) -> int:
        """The id of what the draft of a judgement is of."""
        thing = self.slot or self.comparison
        assert thing is not None
        return thing.pk

    @cached_property
    def urls(self) -> TaskUrls:
        """The addresses of the page and of its forms."""
        if self.slot is not None:
            forms = ("judge-slot", "skip-slot", "flag-slot", "beat-slot", "restore-slot")
            return TaskUrls(*(address_of(name, self.slot.pk) for name in ("slot", *forms)))
        page = address_of("dialogue", self.dialogue.pk)
        if self.kind is not TaskKind.JUDGE or self.comparison is None:
            return TaskUrls(page)
        forms = ("judge", "skip", "flag", "beat", "restore")
        return TaskUrls(page, *(address_of(name, self.comparison.pk) for name in forms))


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Everything an annotator can go on with or begin."""

    work: Work
    dialogues: list["OpenDialogue"]
    rounds: list[Round]
    missing: dict[int, tuple[Missing, ...]]
    """What is missing for each round, by round id, besides the end of a pause."""
    warnings: dict[int, str]
    """What each round may contain, by round id."""
    pause: Pause | None
    """While annotation is paused: nothing is begun, and what is in hand goes on."""

    @property
    def offers_slots(self) -> bool:
        """Whether pairs that others wrote may be waiting; who asks for one finds out."""
        if self.work.kind is WorkKind.SLOT or self.pause is not None:
            return self.work.kind is WorkKind.SLOT
        return any(
            round_.num_further > round_.num_further_judged
            or round_.gold_share + round_.repeat_share > 0
            for round_ in self.rounds
            if not self.missing[round_.pk]
        )


class OpenDialogue(NamedTuple):
    """An open dialogue in the list of things to go on with."""

    dialogue: Dialogue
    first_prompt: str
    kind: TaskKind
    """JUDGE, WAIT, or WRITE for everything else."""


def task_of(dialogue: Dialogue) -> Task:
    """Return what its author does next in this dialogue."""
    last = _newest_comparison(dialogue) if dialogue.is_open else None
    if last is not None and last.is_shown:
        pair = pair_view(last)
        turns = pair.prompt.turns
        return Task(
            kind=TaskKind.JUDGE,
            dialogue=dialogue,
            turns=turns,
            comparison=last,
            pair=pair,
            is_taken_back=retraction_of(last) is not None,
        )
    history = history_of(dialogue) if dialogue.num_turns or dialogue.opening else None
    turns = history.turns if history is not None else ()
    if not dialogue.is_open:
        return _ended(dialogue, turns)
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
        may_finish=may_finish(dialogue),
        to_take_back=last_to_take_back(dialogue),
    )


def slot_task_of(slot: Slot, annotator: User) -> Task:
    """Return the pair of a slot as its annotator sees it: to be judged, or gone to others."""
    comparison = slot.comparison
    dialogue = comparison.dialogue
    is_open = slot.state == Slot.State.FREE or (
        slot.annotator_id == annotator.pk and slot.state != Slot.State.JUDGED
    )
    if not is_open:
        return Task(
            kind=TaskKind.GONE, dialogue=dialogue, turns=(), comparison=comparison, slot=slot
        )
    pair = slot_pair_view(slot)
    return Task(
        kind=TaskKind.JUDGE,
        dialogue=dialogue,
        turns=pair.prompt.turns,
        comparison=comparison,
        pair=pair,
        slot=slot,
        # What is leased was not judged yet: no need to ask.
        is_taken_back=slot.state != Slot.State.LEASED
        and retraction_of_slot(slot, annotator) is not None,
    )


def overview_of(annotator: User) -> Overview:
    """Return what an annotator can go on with, and the open rounds."""
    rounds = list(open_rounds())
    work = work_for(annotator)
    return Overview(
        work=work,
        dialogues=open_dialogues_of(annotator),
        rounds=rounds,
        missing={
            pk: tuple(item for item in missing if item.need is not Need.MAINTENANCE)
            for pk, missing in missing_for(annotator, rounds).items()
        },
        warnings={
            pk: ", ".join(CATEGORY_WORDS[category] for category in categories)
            for pk, categories in categories_of(rounds).items()
        },
        pause=work.pause or pause_for(annotator),
    )


def open_dialogues_of(annotator: User) -> list[OpenDialogue]:
    """Return the annotator's open dialogues with their first prompts, the newest first."""
    dialogues = list(
        Dialogue.objects.filter(annotator=annotator, state=Dialogue.State.OPEN)
        .select_related("round")
        .order_by("-pk")[:20]
    )
    comparisons = Comparison.objects.filter(dialogue__in=dialogues, is_ahead=False).order_by("pk")
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
    turns = Comparison.objects.filter(dialogue=dialogue, turn=dialogue.num_turns, is_ahead=False)
    comparison = turns.order_by("-pk").first()
    if comparison is not None:
        comparison.dialogue, comparison.round = dialogue, dialogue.round
    return comparison


def _ended(dialogue: Dialogue, turns: tuple[Turn, ...]) -> Task:
    """Return what is left of a dialogue: an imported one may have ended without a judgement."""
    last = _newest_comparison(dialogue) if dialogue.is_imported else None
    if last is not None and last.state == Comparison.State.DISCARDED:
        return Task(kind=TaskKind.GONE, dialogue=dialogue, turns=())
    failed = last if last is not None and last.state == Comparison.State.FAILED else None
    return Task(
        kind=TaskKind.FINISHED,
        dialogue=dialogue,
        turns=turns,
        comparison=failed,
        to_take_back=last_to_take_back(dialogue),
    )


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
