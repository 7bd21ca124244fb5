"""Agreement: numbers worked by hand, published ones, and what must not change them."""

from collections import Counter

import pytest

from annotation.quality.agreement import Metric, gwet_ac, krippendorff_alpha, pair_agreement
from annotation.quality.estimates import Estimate
from annotation.quality.scales import EIGHT_STEPS, mirrored_scale, step_of
from annotation.quality.tables import Label, count_table, patterns_of, repeats_of
from annotation.quality.weights import Weighting, weight_matrix
from records.preferences import Rating
from tests.annotation.quality.cases import published_case

PUBLISHED = patterns_of(Label(*triple) for triple in published_case().triples)


@pytest.mark.parametrize(
    # Krippendorff (2011), sections B to D: 0.743, 0.815 and 0.849.
    ("metric", "alpha"),
    [(Metric.NOMINAL, 0.743), (Metric.ORDINAL, 0.815), (Metric.INTERVAL, 0.849)],
)
def test_alpha_is_the_published_one(metric: Metric, alpha: float) -> None:
    assert krippendorff_alpha(PUBLISHED, 5, metric).value == pytest.approx(alpha, abs=5e-4)


def test_ac1_is_the_one_worked_by_hand() -> None:
    # Four items, two people, two categories: 00, 00, 11, 01. p_a = 3/4; π = (5/8, 3/8), so
    # p_e = 2/2 · (2 · 15/64) = 15/32; AC1 = (24/32 - 15/32) / (17/32) = 9/17.
    estimate = gwet_ac({(0, 0): 2, (1, 1): 1, (0, 1): 1}, 2)
    assert estimate.value == pytest.approx(9 / 17)
    assert estimate.n == 4


def test_an_item_judged_once_counts_in_prevalence_alone() -> None:
    # As above with one more item judged 1 by one person: p_a stays 3/4, π_0 = (2 + 1/2) / 5 = 1/2,
    # p_e = 1/2, AC1 = 1/2.
    estimate = gwet_ac({(0, 0): 2, (1, 1): 1, (0, 1): 1, (1,): 1}, 2)
    assert estimate.value == pytest.approx(0.5)
    assert estimate.n == 4


def test_perfect_agreement_is_one_and_its_interval_is_cut_there() -> None:
    assert gwet_ac({(0, 0): 5, (3, 3, 3): 5}, 4).value == 1.0
    assert gwet_ac({(0, 0): 5, (3, 3): 5}, 4).high == 1.0
    assert krippendorff_alpha({(0, 0): 5, (3, 3): 5}, 4).value == 1.0


def test_alpha_says_nothing_where_only_one_category_occurs_and_ac1_still_does() -> None:
    assert krippendorff_alpha({(2, 2): 9}, 4) == Estimate(None, None, None, 9)
    assert gwet_ac({(2, 2): 9}, 4).value == 1.0


@pytest.mark.parametrize("patterns", [{}, {(1,): 7}])
def test_nothing_judged_twice_says_nothing(patterns: dict[tuple[int, ...], int]) -> None:
    assert gwet_ac(patterns, 4) == Estimate(None, None, None, 0)
    assert krippendorff_alpha(patterns, 4) == Estimate(None, None, None, 0)
    agreement = pair_agreement(patterns, EIGHT_STEPS.directions)
    assert (agreement.exact.value, agreement.num_pairs) == (None, 0)


def test_more_items_of_the_same_kinds_narrow_the_intervals_and_leave_the_values() -> None:
    few = {(0, 0): 6, (1, 1): 5, (0, 1): 4}
    many = {pattern: 100 * number for pattern, number in few.items()}
    for function in (gwet_ac, krippendorff_alpha):
        one, other = function(few, 2), function(many, 2)
        assert one.low is not None
        assert one.high is not None
        assert other.low is not None
        assert other.high is not None
        assert other.high - other.low < 0.2 * (one.high - one.low)
    assert gwet_ac(many, 2).value == pytest.approx(gwet_ac(few, 2).value)


def test_the_bootstrap_covers_what_the_analytic_interval_covers() -> None:
    # With two people, two categories near one half each, alpha and AC1 nearly coincide.
    patterns = {(0, 0): 400, (1, 1): 400, (0, 1): 200}
    alpha, ac1 = krippendorff_alpha(patterns, 2), gwet_ac(patterns, 2)
    assert alpha.value == pytest.approx(ac1.value, abs=1e-3)
    assert alpha.low == pytest.approx(ac1.low, abs=0.01)
    assert alpha.high == pytest.approx(ac1.high, abs=0.01)


def test_equal_tables_have_equal_intervals_whenever_they_are_asked_for() -> None:
    assert krippendorff_alpha(PUBLISHED, 5) == krippendorff_alpha(PUBLISHED, 5)


def test_shares_of_pairs_are_counted_by_hand() -> None:
    # Scale: 0, 1 prefer the first, 2 is a tie, 3, 4 prefer the second. The pairs of (0, 0, 1):
    # one exact, three of one direction. (0, 4): opposite. (2, 3): none of all.
    scale = mirrored_scale(2)
    agreement = pair_agreement({(0, 0, 1): 1, (0, 4): 1, (2, 3): 1, (1,): 5}, scale.directions)
    assert agreement.num_pairs == 5
    assert agreement.exact.value == pytest.approx(1 / 5)
    assert agreement.direction.value == pytest.approx(3 / 5)
    assert agreement.opposite.value == pytest.approx(1 / 5)
    assert agreement.exact.n == 3  # items, not pairs: pairs of one item hang together


def test_a_second_judgement_of_the_same_person_is_a_repeat_and_no_agreement() -> None:
    labels = [Label("x", "ann", 0), Label("x", "bob", 1), Label("x", "ann", 4)]
    assert patterns_of(labels) == Counter({(0, 1): 1})
    assert repeats_of(labels) == Counter({(0, 4): 1})


def test_steps_follow_the_samples_and_mirror_each_other() -> None:
    steps = [step_of(rating, prefers_first=True) for rating in Rating]
    assert steps == [0, 1, 2, 3]
    assert [step_of(rating, prefers_first=False) for rating in Rating] == [7, 6, 5, 4]
    assert EIGHT_STEPS.directions == (-1, -1, -1, -1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="lovely"):
        step_of("lovely", prefers_first=True)


@pytest.mark.parametrize(
    ("weighting", "first_row"),
    [
        (Weighting.IDENTITY, (1, 0, 0, 0)),
        (Weighting.LINEAR, (1, 2 / 3, 1 / 3, 0)),
        (Weighting.QUADRATIC, (1, 8 / 9, 5 / 9, 0)),
        (Weighting.ORDINAL, (1, 5 / 6, 1 / 2, 0)),  # 1, 3 and 6 pairs of neighbours
    ],
)
def test_weights_of_four_categories(weighting: Weighting, first_row: tuple[float, ...]) -> None:
    assert weight_matrix(weighting, 4)[0] == pytest.approx(first_row)


def test_what_is_not_on_the_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="categories below 4"):
        count_table({(0, 4): 1}, 4)
    with pytest.raises(ValueError, match="at least 2 categories, not 1"):
        weight_matrix(Weighting.LINEAR, 1)
