"""All numbers on the quality of a body of judgements, from its rows in one pass."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from annotation.quality.agreement import Metric, gwet_ac, krippendorff_alpha, pair_agreement
from annotation.quality.competence import one_coin_competence
from annotation.quality.estimates import Estimate
from annotation.quality.habits import Tally
from annotation.quality.scales import EIGHT_STEPS, step_of
from annotation.quality.tables import Label
from annotation.quality.weights import Weighting
from records.statistics import Proportion, wilson_proportion


class JudgementRow(NamedTuple):
    """What the numbers need of one judgement."""

    comparison_id: int
    annotator: str
    """A pseudonym."""
    chosen_id: int
    other_id: int
    rating: str
    is_left: bool
    chosen_length: int
    other_length: int
    active_seconds: float
    gold_id: int | None = None
    """The better sample, of a gold comparison that was put before this person to measure them."""

    @property
    def step(self) -> int:
        """The category on `EIGHT_STEPS`: the sample stored first is its left end."""
        return step_of(self.rating, prefers_first=self.chosen_id < self.other_id)


class AnnotatorFigures(NamedTuple):
    """One annotator's numbers."""

    pseudonym: str
    num_judgements: int
    numbers: Mapping[str, Estimate]


class Figures(NamedTuple):
    """Every number of a body of judgements, by name; `docs/metrics.md` defines them."""

    num_judgements: int
    num_comparisons: int
    num_shared: int
    """Comparisons that two people or more have judged."""
    numbers: Mapping[str, Estimate]
    annotators: tuple[AnnotatorFigures, ...]
    """Those with the most judgements first."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready mapping; `from_json` reverses it."""
        return {
            "num_judgements": self.num_judgements,
            "num_comparisons": self.num_comparisons,
            "num_shared": self.num_shared,
            "numbers": {name: list(value) for name, value in self.numbers.items()},
            "annotators": [
                [who.pseudonym, who.num_judgements, {k: list(v) for k, v in who.numbers.items()}]
                for who in self.annotators
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Figures":
        """Return the figures that `to_json` wrote."""
        return cls(
            data["num_judgements"],
            data["num_comparisons"],
            data["num_shared"],
            _estimates(data["numbers"]),
            tuple(
                AnnotatorFigures(pseudonym, number, _estimates(numbers))
                for pseudonym, number, numbers in data["annotators"]
            ),
        )


@dataclass
class _Counts:
    """What one pass over the rows leaves: small, but for the labels of shared comparisons."""

    overall: Tally = field(default_factory=Tally)
    by_annotator: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    patterns: Counter[tuple[int, ...]] = field(default_factory=Counter)
    with_others: dict[str, Counter[tuple[int, ...]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """By annotator: the pairs of their category with each other one's, sorted."""
    directions: list[Label] = field(default_factory=list)
    """Which sample each judgement of a shared comparison prefers."""
    num_comparisons: int = 0
    num_shared: int = 0


def measure(rows: Iterable[JudgementRow]) -> Figures:
    """Return all numbers of `rows`, which come sorted by comparison and then by time.

    Memory grows with the number of annotators and of comparisons that several people judged, and by
    four bytes a row for the times.
    """
    counts = _Counts()
    for _, group in groupby(rows, key=attrgetter("comparison_id")):
        _count_comparison(counts, list(group))
    competence = one_coin_competence(counts.directions, 2).by_annotator
    ranked = sorted(counts.by_annotator.items(), key=lambda item: (-item[1].num_judgements, item))
    return Figures(
        num_judgements=counts.overall.num_judgements,
        num_comparisons=counts.num_comparisons,
        num_shared=counts.num_shared,
        numbers={**_agreement_numbers(counts.patterns), **_habit_numbers(counts.overall)},
        annotators=tuple(
            AnnotatorFigures(
                name,
                tally.num_judgements,
                {
                    "agreement": _with_others(counts.with_others[name]),
                    "competence": _of(competence.get(name, wilson_proportion(0, 0))),
                    **_habit_numbers(tally),
                },
            )
            for name, tally in ranked
        ),
    )


def _count_comparison(counts: _Counts, rows: list[JudgementRow]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        for tally in (counts.overall, counts.by_annotator[row.annotator]):
            tally.add(
                is_left=row.is_left,
                rating=row.rating,
                chosen_length=row.chosen_length,
                rejected_length=row.other_length,
                active_seconds=row.active_seconds,
            )
            if row.gold_id is not None:
                tally.add_gold(is_right=row.chosen_id == row.gold_id)
            elif row.annotator in first:
                tally.add_repeat(first[row.annotator], row.step)
        if row.gold_id is None:  # gold is chosen for being clear: it would flatter agreement
            first.setdefault(row.annotator, row.step)
    counts.num_comparisons += 1
    if first:
        counts.patterns[tuple(sorted(first.values()))] += 1
    if len(first) < 2:
        return
    counts.num_shared += 1
    item = str(rows[0].comparison_id)
    for name, step in first.items():
        is_second = int(EIGHT_STEPS.directions[step] > 0)
        counts.directions.append(Label(item, name, is_second))
        for other, theirs in first.items():
            if other != name:
                counts.with_others[name][(min(step, theirs), max(step, theirs))] += 1


def _agreement_numbers(patterns: Counter[tuple[int, ...]]) -> dict[str, Estimate]:
    size = EIGHT_STEPS.num_categories
    pairs = pair_agreement(patterns, EIGHT_STEPS.directions)
    return {
        **{f"gwet_{w}": gwet_ac(patterns, size, w) for w in Weighting},
        **{f"alpha_{m}": krippendorff_alpha(patterns, size, m) for m in Metric},
        "exact": _of(pairs.exact),
        "direction": _of(pairs.direction),
        "contradiction": _of(pairs.opposite),
    }


def _habit_numbers(tally: Tally) -> dict[str, Estimate]:
    repeats = tally.consistency()
    return {
        "consistency_exact": _of(repeats.exact),
        "consistency_direction": _of(repeats.direction),
        "gold": _of(tally.gold_accuracy()),
        "left": _of(tally.left_share()),
        "longer": _of(tally.longer_share()),
        "median_seconds": tally.typical_seconds(),
        "slow_seconds": tally.slow_seconds(),
        **{f"rating_{rating}": _of(share) for rating, share in tally.rating_shares().items()},
    }


def _with_others(pairs: Counter[tuple[int, ...]]) -> Estimate:
    return _of(pair_agreement(pairs, EIGHT_STEPS.directions).direction)


def _of(share: Proportion) -> Estimate:
    if share.value is None:
        return Estimate(None, None, None, 0)
    return Estimate(*share)


def _estimates(data: Mapping[str, Iterable[Any]]) -> dict[str, Estimate]:
    return {name: Estimate(*value) for name, value in data.items()}
