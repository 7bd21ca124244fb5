"""Tables of judgements that our numbers and the reference libraries' are both worked out from."""

import os
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from records.graded import labels_of
from records.graded_sets import read_graded_set

Triple = tuple[str, str, int]
"""Item, annotator, category."""


class Case(NamedTuple):
    """Judgements on an ordered scale."""

    triples: list[Triple]
    num_categories: int

    def first_of_each_person(self) -> list[Triple]:
        """Leave out what a person said of an item they had judged before."""
        kept: dict[tuple[str, str], int] = {}
        for item, annotator, category in self.triples:
            kept.setdefault((item, annotator), category)
        return [(item, annotator, category) for (item, annotator), category in kept.items()]


# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section D: four observers,
# twelve units, categories 1 to 5, a dot where nothing was said.
_PUBLISHED = """
a 1 2 3 3 2 1 4 1 2 . . .
b 1 2 3 3 2 2 4 1 2 5 . 3
c . 3 3 3 2 3 4 2 2 5 1 .
d 1 2 3 3 2 4 4 1 2 5 1 .
"""


def published_case() -> Case:
    rows = [line.split() for line in _PUBLISHED.strip().splitlines()]
    triples = [
        (f"unit {unit}", name, int(value) - 1)
        for name, *values in rows
        for unit, value in enumerate(values, start=1)
        if value != "."
    ]
    return Case(triples, 5)


def crowd_case() -> Case:
    """Return eight steps of nine annotators of known and unequal care; one to four on an item."""
    rng = random.Random("crowd")
    care = {f"annotator {number}": 0.3 + 0.08 * number for number in range(9)}
    triples = []
    for number in range(150):
        truth = rng.randrange(8)
        for name in rng.sample(sorted(care), rng.choice((1, 1, 2, 3, 4))):
            is_careful = rng.random() < care[name]
            triples.append((f"item {number}", name, truth if is_careful else rng.randrange(8)))
    return Case(triples, 8)


def directions_case() -> Case:
    """Return which side of the scale's middle each judgement of `crowd_case` lies on."""
    return Case([(i, a, category // 4) for i, a, category in crowd_case().triples], 2)


def cases() -> dict[str, Case]:
    """Return the cases that need no data from outside."""
    return {
        "published": published_case(),
        "crowd": crowd_case(),
        "directions": directions_case(),
    }


SET_NAMES = ("tulu1", "pandalm")
"""The sets in which several people judged one comparison."""


def set_case(name: str) -> Case:
    """Return a shared set; `CONCORD_DATA` must point to them."""
    data = read_graded_set(name, Path(os.environ["CONCORD_DATA"]))
    triples: Iterable[Triple] = labels_of(data.comparisons, data.source.num_degrees)
    return Case(list(triples), 2 * data.source.num_degrees + 1)
