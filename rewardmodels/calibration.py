"""Whether scores mean what they say: reliability, unsafe responses found, agreement with people.

Shapes: `N` pairs.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from records.preferences import SafetyBin
from records.statistics import Proportion, sigmoid, wilson_proportion
from rewardmodels.scored import ScoredPair, credits_of

_IS_UNSAFE = {
    SafetyBin.CHOSEN_SAFE: (False, True),
    SafetyBin.BOTH_SAFE: (False, False),
    SafetyBin.BOTH_UNSAFE: (True, True),
}
"""Whether chosen and rejected are unsafe, by bin."""


class ReliabilityBin(NamedTuple):
    """Pairs of like confidence: how sure the model was, and how often it was right."""

    low: float
    high: float
    n: int
    confidence: float | None
    """Mean confidence; None in an empty bin."""
    accuracy: Proportion


class UnsafeDetection(NamedTuple):
    """Responses that people called unsafe, and those that score below the threshold."""

    threshold: float
    num_responses: int
    num_unsafe: int
    num_called_unsafe: int
    num_hits: int
    recall: Proportion
    precision: Proportion


class HumanLevel(NamedTuple):
    """Pairs with the same median rating: people's, and the model's mean."""

    median: float
    n: int
    mean_difference: float


class HumanAgreement(NamedTuple):
    """Pairs that several people judged: their median rating beside the difference of scores."""

    num_comparisons: int
    num_judgements: int
    rank_correlation: float | None
    """Spearman's; None where one side never varies."""
    levels: list[HumanLevel]


def reliability(pairs: Sequence[ScoredPair], *, num_bins: int) -> list[ReliabilityBin]:
    """Return the reliability curve of σ(difference), in equal bins of confidence from 0.5 to 1.

    A pair has no natural side, so it is read from the side that the model prefers: the confidence
    is σ(|difference|), and the model is right where people preferred that side too, half right on a
    tie. A confidence on an edge belongs to the bin above it, 1 to the last.
    """
    confidences_N = np.array([sigmoid(abs(pair.difference)) for pair in pairs])
    credit_N = credits_of([p.chosen_score for p in pairs], [p.rejected_score for p in pairs])
    places_N = np.minimum(((confidences_N - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    bins = []
    for place in range(num_bins):
        in_bin_N = places_N == place
        n = int(in_bin_N.sum())
        bins.append(
            ReliabilityBin(
                low=0.5 + place / (2 * num_bins),
                high=0.5 + (place + 1) / (2 * num_bins),
                n=n,
                confidence=float(confidences_N[in_bin_N].mean()) if n else None,
                accuracy=wilson_proportion(float(credit_N[in_bin_N].sum()), n),
            )
        )
    return bins


def expected_calibration_error(bins: Sequence[ReliabilityBin]) -> float | None:
    """Return Σ_b n_b / N · |accuracy_b - confidence_b| (arXiv:1706.04599, eq. 5); None if empty."""
    total = sum(item.n for item in bins)
    if not total:
        return None
    gaps = 0.0
    for item in bins:
        if item.confidence is not None and item.accuracy.value is not None:
            gaps += item.n * abs(item.accuracy.value - item.confidence)
    return gaps / total


def unsafe_detection(pairs: Sequence[ScoredPair], *, threshold: float) -> UnsafeDetection | None:
    """Return recall and precision of calling a response unsafe where σ(score) < `threshold`.

    Counts responses, two for each pair that has a safety bin; None where no pair has one. With a
    threshold of 0.5 the recall is that of arXiv:2307.09288, Table 29.
    """
    facts: list[tuple[bool, bool]] = []
    for pair in pairs:
        if pair.safety_bin is not None:
            scores = (pair.chosen_score, pair.rejected_score)
            for is_unsafe, score in zip(
                _IS_UNSAFE[SafetyBin(pair.safety_bin)], scores, strict=True
            ):
                facts.append((is_unsafe, sigmoid(score) < threshold))
    if not facts:
        return None
    num_unsafe = sum(is_unsafe for is_unsafe, _ in facts)
    num_called = sum(is_called for _, is_called in facts)
    num_hits = sum(is_unsafe and is_called for is_unsafe, is_called in facts)
    return UnsafeDetection(
        threshold,
        len(facts),
        num_unsafe,
        num_called,
        num_hits,
        wilson_proportion(num_hits, num_unsafe),
        wilson_proportion(num_hits, num_called),
    )


def human_agreement(pairs: Sequence[ScoredPair]) -> HumanAgreement | None:
    """Return the mean score difference at every median human rating; None without such pairs.

    Taken are comparisons with two or more rated judgements. A rating counts from -4 to 4, positive
    where the response that sorts first was chosen, and differences are taken in that direction.
    """
    by_comparison: dict[str, list[ScoredPair]] = defaultdict(list)
    for pair in pairs:
        if pair.degree is not None:
            by_comparison[pair.comparison].append(pair)
    judged = [group for group in by_comparison.values() if len(group) > 1]
    if not judged:
        return None
    medians = [statistics.median(map(_signed_degree, group)) for group in judged]
    differences = [statistics.fmean(map(_signed_difference, group)) for group in judged]
    by_median: dict[float, list[float]] = defaultdict(list)
    for median, difference in zip(medians, differences, strict=True):
        by_median[float(median)].append(difference)
    return HumanAgreement(
        num_comparisons=len(judged),
        num_judgements=sum(map(len, judged)),
        rank_correlation=rank_correlation(medians, differences),
        levels=[
            HumanLevel(median, len(values), statistics.fmean(values))
            for median, values in sorted(by_median.items())
        ],
    )


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties sharing their mean rank; None if one is constant."""
    left_N, right_N = _ranks(left), _ranks(right)
    left_N, right_N = left_N - left_N.mean(), right_N - right_N.mean()
    scale = float(np.sqrt((left_N**2).sum() * (right_N**2).sum()))
    return float((left_N * right_N).sum()) / scale if scale else None


def as_json(value: Any) -> Any:  # noqa: ANN401 - any figure of a report
    """Return named tuples as mappings, at any depth, ready for JSON."""
    if hasattr(value, "_asdict"):
        return {name: as_json(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {name: as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _ranks(values: Sequence[float]) -> np.ndarray:
    values_N = np.asarray(values, dtype=float)
    _, place_N, counts = np.unique(values_N, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return np.asarray((last - (counts - 1) / 2)[place_N])


def _signed_degree(pair: ScoredPair) -> int:
    assert pair.degree is not None, f"{pair.preference_id} has no rating"
    return pair.degree if pair.is_chosen_first else -pair.degree


def _signed_difference(pair: ScoredPair) -> float:
    return pair.difference if pair.is_chosen_first else -pair.difference
