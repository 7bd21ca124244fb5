"""How competent each annotator is, judged by the others: the one-coin model of Dawid and Skene."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from annotation.quality.tables import Label
from records.statistics import Proportion, wilson_proportion

_TINY = 1e-10
_TOLERANCE = 1e-13


class Competence(NamedTuple):
    """What the model found."""

    by_annotator: Mapping[str, Proportion]
    """The probability that an annotator gives the true category."""
    num_items: int


class _Labels(NamedTuple):
    items: NDArray[np.int64]
    annotators: NDArray[np.int64]
    categories: NDArray[np.int64]
    names: list[str]
    num_items: int


def one_coin_competence(
    labels: Iterable[Label], num_categories: int, *, max_steps: int = 500
) -> Competence:
    """Return each annotator's competence by expectation-maximisation, from items judged twice.

    Dawid & Skene (1979) with one parameter per annotator (Zhang et al., arXiv:1406.3824): they give
    the true category with probability s, each other one with (1 - s) / (K - 1). It begins with the
    shares of the categories in each item and stops when no competence moves any more, or after
    `max_steps`. The interval is Wilson's for the expected number of true categories given; that the
    truth is itself an estimate is not in it.

    Raises:
        ValueError: There are fewer than two categories.
    """
    if num_categories < 2:
        raise ValueError(f"competence needs at least 2 categories, not {num_categories}")
    data = _shared_labels(labels)
    if data.num_items == 0:
        return Competence({}, 0)
    given = np.bincount(data.annotators, minlength=len(data.names))
    truths = np.zeros((data.num_items, num_categories))
    np.add.at(truths, (data.items, data.categories), 1.0)
    truths /= truths.sum(axis=1, keepdims=True)
    skills = _skills(data, truths, given)
    for _ in range(max_steps):
        truths = _truths(data, skills, truths.mean(axis=0), num_categories)
        moved = _skills(data, truths, given)
        is_still = np.abs(moved - skills).max() < _TOLERANCE
        skills = moved
        if is_still:
            break
    return Competence(
        {
            name: wilson_proportion(float(np.clip(skill * number, 0, number)), int(number))
            for name, skill, number in zip(data.names, skills, given, strict=True)
        },
        data.num_items,
    )


def _shared_labels(labels: Iterable[Label]) -> _Labels:
    """Return the first label of each person for each item that two people or more have judged."""
    by_item: dict[str, dict[str, int]] = {}
    for label in labels:
        by_item.setdefault(label.item, {}).setdefault(label.annotator, label.category)
    shared = [given for given in by_item.values() if len(given) >= 2]
    names = sorted({name for given in shared for name in given})
    numbers = {name: number for number, name in enumerate(names)}
    rows = [
        (item, numbers[name], category)
        for item, given in enumerate(shared)
        for name, category in given.items()
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return _Labels(columns[0], columns[1], columns[2], names, len(shared))


def _skills(
    data: _Labels, truths: NDArray[np.float64], given: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The M step: the expected share of true categories among those given."""
    right = truths[data.items, data.categories]
    skills: NDArray[np.float64] = np.bincount(data.annotators, right, len(data.names)) / given
    return skills


def _truths(
    data: _Labels,
    skills: NDArray[np.float64],
    prior: NDArray[np.float64],
    num_categories: int,
) -> NDArray[np.float64]:
    """The E step: the probability of each category being the true one, by item."""
    hit = np.log(np.clip(skills, _TINY, 1 - _TINY))
    miss = np.log(np.clip((1 - skills) / (num_categories - 1), _TINY, 1 - _TINY))
    logs = np.tile(np.log(np.clip(prior, _TINY, None)), (data.num_items, 1))
    logs += np.bincount(data.items, miss[data.annotators], data.num_items)[:, None]
    np.add.at(logs, (data.items, data.categories), (hit - miss)[data.annotators])
    truths = np.exp(logs - logs.max(axis=1, keepdims=True))
    normalised: NDArray[np.float64] = truths / truths.sum(axis=1, keepdims=True)
    return normalised
