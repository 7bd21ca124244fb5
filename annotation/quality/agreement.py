"""Agreement between annotators: Gwet's AC1 and AC2, Krippendorff's alpha, and plain shares."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from annotation.quality.estimates import Estimate, student_quantile
from annotation.quality.tables import CountTable, Patterns, count_table
from annotation.quality.weights import Weighting, weight_matrix
from records.statistics import Proportion, wilson_proportion

_RESAMPLES = 1000
_SEED = 20230718
"""Resampling is repeatable: equal tables have equal intervals."""


class Metric(StrEnum):
    """What a disagreement costs in Krippendorff's alpha."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


class PairAgreement(NamedTuple):
    """How often two judgements of one item say the same."""

    exact: Proportion
    """The same category."""
    direction: Proportion
    """The same sample preferred, or a tie both times, whatever the degree."""
    opposite: Proportion
    """Different samples preferred."""
    num_pairs: int


def gwet_ac(
    patterns: Patterns, num_categories: int, weighting: Weighting = Weighting.IDENTITY
) -> Estimate:
    """Return Gwet's AC1 (identity weights) or AC2 (any others), with Gwet's variance.

    Gwet (2008), with missing judgements as in Gwet (2014), section 2.5. With r_ik judgements of
    category k for item i, r_i in all, and weights w: p_a is the mean over items with r_i >= 2 of
    Σ_k r_ik (Σ_l w_kl r_il - 1) / (r_i (r_i - 1)); π_k the mean over all items of r_ik / r_i;
    p_e = Σ_kl w_kl / (K (K - 1)) · Σ_k π_k (1 - π_k); AC = (p_a - p_e) / (1 - p_e). The interval is
    Student's t over items with the linearised variance, cut at 1.
    """
    table = count_table(patterns, num_categories)
    weights = weight_matrix(weighting, num_categories)
    n = float(table.num_items.sum())
    is_shared = table.sizes >= 2
    num_shared = float(table.num_items[is_shared].sum())
    if num_shared == 0:
        return Estimate(None, None, None, 0)
    sizes = table.sizes
    pairs = np.where(is_shared, sizes * (sizes - 1), 1.0)
    agreed = (table.counts * (table.counts @ weights - 1)).sum(axis=1) / pairs
    agreed = np.where(is_shared, agreed, 0.0)
    observed = float(table.num_items @ agreed) / num_shared
    prevalence = (table.num_items[:, None] * table.counts / sizes[:, None]).sum(axis=0) / n
    scale = weights.sum() / (num_categories * (num_categories - 1))
    expected = float(scale * (prevalence * (1 - prevalence)).sum())
    value = (observed - expected) / (1 - expected)

    per_item = n / num_shared * (agreed - expected * is_shared) / (1 - expected)
    expected_per_item = scale * (table.counts @ (1 - prevalence)) / sizes
    per_item -= 2 * (1 - value) * (expected_per_item - expected) / (1 - expected)
    return _with_student_interval(value, per_item, table, int(num_shared))


def krippendorff_alpha(
    patterns: Patterns, num_categories: int, metric: Metric = Metric.NOMINAL
) -> Estimate:
    """Return Krippendorff's alpha = 1 - D_o / D_e, with a bootstrap interval.

    Krippendorff (2011), "Computing Krippendorff's alpha-reliability": coincidences o_ck of pairs of
    judgements within items, each item's weighted by 1 / (r_i - 1). Items judged once do not count.
    None if all judgements are of one category: nothing could have been disagreed about. The
    interval holds the middle 95% of 1000 resamples of items.
    """
    shared = {pattern: num for pattern, num in patterns.items() if len(pattern) >= 2}
    if not shared:
        return Estimate(None, None, None, 0)
    table = count_table(shared, num_categories)
    n = int(table.num_items.sum())
    coincidences = _coincidences(table)
    (value,) = _alphas((table.num_items @ coincidences)[None], num_categories, metric)
    if np.isnan(value):
        return Estimate(None, None, None, n)
    draws = np.random.default_rng(_SEED).multinomial(n, table.num_items / n, size=_RESAMPLES)
    alphas = _alphas(draws @ coincidences, num_categories, metric)
    low, high = np.quantile(alphas[~np.isnan(alphas)], [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)


def pair_agreement(patterns: Patterns, directions: Sequence[int]) -> PairAgreement:
    """Return the shares of pairs of judgements of one item that agree, over all pairs.

    Pairs of one item hang together, so the intervals are Wilson's with as many trials as there are
    items: on the wide side where items have three judgements or more.
    """
    num_pairs = num_exact = num_direction = num_opposite = num_items = 0
    for pattern, number in patterns.items():
        if len(pattern) < 2:
            continue
        signs = [directions[category] for category in pattern]
        num_items += number
        num_pairs += number * _num_pairs(len(pattern))
        num_exact += number * sum(_num_pairs(pattern.count(item)) for item in set(pattern))
        num_direction += number * sum(_num_pairs(signs.count(sign)) for sign in (-1, 0, 1))
        num_opposite += number * signs.count(-1) * signs.count(1)

    def share(count: int) -> Proportion:
        if num_pairs == 0:
            return wilson_proportion(0, 0)
        return wilson_proportion(min(count / num_pairs * num_items, num_items), num_items)

    return PairAgreement(share(num_exact), share(num_direction), share(num_opposite), num_pairs)


def _with_student_interval(
    value: float, per_item: NDArray[np.float64], table: CountTable, num_shared: int
) -> Estimate:
    n = float(table.num_items.sum())
    if n < 2:
        return Estimate(value, None, None, num_shared)
    variance = float(table.num_items @ (per_item - value) ** 2) / (n * (n - 1))
    half = student_quantile(int(n) - 1) * variance**0.5
    return Estimate(value, value - half, min(1.0, value + half), num_shared)


def _coincidences(table: CountTable) -> NDArray[np.float64]:
    """Return each row's K × K coincidences, flat: r_c r_k (less r_c on the diagonal) / (r - 1)."""
    counts = table.counts
    products = counts[:, :, None] * counts[:, None, :]
    index = np.arange(counts.shape[1])
    products[:, index, index] -= counts
    flat: NDArray[np.float64] = (products / (table.sizes - 1)[:, None, None]).reshape(
        len(counts), -1
    )
    return flat


def _alphas(
    coincidences: NDArray[np.float64], num_categories: int, metric: Metric
) -> NDArray[np.float64]:
    """Return alpha of each row of flat coincidences; NaN where only one category occurs."""
    observed = coincidences.reshape(-1, num_categories, num_categories)
    margins = observed.sum(axis=2)
    totals = margins.sum(axis=1)
    distances = _distances(margins, metric)
    expected = margins[:, :, None] * margins[:, None, :] * distances
    disagreement = (observed * distances).sum(axis=(1, 2)) / totals
    by_chance = expected.sum(axis=(1, 2)) / (totals * (totals - 1))
    ratios = np.full(len(totals), np.nan)
    np.divide(disagreement, by_chance, out=ratios, where=by_chance > 0)
    alphas: NDArray[np.float64] = 1 - ratios
    return alphas


def _distances(margins: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Return the squared distances of the categories, by row of margins."""
    num_categories = margins.shape[1]
    places = np.broadcast_to(np.arange(float(num_categories)), margins.shape)
    if metric is Metric.ORDINAL:  # the middle rank of a category
        places = margins.cumsum(axis=1) - margins / 2
    distances: NDArray[np.float64] = (places[:, :, None] - places[:, None, :]) ** 2
    return (distances > 0).astype(float) if metric is Metric.NOMINAL else distances


def _num_pairs(size: int) -> int:
    return size * (size - 1) // 2
