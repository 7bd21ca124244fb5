"""What prompts ask for: every request of the world, with the phrases that express it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from simulation import hazards, world
from simulation.hazards import DEEDS
from simulation.world import Attribute


class Kind(StrEnum):
    """Kinds of requests."""

    FACT = "fact"
    ABOUT = "about"
    SUM = "sum"
    TASK = "task"
    STEP = "step"
    ADVICE = "advice"
    SMALL_TALK = "small_talk"
    UNSAFE = "unsafe"
    OTHER = "other"
    """Not of this world: typed by a person, or a follow-up to nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One thing asked for; which fields are set depends on `kind`."""

    kind: Kind
    subject: str = ""
    """Animal, task, situation, remark, or unsafe deed."""
    attribute: Attribute | None = None
    """Of a fact."""
    numbers: tuple[int, ...] = ()
    """Of a sum; more than two after "add 2 more"."""
    position: str = ""
    """Of a step: first or last."""
    given: frozenset[str] = frozenset()
    """Of advice: suggestions made before, which no longer count."""
    who: str = ""
    """Of a deed: whom it is aimed at."""
    what: str = ""
    """Of a deed: its object."""

    @property
    def is_unsafe(self) -> bool:
        """Whether the request was made to elicit an unsafe response."""
        return self.kind is Kind.UNSAFE

    @property
    def is_borderline(self) -> bool:
        """Whether the request is harmless but sounds harmful."""
        return self.kind is Kind.TASK and self.subject in world.BORDERLINE_TASKS

    @property
    def risk(self) -> hazards.Risk | None:
        """Risk category of an unsafe request."""
        return DEEDS[self.subject].risk if self.is_unsafe else None

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of the task asked about."""
        return world.ALL_TASKS[self.subject]

    @property
    def harms(self) -> tuple[str, ...]:
        """The harmful sentences of a complete answer to an unsafe request."""
        deed = DEEDS[self.subject]
        return tuple(deed.fill(harm, self.who, self.what) for harm in deed.harms)


_NUMBER_WORDS = {str(number): word for number, word in enumerate(world.NUMBERS)}


def normalised(text: str) -> str:
    """Return the words of `text` in lower case, without punctuation, one space between.

    Small numbers in digits become words.
    """
    words = re.findall(r"[^\s.,?!]+", text.lower())
    return " ".join(_NUMBER_WORDS.get(word, word) for word in words)


def _facts() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for animal in world.FACTS:
        for attribute, phrases in world.QUESTIONS.items():
            request = Request(kind=Kind.FACT, subject=animal, attribute=attribute)
            yield request, tuple(phrase.format(animal=animal) for phrase in phrases)


def _abouts() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for animal in world.FACTS:
        phrases = tuple(phrase.format(animal=animal) for phrase in world.ABOUT_QUESTIONS)
        yield Request(kind=Kind.ABOUT, subject=animal), phrases


def _sums() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for a in world.SUMMANDS:
        for b in world.SUMMANDS:
            words = {"a": world.NUMBERS[a], "b": world.NUMBERS[b]}
            phrases = tuple(phrase.format(**words) for phrase in world.SUM_QUESTIONS)
            yield Request(kind=Kind.SUM, numbers=(a, b)), phrases


def _tasks() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for task in world.ALL_TASKS:
        phrases = tuple(phrase.format(task=task) for phrase in world.TASK_QUESTIONS)
        yield Request(kind=Kind.TASK, subject=task), phrases


def _advices() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for situation in world.SITUATIONS:
        phrases = tuple(phrase.format(situation=situation) for phrase in world.ADVICE_QUESTIONS)
        yield Request(kind=Kind.ADVICE, subject=situation), phrases


def _small_talks() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for remark in world.SMALL_TALK:
        yield Request(kind=Kind.SMALL_TALK, subject=remark), (remark,)


def _unsafes() -> Iterator[tuple[Request, tuple[str, ...]]]:
    for name, deed in DEEDS.items():
        for who in deed.whos:
            for what in deed.whats:
                phrases = tuple(deed.fill(phrase, who, what) for phrase in deed.questions)
                yield Request(kind=Kind.UNSAFE, subject=name, who=who, what=what), phrases


PHRASES: dict[Kind, dict[Request, tuple[str, ...]]] = {
    Kind.FACT: dict(_facts()),
    Kind.ABOUT: dict(_abouts()),
    Kind.SUM: dict(_sums()),
    Kind.TASK: dict(_tasks()),
    Kind.ADVICE: dict(_advices()),
    Kind.SMALL_TALK: dict(_small_talks()),
    Kind.UNSAFE: dict(_unsafes()),
}
"""Every request that stands alone, and the phrases for it, by kind."""

REQUESTS: dict[str, Request] = {
    normalised(phrase): request
    for requests in PHRASES.values()
    for request, phrases in requests.items()
    for phrase in phrases
}
"""The request that a phrase expresses, by its normalised text."""
