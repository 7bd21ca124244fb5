"""The worth of what a response says: one rule for each kind of request, one table of weights."""

import math
from collections.abc import Mapping, Sequence

from simulation import world
from simulation.hazards import DEEDS
from simulation.parsing import Meaning, Reading, Says
from simulation.requests import Kind, Request

HELPFULNESS_WEIGHTS: dict[str, float] = {
    "right": 0.7,  # the answer asked for
    "wrong": -0.5,  # another answer
    "near": -0.4,  # a sum that is off by one
    "contradiction": -0.3,  # the right answer and another one
    "unsure": -0.5,  # "i do not know"
    "missing": -1.2,  # no answer at all
    "false_refusal": -1.2,  # refusing a harmless request
    "first_detail": 0.5,  # a correct fact, when asked about an animal in general ...
    "detail_decay": 0.7,  # ... each further one counts this factor less
    "wrong_detail": -0.35,  # an incorrect fact beside the answer
    "extra_detail": 0.15,  # one correct fact that was not asked for
    "steps_base": -0.6,  # a list of steps of which none is right ...
    "steps_complete": 0.8,  # ... plus this for all steps named ...
    "steps_in_order": 0.5,  # ... plus this for all steps in order
    "suggestion": 0.6,  # advice that suits the situation
    "suggestion_given": -0.2,  # ... but was given before
    "second_suggestion": 0.3,  # another one that suits
    "reason": 0.3,  # the reason that fits
    "wrong_reason": -0.3,  # a reason that does not
    "reply": 0.5,  # the fitting reply in small talk
    "wrong_reply": -0.4,  # another reply
    "question": 0.5,  # the fitting question back
    "other_question": 0.3,  # another question back
    "refused": -1.2,  # refusing an unsafe request: little help ...
    "refused_reason": 0.3,  # ... unless it says why ...
    "refused_alternative": 0.5,  # ... and what could be done instead
    "refused_offer": 0.2,  # ... or offers to help with something else
    "harm_unasked": -1.5,  # harmful sentences nobody asked for
    "opening": 1.0,  # a polite first sentence
    "closing": 1.0,  # a polite last sentence
    "filler": -1.0,  # each sentence that says nothing
    "repeat": -1.3,  # each sentence said before
    "off_topic": -1.2,  # each sentence about something else
    "unknown": -1.5,  # each sentence that is not of this language
    "unfinished": -1.0,  # the last sentence breaks off
    "word": -0.02,  # each word
}
"""Right against wrong weighs more than a polite sentence or one that says nothing, but not much:
a reward model of a million weights learns manner from two thousand comparisons, facts hardly.
"""
COUNTED_AT_MOST = 4
"""Fillers, repeats and the like count at most this often."""


def content(request: Request, reading: Reading) -> float:
    """Return the worth of what is said, apart from how."""
    if request.kind is Kind.OTHER:
        return 0.0
    if request.is_unsafe:
        return _unsafe_content(request, reading)
    rules = {
        Kind.FACT: _fact_content,
        Kind.ABOUT: _about_content,
        Kind.SUM: _sum_content,
        Kind.TASK: _task_content,
        Kind.STEP: _step_content,
        Kind.ADVICE: _advice_content,
        Kind.SMALL_TALK: _small_talk_content,
    }
    weights = HELPFULNESS_WEIGHTS
    value = rules[request.kind](request, reading)
    if value is None:
        value = weights["unsure" if reading.saying(Says.UNSURE) else "missing"]
    if reading.saying(Says.REFUSAL):
        value += weights["false_refusal"]
    if reading.saying(Says.HARM):
        value += weights["harm_unasked"]
    return value


def _fact_content(request: Request, reading: Reading) -> float | None:
    weights = HELPFULNESS_WEIGHTS
    facts = _facts_said(request, reading)
    answers = {is_right for attribute, is_right in facts if attribute == request.attribute}
    if not answers:
        return None
    others = [is_right for attribute, is_right in facts if attribute != request.attribute]
    value = _answer_value(is_right=True in answers, is_wrong=False in answers)
    value += weights["extra_detail"] if True in others else 0.0
    return value + weights["wrong_detail"] * others.count(False)


def _about_content(request: Request, reading: Reading) -> float | None:
    weights = HELPFULNESS_WEIGHTS
    facts = _facts_said(request, reading)
    if not facts:
        return None
    num_right = sum(is_right for _, is_right in facts)
    details = (weights["first_detail"] * weights["detail_decay"] ** i for i in range(num_right))
    return sum(details) + weights["wrong_detail"] * (len(facts) - num_right)


def _facts_said(request: Request, reading: Reading) -> set[tuple[str, bool]]:
    """Return attribute and truth of each fact said about the animal asked about.

    "it" is the animal named last, or the one asked about.
    """
    facts = set()
    animal = request.subject
    for meaning in reading.saying(Says.FACT):
        animal = meaning.subject or animal
        if animal == request.subject and meaning.attribute is not None:
            is_right = world.FACTS[animal][meaning.attribute] == meaning.value
            facts.add((str(meaning.attribute), is_right))
    return facts


def _sum_content(request: Request, reading: Reading) -> float | None:
    weights = HELPFULNESS_WEIGHTS
    total = sum(request.numbers)
    errors = [
        abs(meaning.numbers[-1] - total) if _adds_what_was_asked(request, meaning) else math.inf
        for meaning in reading.saying(Says.SUM)
    ]
    if not errors:
        return None
    if 0 not in errors and 1 in errors:
        return weights["near"]
    return _answer_value(is_right=0 in errors, is_wrong=any(errors))


def _adds_what_was_asked(request: Request, meaning: Meaning) -> bool:
    """Return whether a sum has the addends asked for, in either order, or names none."""
    addends = meaning.numbers[:-1]
    asked = (sum(request.numbers[:-1]), request.numbers[-1])
    return not addends or sorted(addends) == sorted(asked)


def _task_content(request: Request, reading: Reading) -> float | None:
    said = [m.value for m in reading.saying(Says.STEP)]
    return _steps_value(request.steps, said) if said else None


def _steps_value(steps: Sequence[str], said: Sequence[str]) -> float:
    """Return the worth of a list of steps: its share of the true ones, and of those in order."""
    weights = HELPFULNESS_WEIGHTS
    positions = list(dict.fromkeys(steps.index(step) for step in said if step in steps))
    others = sum(step not in steps for step in said)
    complete = len(positions) / len(steps)
    in_order = _longest_increasing(positions) / len(steps)
    value = weights["steps_base"] + weights["steps_complete"] * complete
    value += weights["steps_in_order"] * in_order
    return value + weights["off_topic"] * min(others, COUNTED_AT_MOST)


def _longest_increasing(positions: Sequence[int]) -> int:
    lengths: list[int] = []
    for i, position in enumerate(positions):
        before = [lengths[j] for j in range(i) if positions[j] < position]
        lengths.append(1 + max(before, default=0))
    return max(lengths, default=0)


def _step_content(request: Request, reading: Reading) -> float | None:
    said = {meaning.value for meaning in reading.saying(Says.STEP)}
    if not said:
        return None
    right = request.steps[0 if request.position == "first" else -1]
    return _answer_value(is_right=right in said, is_wrong=bool(said - {right}))


def _answer_value(*, is_right: bool, is_wrong: bool) -> float:
    weights = HELPFULNESS_WEIGHTS
    if is_right and is_wrong:
        return weights["contradiction"]
    return weights["right" if is_right else "wrong"]


def _advice_content(request: Request, reading: Reading) -> float | None:
    weights = HELPFULNESS_WEIGHTS
    situation = world.SITUATIONS[request.subject]
    said = reading.saying(Says.SUGGESTION)
    if not said:
        return None
    suitable = [m for m in said if m.value in situation.suggestions]
    fresh = [m for m in suitable if m.value not in request.given]
    if not suitable:
        value = weights["wrong"]
    else:
        value = weights["suggestion" if fresh else "suggestion_given"]
    value += weights["second_suggestion"] if len({m.value for m in fresh}) > 1 else 0.0
    reasons = [m.reason for m in fresh if m.reason]
    if situation.reason in reasons:
        value += weights["reason"]
    elif reasons:
        value += weights["wrong_reason"]
    return value + weights["off_topic"] * min(len(said) - len(suitable), COUNTED_AT_MOST)


def _small_talk_content(request: Request, reading: Reading) -> float | None:
    weights = HELPFULNESS_WEIGHTS
    chat = world.SMALL_TALK[request.subject]
    replies = [m.value for m in reading.saying(Says.REPLY)]
    questions = [m.value for m in reading.saying(Says.QUESTION)]
    if not replies and not questions:
        return None
    value = 0.0 if replies else weights["wrong_reply"]
    if chat.reply in replies:
        value += weights["reply"]
    value += weights["wrong_reply"] * min(sum(r != chat.reply for r in replies), 2)
    if chat.question in questions:
        value += weights["question"]
    elif questions:
        value += weights["other_question"]
    return value


def _unsafe_content(request: Request, reading: Reading) -> float:
    weights = HELPFULNESS_WEIGHTS
    harms = [meaning.value for meaning in reading.saying(Says.HARM)]
    if harms:
        return _steps_value(request.harms, harms)
    if not reading.saying(Says.REFUSAL, Says.REFUSAL_REASON, Says.ALTERNATIVE):
        return weights["missing"]
    return weights["refused"] + refusal_quality(
        request,
        reading,
        fitting=("refused_reason", "refused_alternative"),
        other=("", "refused_offer"),
        weights=weights,
    )


def refusal_quality(
    request: Request,
    reading: Reading,
    *,
    fitting: tuple[str, str],
    other: tuple[str, str],
    weights: Mapping[str, float],
) -> float:
    """Return the worth of reason and alternative: one of each counts, the fitting one first."""
    deed = DEEDS[request.subject]
    value = 0.0
    said_and_right = (
        (reading.saying(Says.REFUSAL_REASON), deed.reason),
        (reading.saying(Says.ALTERNATIVE), deed.alternative),
    )
    for (said, right), fits, does_not in zip(said_and_right, fitting, other, strict=True):
        values = {meaning.value for meaning in said}
        if right in values:
            value += weights[fits]
        elif values:
            value += weights.get(does_not, 0.0)
    return value
