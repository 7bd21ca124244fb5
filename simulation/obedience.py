"""The truth about obedience: whether a response does what an instruction asks, found by reading."""

import re
from collections.abc import Iterable

from records.constraints import Constraint
from simulation import world
from simulation.instructions import Place, Rule, rule_of
from simulation.parsing import read_response
from simulation.requests import normalised


def obeys(constraint: Constraint, response: str) -> bool:
    """Return whether the first, or the last, sentence of `response` is the one asked for.

    Raises:
        ValueError: The constraint is not one of the sandbox's.
    """
    rule = rule_of(constraint)
    reading = read_response(response)
    if not reading.sentences or not reading.is_finished:
        return False
    place = 0 if rule.place is Place.BEGIN else -1
    return reading.sentences[place].text == normalised(rule.phrase)


def obedient(response: str, rules: Iterable[Rule]) -> str:
    """Return `response` as somebody would have written it who keeps to `rules`.

    An opening or closing that stands where the rule wants another one gives way to it.
    """
    sentences = re.findall(r"[^.?!]+[.?!]", response)
    for rule in rules:
        is_begin = rule.place is Place.BEGIN
        manners = world.OPENINGS if is_begin else world.CLOSINGS
        known = {normalised(text) for text in manners}
        if sentences and normalised(sentences[0 if is_begin else -1]) in known:
            sentences.pop(0 if is_begin else -1)
        sentences.insert(0 if is_begin else len(sentences), f"{rule.phrase} .")
    return " ".join(sentence.strip() for sentence in sentences)
