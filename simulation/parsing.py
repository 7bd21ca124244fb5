"""Reading text: what a prompt asks for, and what the sentences of a response say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from records.dialogues import Dialogue
from simulation import hazards, world
from simulation.hazards import DEEDS
from simulation.instructions import split_instructions
from simulation.requests import REQUESTS, Kind, Request, normalised
from simulation.world import Attribute


class Says(StrEnum):
    """What a sentence of a response does."""

    OPENING = "opening"
    CLOSING = "closing"
    FILLER = "filler"
    FACT = "fact"
    SUM = "sum"
    STEP = "step"
    SUGGESTION = "suggestion"
    REPLY = "reply"
    QUESTION = "question"
    UNSURE = "unsure"
    REFUSAL = "refusal"
    REFUSAL_REASON = "refusal_reason"
    ALTERNATIVE = "alternative"
    HARM = "harm"
    UNKNOWN = "unknown"


class Meaning(NamedTuple):
    """What one sentence says."""

    says: Says
    subject: str = ""
    """Animal ("" for "it"), or "first", "then", "last" of a step."""
    value: str = ""
    """Value of a fact, text of a step, a suggestion, a reply, a harm, ..."""
    attribute: Attribute | None = None
    reason: str = ""
    """Of a suggestion."""
    numbers: tuple[int, ...] = ()
    """Of a sum: both addends, where said, and the total."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a response."""

    text: str
    """Normalised."""
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class Reading:
    """A response, read."""

    sentences: tuple[Sentence, ...]
    num_words: int
    is_finished: bool
    """Whether the last sentence ends with a punctuation mark."""

    def saying(self, *kinds: Says) -> tuple[Meaning, ...]:
        """Return the meanings of these kinds, in order, each sentence's once."""
        seen = {s.text: s.meaning for s in self.sentences if s.meaning.says in kinds}
        return tuple(seen.values())


def _harmless_sentences() -> Iterator[tuple[str, Meaning]]:
    for attribute, template in world.STATEMENTS.items():
        for value in world.VALUES[attribute]:
            for animal in ("", *world.FACTS):
                who = f"the {animal}" if animal else "it"
                meaning = Meaning(Says.FACT, animal, value, attribute)
                yield template.format(who=who, value=value), meaning
    for steps in world.ALL_TASKS.values():
        for step in steps:
            for ordinal in world.ORDINALS:
                yield f"{ordinal} {step}", Meaning(Says.STEP, ordinal, step)
    reasons = [situation.reason for situation in world.SITUATIONS.values()]
    for situation in world.SITUATIONS.values():
        for suggestion in situation.suggestions:
            text = world.SUGGESTION.format(suggestion=suggestion)
            yield text, Meaning(Says.SUGGESTION, value=suggestion)
            for reason in reasons:
                yield (
                    world.SUGGESTION_WITH_REASON.format(suggestion=suggestion, reason=reason),
                    Meaning(Says.SUGGESTION, value=suggestion, reason=reason),
                )
    for chat in world.SMALL_TALK.values():
        yield chat.reply, Meaning(Says.REPLY, value=chat.reply)
        yield chat.question, Meaning(Says.QUESTION, value=chat.question)


def _manner_sentences() -> Iterator[tuple[str, Meaning]]:
    for says, texts in (
        (Says.OPENING, world.OPENINGS),
        (Says.CLOSING, world.CLOSINGS),
        (Says.FILLER, world.FILLERS),
        (Says.UNSURE, (world.UNSURE,)),
        (Says.REFUSAL, hazards.REFUSALS),
        (Says.REFUSAL_REASON, [deed.reason for deed in DEEDS.values()]),
        (Says.ALTERNATIVE, [deed.alternative for deed in DEEDS.values()]),
        (Says.ALTERNATIVE, (hazards.GENERAL_ALTERNATIVE,)),
    ):
        for text in texts:
            yield text, Meaning(says, value=text)


def _harmful_sentences() -> Iterator[tuple[str, Meaning]]:
    for deed in DEEDS.values():
        for who in deed.whos:
            for what in deed.whats:
                for template in deed.harms:
                    harm = deed.fill(template, who, what)
                    yield harm, Meaning(Says.HARM, value=harm)
                    for ordinal in world.ORDINALS:
                        yield f"{ordinal} {harm}", Meaning(Says.HARM, ordinal, harm)


MEANINGS: dict[str, Meaning] = {
    normalised(text): meaning
    for sentences in (_harmless_sentences(), _manner_sentences(), _harmful_sentences())
    for text, meaning in sentences
}
"""Every sentence of a fixed form, by its normalised text; sums are matched by pattern."""

_HARM = re.compile(
    "|".join(
        rf"\b{re.escape(text)}\b"
        for text, meaning in MEANINGS.items()
        if meaning.says is Says.HARM and not meaning.subject
    )
)
_NUMBER = f"({'|'.join(world.NUMBERS)})"
_SUM = re.compile(f"(?:{_NUMBER} plus {_NUMBER} is|the answer is) {_NUMBER}")
_ADD_MORE = re.compile(f"add {_NUMBER} more")
_FOLLOW_UPS = {normalised(text): a for a, text in world.FOLLOW_UP_QUESTIONS.items()}
_OTHER_ANIMALS = {
    normalised(world.OTHER_ANIMAL_QUESTION.format(animal=animal)): animal for animal in world.FACTS
}
_STEP_QUESTIONS = {normalised(text): position for position, text in world.STEP_QUESTIONS.items()}
_MORE_ADVICE = normalised(world.MORE_ADVICE_QUESTION)
_PRESSURE = normalised(hazards.PRESSURE)


@lru_cache(maxsize=8192)
def read_response(text: str) -> Reading:
    """Return what `text` says; any text can be read, and what is not of this world is UNKNOWN."""
    pieces = re.split(r"[.?!]+", text)
    sentences = []
    for piece in pieces:
        words = normalised(piece)
        if words:
            sentences.append(Sentence(words, _meaning(words)))
    return Reading(
        sentences=tuple(sentences),
        num_words=sum(len(sentence.text.split()) for sentence in sentences),
        is_finished=not normalised(pieces[-1]),
    )


def _meaning(words: str) -> Meaning:
    known = MEANINGS.get(words)
    if known is not None:
        return known
    match = _SUM.fullmatch(words)
    if match is not None:
        numbers = tuple(world.NUMBERS.index(word) for word in match.groups() if word is not None)
        return Meaning(Says.SUM, numbers=numbers)
    harm = _HARM.search(words)  # a run-on sentence does not hide it
    if harm is not None:
        return Meaning(Says.HARM, value=harm[0])
    return Meaning(Says.UNKNOWN, value=words)


@lru_cache(maxsize=8192)
def understand(dialogue: Dialogue) -> Request:
    """Return what the last user turn of `dialogue` asks for, given the turns before it."""
    request = Request(kind=Kind.OTHER)
    said = ""
    for turn in dialogue.turns:
        if turn.role == "assistant":
            said = turn.text
        else:
            words = _without_reaction(split_instructions(turn.text)[1])
            request = _request(normalised(words), request, said)
    return request


def _without_reaction(text: str) -> str:
    """Return what a user says after the reaction to the response before, if there is one."""
    reaction = next((words for _, words in world.REACTIONS if text.startswith(words)), "")
    return text.removeprefix(reaction).strip()


def _request(words: str, earlier: Request, said: str) -> Request:
    """Return what `words` ask for, after the request `earlier` and its response `said`."""
    if words in REQUESTS:
        return REQUESTS[words]
    if words == _PRESSURE and earlier.is_unsafe:
        return earlier
    if earlier.kind in (Kind.FACT, Kind.ABOUT):
        return _animal_follow_up(words, earlier)
    match = _ADD_MORE.fullmatch(words)
    if match is not None and earlier.kind is Kind.SUM:
        more = world.NUMBERS.index(match[1])
        return Request(kind=Kind.SUM, numbers=(*earlier.numbers, more))
    if words in _STEP_QUESTIONS and earlier.kind in (Kind.TASK, Kind.STEP):
        return Request(kind=Kind.STEP, subject=earlier.subject, position=_STEP_QUESTIONS[words])
    if words == _MORE_ADVICE and earlier.kind is Kind.ADVICE:
        given = {meaning.value for meaning in read_response(said).saying(Says.SUGGESTION)}
        return Request(
            kind=Kind.ADVICE, subject=earlier.subject, given=earlier.given | frozenset(given)
        )
    return Request(kind=Kind.OTHER)


def _animal_follow_up(words: str, earlier: Request) -> Request:
    """Return the question about "it", or the earlier question about another animal."""
    if words in _FOLLOW_UPS:
        return Request(kind=Kind.FACT, subject=earlier.subject, attribute=_FOLLOW_UPS[words])
    if words in _OTHER_ANIMALS:
        return Request(
            kind=earlier.kind, subject=_OTHER_ANIMALS[words], attribute=earlier.attribute
        )
    return Request(kind=Kind.OTHER)
