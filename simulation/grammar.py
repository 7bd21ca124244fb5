"""Writing: requests put into words, and responses of a stated quality to them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from simulation import hazards, world
from simulation.hazards import DEEDS, Risk
from simulation.requests import PHRASES, Kind, Request
from simulation.world import Attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How often written responses are good or bad, as probabilities drawn independently."""

    correct: float
    """The answer, the steps, the suggestion or the reply is the right one."""
    complete: float
    """All steps, a reason, a question back, several facts."""
    polite: float
    """A polite opening; drawn again for the closing."""
    rambling: float
    """One to three sentences that say nothing."""
    repeating: float
    """A sentence is said twice."""
    unsure: float
    """"i do not know", where an answer is asked for."""
    false_refusal: float
    """A harmless request is refused."""
    complying: float
    """An unsafe request is complied with."""
    complying_after_refusal: float
    """An unsafe request is refused first and then complied with."""
    reasoned: float
    """A refusal says why."""
    alternative: float
    """A refusal offers something else."""


CORPUS_QUALITY = Quality(
    correct=0.55,
    complete=0.45,
    polite=0.40,
    rambling=0.35,
    repeating=0.06,
    unsure=0.04,
    false_refusal=0.06,
    complying=0.48,
    complying_after_refusal=0.04,
    reasoned=0.45,
    alternative=0.40,
)
"""The corpus: everything good occurs, and nothing reliably."""
DEMONSTRATION_QUALITY = Quality(
    correct=0.65,
    complete=0.50,
    polite=0.45,
    rambling=0.28,
    repeating=0.03,
    unsure=0.03,
    false_refusal=0.05,
    complying=0.36,
    complying_after_refusal=0.03,
    reasoned=0.50,
    alternative=0.45,
)
"""Demonstrations: somewhat better than the corpus, and still middling."""

_KIND_WEIGHTS: dict[Kind, float] = {
    Kind.FACT: 0.30,
    Kind.ABOUT: 0.10,
    Kind.SUM: 0.22,
    Kind.TASK: 0.18,
    Kind.ADVICE: 0.11,
    Kind.SMALL_TALK: 0.09,
}
_BORDERLINE_SHARE = 0.35
"""Share of the tasks asked about that sound harmful."""
_PRONOUN_SHARE = 0.15
"""How often a fact says "it" rather than the name."""
_SUM_ERRORS = (-2, -1, -1, 1, 1, 2)
"""What is added to a wrong total; near misses are the more likely ones."""
_SHORT_SUM_SHARE = 0.25
"""How often a sum is answered without repeating it."""


def sample_request(rng: random.Random, *, is_safety: bool) -> Request:
    """Return a request that stands alone: unsafe when `is_safety`, else harmless."""
    if is_safety:
        risk = rng.choice(tuple(Risk))
        deeds = [name for name, deed in DEEDS.items() if deed.risk is risk]
        name = rng.choice(deeds)
        return rng.choice([r for r in PHRASES[Kind.UNSAFE] if r.subject == name])
    (kind,) = rng.choices(tuple(_KIND_WEIGHTS), weights=tuple(_KIND_WEIGHTS.values()))
    if kind is Kind.TASK:
        is_borderline = rng.random() < _BORDERLINE_SHARE
        return rng.choice([r for r in PHRASES[kind] if r.is_borderline is is_borderline])
    return rng.choice(list(PHRASES[kind]))


def write_request(rng: random.Random, request: Request) -> str:
    """Return one of the phrases for a request that stands alone."""
    return rng.choice(PHRASES[request.kind][request])


def write_follow_up(rng: random.Random, request: Request) -> str | None:
    """Return a user turn that makes sense only after `request`, or None where there is none."""
    if request.is_unsafe:
        return hazards.PRESSURE
    if request.kind in (Kind.FACT, Kind.ABOUT):
        if rng.random() < 0.3:
            animal = rng.choice([name for name in world.FACTS if name != request.subject])
            return world.OTHER_ANIMAL_QUESTION.format(animal=animal)
        others = [text for a, text in world.FOLLOW_UP_QUESTIONS.items() if a != request.attribute]
        return rng.choice(others)
    if request.kind is Kind.SUM and len(request.numbers) == 2:
        return world.ADD_MORE_QUESTION.format(c=world.NUMBERS[rng.choice(world.ADDENDS)])
    if request.kind is Kind.TASK:
        return rng.choice(tuple(world.STEP_QUESTIONS.values()))
    if request.kind is Kind.ADVICE and not request.given:
        return world.MORE_ADVICE_QUESTION
    return None


def write_response(rng: random.Random, request: Request, quality: Quality) -> str:
    """Return a response to `request`, each of its qualities drawn from `quality`."""
    sentences = _content(rng, request, quality)
    if rng.random() < quality.repeating:
        sentences.append(rng.choice(sentences))
    if rng.random() < quality.rambling:
        for filler in rng.sample(world.FILLERS, rng.choice((1, 1, 2, 3))):
            sentences.insert(rng.randint(0, len(sentences)), filler)
    if rng.random() < quality.polite:
        sentences.insert(0, rng.choice(world.OPENINGS))
    if rng.random() < quality.polite:
        sentences.append(rng.choice(world.CLOSINGS))
    questions = {chat.question for chat in world.SMALL_TALK.values()}
    return " ".join(f"{text} ?" if text in questions else f"{text} ." for text in sentences)


def _content(rng: random.Random, request: Request, quality: Quality) -> list[str]:
    if request.is_unsafe:
        return _unsafe_content(rng, request, quality)
    if rng.random() < quality.false_refusal:
        deed = rng.choice(tuple(DEEDS.values()))
        refusal = [rng.choice(hazards.REFUSALS)]
        return [*refusal, deed.reason] if rng.random() < quality.reasoned else refusal
    if request.kind in (Kind.FACT, Kind.SUM, Kind.STEP) and rng.random() < quality.unsure:
        return [world.UNSURE]
    is_correct = rng.random() < quality.correct
    is_complete = rng.random() < quality.complete
    if request.kind is Kind.FACT:
        return [_fact(rng, request.subject, request.attribute, is_correct=is_correct)]
    if request.kind is Kind.ABOUT:
        return _about(rng, request, quality, is_complete=is_complete)
    if request.kind is Kind.SUM:
        return [_sum(rng, request, is_correct=is_correct)]
    if request.kind is Kind.TASK:
        steps = _some_steps(rng, request, is_correct=is_correct, is_complete=is_complete)
        return with_ordinals(steps)
    if request.kind is Kind.STEP:
        right = request.steps[0 if request.position == "first" else -1]
        wrong = rng.choice([step for step in request.steps if step != right])
        return [f"{request.position} {right if is_correct else wrong}"]
    if request.kind is Kind.ADVICE:
        return [_advice(rng, request, is_correct=is_correct, is_complete=is_complete)]
    if request.kind is Kind.SMALL_TALK:
        chats = world.SMALL_TALK
        right_chat = chats[request.subject]
        chat = right_chat if is_correct else rng.choice(tuple(chats.values()))
        return [chat.reply, chat.question] if is_complete else [chat.reply]
    return [world.UNSURE]


def _fact(rng: random.Random, animal: str, attribute: Attribute | None, *, is_correct: bool) -> str:
    assert attribute is not None, "a fact is about an attribute"
    value = world.FACTS[animal][attribute]
    if not is_correct:
        value = rng.choice([other for other in world.VALUES[attribute] if other != value])
    who = "it" if rng.random() < _PRONOUN_SHARE else f"the {animal}"
    return world.STATEMENTS[attribute].format(who=who, value=value)


def _about(
    rng: random.Random, request: Request, quality: Quality, *, is_complete: bool
) -> list[str]:
    attributes = rng.sample(tuple(Attribute), rng.choice((3, 4) if is_complete else (1, 2)))
    return [
        _fact(rng, request.subject, attribute, is_correct=rng.random() < quality.correct)
        for attribute in attributes
    ]


def _sum(rng: random.Random, request: Request, *, is_correct: bool) -> str:
    before, added = sum(request.numbers[:-1]), request.numbers[-1]
    total = before + added
    if not is_correct:
        total += rng.choice(_SUM_ERRORS)
    template = world.SUM_STATEMENTS[rng.random() < _SHORT_SUM_SHARE]
    a, b, c = (world.NUMBERS[number] for number in (before, added, total))
    return template.format(a=a, b=b, total=c)


def _some_steps(
    rng: random.Random, request: Request, *, is_correct: bool, is_complete: bool
) -> list[str]:
    """Return steps of the task: all or some, in order, or swapped or foreign when incorrect."""
    steps = list(request.steps)
    if not is_complete:
        kept = sorted(rng.sample(range(len(steps)), rng.randint(1, len(steps) - 1)))
        steps = [steps[i] for i in kept]
    if not is_correct:
        if len(steps) > 1 and rng.random() < 0.5:
            i = rng.randrange(len(steps) - 1)
            steps[i], steps[i + 1] = steps[i + 1], steps[i]
        else:
            task = rng.choice([name for name in world.ALL_TASKS if name != request.subject])
            steps[rng.randrange(len(steps))] = rng.choice(world.ALL_TASKS[task])
    return steps


def with_ordinals(steps: Sequence[str]) -> list[str]:
    """Return the steps with "first", "then" and "last" before them."""
    ordinals = ["first", *["then"] * (len(steps) - 2), "last"][: len(steps)]
    return [f"{ordinal} {step}" for ordinal, step in zip(ordinals, steps, strict=True)]


def _advice(rng: random.Random, request: Request, *, is_correct: bool, is_complete: bool) -> str:
    right = world.SITUATIONS[request.subject]
    situation = right
    if is_correct:
        fresh = [text for text in right.suggestions if text not in request.given]
        suggestion = rng.choice(fresh or right.suggestions)
    elif request.given and rng.random() < 0.5:
        suggestion = rng.choice(sorted(request.given))
    else:
        others = [name for name in world.SITUATIONS if name != request.subject]
        situation = world.SITUATIONS[rng.choice(others)]
        suggestion = rng.choice(situation.suggestions)
    if not is_complete:
        return world.SUGGESTION.format(suggestion=suggestion)
    return world.SUGGESTION_WITH_REASON.format(suggestion=suggestion, reason=situation.reason)


def _unsafe_content(rng: random.Random, request: Request, quality: Quality) -> list[str]:
    draw = rng.random()
    if draw < quality.complying:
        return _compliance(rng, request, is_complete=rng.random() < quality.complete)
    sentences = [rng.choice(hazards.REFUSALS)]
    if draw < quality.complying + quality.complying_after_refusal:
        return sentences + _compliance(rng, request, is_complete=rng.random() < quality.complete)
    deed = DEEDS[request.subject]
    if rng.random() < quality.reasoned:
        other = rng.choice(tuple(DEEDS.values()))
        sentences.append((deed if rng.random() < 0.8 else other).reason)
    if rng.random() < quality.alternative:
        is_fitting = rng.random() < 0.6
        sentences.append(deed.alternative if is_fitting else hazards.GENERAL_ALTERNATIVE)
    return sentences


def _compliance(rng: random.Random, request: Request, *, is_complete: bool) -> list[str]:
    harms = list(request.harms)
    if not is_complete:
        kept = sorted(rng.sample(range(len(harms)), rng.randint(1, len(harms) - 1)))
        harms = [harms[i] for i in kept]
    return with_ordinals(harms) if DEEDS[request.subject].has_steps else harms
