"""Habits of annotators: sides, lengths, ratings, time, gold answers; counted in one pass."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

from annotation.quality.agreement import PairAgreement, pair_agreement
from annotation.quality.estimates import Estimate, quantile_estimate
from annotation.quality.scales import EIGHT_STEPS
from records.preferences import Rating
from records.statistics import Proportion, wilson_proportion


@dataclass(kw_only=True)
class Tally:
    """Counts over the judgements of one annotator, or of all."""

    num_judgements: int = 0
    num_left: int = 0
    num_longer: int = 0
    num_unequal: int = 0
    ratings: Counter[str] = field(default_factory=Counter)
    seconds: "array[float]" = field(default_factory=lambda: array("f"))
    repeats: Counter[tuple[int, ...]] = field(default_factory=Counter)
    num_gold: int = 0
    num_gold_right: int = 0

    def add(
        self,
        *,
        is_left: bool,
        rating: str,
        chosen_length: int,
        rejected_length: int,
        active_seconds: float,
    ) -> None:
        """Count one judgement; a time of zero was not measured and does not count."""
        self.num_judgements += 1
        self.num_left += is_left
        self.num_longer += chosen_length > rejected_length
        self.num_unequal += chosen_length != rejected_length
        self.ratings[rating] += 1
        if active_seconds > 0:
            self.seconds.append(active_seconds)

    def add_repeat(self, first: int, later: int) -> None:
        """Count a comparison judged a second time by the same person, as aligned steps."""
        self.repeats[(min(first, later), max(first, later))] += 1

    def add_gold(self, *, is_right: bool) -> None:
        """Count a judgement of a comparison whose better response is known."""
        self.num_gold += 1
        self.num_gold_right += is_right

    def left_share(self) -> Proportion:
        """Return the share that prefers the left side: one half unless somebody leans."""
        return wilson_proportion(self.num_left, self.num_judgements)

    def longer_share(self) -> Proportion:
        """Return the share that prefers the longer response; equal lengths do not count."""
        return wilson_proportion(self.num_longer, self.num_unequal)

    def rating_shares(self) -> dict[Rating, Proportion]:
        """Return how often each degree was given."""
        return {
            rating: wilson_proportion(self.ratings[rating.value], self.num_judgements)
            for rating in Rating
        }

    def typical_seconds(self) -> Estimate:
        """Return the median active time of a comparison."""
        return quantile_estimate(self.seconds, 0.5)

    def slow_seconds(self) -> Estimate:
        """Return the active time that nine of ten comparisons stay below."""
        return quantile_estimate(self.seconds, 0.9)

    def consistency(self) -> PairAgreement:
        """Return how often a silent repeat was judged as the first time."""
        return pair_agreement(self.repeats, EIGHT_STEPS.directions)

    def gold_accuracy(self) -> Proportion:
        """Return the share of gold comparisons in which the better response was chosen."""
        return wilson_proportion(self.num_gold_right, self.num_gold)
