"""Quantiles: of Student's t by its table, of samples by hand."""

import pytest

from annotation.quality.estimates import Estimate, quantile_estimate, student_quantile


@pytest.mark.parametrize(
    # The 97.5% column of any table of Student's t.
    ("degrees", "quantile"),
    [
        (1, 12.7062047), (2, 4.3026527), (3, 3.1824463), (10, 2.2281389), (29, 2.0452296),
        (100, 1.9839715), (200, 1.9718962), (201, 1.9718366), (1000, 1.9623391),
    ],
)  # fmt: skip
def test_students_quantile_is_that_of_the_table(degrees: int, quantile: float) -> None:
    assert student_quantile(degrees) == pytest.approx(quantile, abs=1e-6)


def test_closed_form_and_expansion_meet() -> None:
    steps = [student_quantile(d) - student_quantile(d + 1) for d in (199, 200, 201)]
    assert steps[0] > steps[1] > steps[2] > 0


def test_no_degrees_of_freedom_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 degree of freedom, not 0"):
        student_quantile(0)


def test_a_median_lies_between_ranks_and_its_interval_on_them() -> None:
    # n = 100: ranks 50 ± 1.96 · 5 = 40.2 and 59.8; outwards the 40th and 61st smallest.
    estimate = quantile_estimate([float(value) for value in range(1, 101)], 0.5)
    assert estimate == Estimate(50.5, 40.0, 61.0, 100)


def test_few_values_do_not_bound_a_quantile() -> None:
    estimate = quantile_estimate([10.0, 20.0, 30.0, 40.0, 50.0], 0.9)
    assert estimate.value == pytest.approx(46.0)
    # Ranks 4.5 ± 1.96 · 0.67: from the 3rd, and beyond the 5th.
    assert (estimate.low, estimate.high) == (30.0, None)


def test_nothing_has_no_quantile() -> None:
    assert quantile_estimate([], 0.5) == Estimate(None, None, None, 0)
