"""Tables of counts: how many items were judged in which way, however many items there are.

Everything that agreement needs of an item is how often each category was given to it. Items that
agree in this are one row with a number, so that a million comparisons judged twice on eight steps
are 36 rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Patterns = Mapping[tuple[int, ...], int]
"""Sorted categories given to an item, and the number of such items."""


class Label(NamedTuple):
    """A category that one annotator gave to one item."""

    item: str
    annotator: str
    category: int


@dataclass(frozen=True, kw_only=True)
class CountTable:
    """Rows of counts by category, and how many items have each row."""

    counts: NDArray[np.float64]
    num_items: NDArray[np.float64]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """How many judgements an item of each row has."""
        sizes: NDArray[np.float64] = self.counts.sum(axis=1)
        return sizes


def patterns_of(labels: Iterable[Label]) -> Counter[tuple[int, ...]]:
    """Count items by the categories given to them; of a person's several the first one counts."""
    by_item: dict[str, dict[str, int]] = {}
    for label in labels:
        by_item.setdefault(label.item, {}).setdefault(label.annotator, label.category)
    return Counter(tuple(sorted(given.values())) for given in by_item.values())


def repeats_of(labels: Iterable[Label]) -> Counter[tuple[int, ...]]:
    """Count (first, later) categories that one person gave to one item, sorted."""
    first: dict[tuple[str, str], int] = {}
    repeats: Counter[tuple[int, ...]] = Counter()
    for label in labels:
        key = (label.item, label.annotator)
        if key in first:
            repeats[tuple(sorted((first[key], label.category)))] += 1
        else:
            first[key] = label.category
    return repeats


def count_table(patterns: Patterns, num_categories: int) -> CountTable:
    """Return the table of `patterns`.

    Raises:
        ValueError: A category is not below `num_categories`, or an item has none.
    """
    counts = np.zeros((len(patterns), num_categories))
    for row, pattern in enumerate(patterns):
        if not pattern or not all(0 <= category < num_categories for category in pattern):
            raise ValueError(f"{pattern} are not categories below {num_categories}")
        np.add.at(counts[row], list(pattern), 1.0)
    return CountTable(counts=counts, num_items=np.array(list(patterns.values()), dtype=float))
