"""Accuracy from exact counts, by rating and bin; histograms; the sums of a step."""

import pytest
import torch

from language.rows import TokenRow
from records.preferences import Rating, SafetyBin
from rewardmodels.data import Pair
from rewardmodels.metrics import (
    StepTotals,
    accuracy_by_rating,
    accuracy_by_safety_bin,
    accuracy_of,
    length_scores,
)


def pair(
    rating: Rating | None = None,
    safety_bin: SafetyBin | None = None,
    *,
    chosen_tokens: int = 1,
    rejected_tokens: int = 1,
) -> Pair:
    chosen = TokenRow((1, 5), (7,) * chosen_tokens)
    rejected = TokenRow((1, 5), (8,) * rejected_tokens)
    return Pair(chosen, rejected, rating, safety_bin)


def test_a_tie_counts_one_half_and_is_reported() -> None:
    accuracy = accuracy_of(torch.tensor([2.0, 1.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 3.0, 4.0]))
    assert accuracy.value == 0.625  # (2 + 1/2) / 4
    assert (accuracy.n, accuracy.ties) == (4, 1)


def test_the_interval_is_wilsons() -> None:
    # 8 of 10, worked by hand: 0.71674 ± 0.22658.
    chosen = torch.tensor([1.0] * 8 + [0.0] * 2)
    accuracy = accuracy_of(chosen, torch.full((10,), 0.5))
    assert accuracy.low == pytest.approx(0.49016, abs=2e-5)
    assert accuracy.high == pytest.approx(0.94332, abs=2e-5)


def test_accuracy_by_rating_has_every_rating_and_the_unrated() -> None:
    pairs = [pair(Rating.BETTER), pair(Rating.BETTER), pair(Rating.SIGNIFICANTLY_BETTER), pair()]
    chosen = torch.tensor([1.0, 0.0, 3.0, 0.0])
    rejected = torch.tensor([0.0, 1.0, 0.0, 0.0])
    accuracy = accuracy_by_rating(chosen, rejected, pairs)
    assert list(accuracy) == ["overall", *(rating.value for rating in Rating), "unrated"]
    assert (accuracy["overall"].value, accuracy["overall"].n) == (0.625, 4)
    assert (accuracy["better"].value, accuracy["better"].n) == (0.5, 2)
    assert (accuracy["significantly_better"].value, accuracy["unrated"].ties) == (1.0, 1)
    assert accuracy["slightly_better"][:4] == (None, 0.0, 1.0, 0)


def test_accuracy_by_safety_bin_keeps_pairs_without_a_bin_apart() -> None:
    pairs = [pair(safety_bin=SafetyBin.BOTH_SAFE), pair(safety_bin=SafetyBin.CHOSEN_SAFE), pair()]
    accuracy = accuracy_by_safety_bin(torch.tensor([1.0, -1.0, 1.0]), torch.zeros(3), pairs)
    assert {name: value.value for name, value in accuracy.items()} == {
        "chosen_safe": 0.0,
        "both_safe": 1.0,
        "both_unsafe": None,
        "no_bin": 1.0,
    }


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="diverged"):
        accuracy_of(torch.tensor([torch.nan]), torch.zeros(1))


def test_the_length_baseline_prefers_the_longer_response() -> None:
    pairs = [
        pair(chosen_tokens=3, rejected_tokens=2),
        pair(chosen_tokens=2, rejected_tokens=2),
        pair(chosen_tokens=1, rejected_tokens=2),
        pair(chosen_tokens=1, rejected_tokens=2),
    ]
    assert accuracy_of(*length_scores(pairs)).value == 0.375  # (1 + 1/2) / 4


def test_the_metrics_of_a_step_do_not_depend_on_its_micro_batches() -> None:
    pairs = [pair(Rating.BETTER), pair(Rating.BETTER), pair(Rating.NEGLIGIBLY_BETTER), pair()]
    losses = torch.tensor([1.0, 2.0, 3.0, 6.0])
    chosen = torch.tensor([2.0, 0.0, 1.0, 1.0])
    rejected = torch.tensor([1.0, 1.0, 1.0, 0.0])
    whole, split = StepTotals(torch.device("cpu")), StepTotals(torch.device("cpu"))
    whole.add(losses, chosen, rejected, pairs)
    split.add(losses[:3], chosen[:3], rejected[:3], pairs[:3])
    split.add(losses[3:], chosen[3:], rejected[3:], pairs[3:])
    assert whole.metrics() == split.metrics()
    assert whole.metrics() == {
        "loss": 3.0,
        "accuracy": 0.625,
        "margin": 0.25,
        "tokens": 16,
        "pairs": 4,
        "accuracy_better": 0.5,
        "accuracy_negligibly_better": 0.5,
    }
