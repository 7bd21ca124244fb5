"""Length and position: what the scores owe to them, by hand and on a model."""

from pathlib import Path

import pytest
import torch

from language.rows import TokenRow
from language.scalars import create_scalar_model
from rewardmodels.biases import length_bias, position_bias, summarise_positions
from rewardmodels.data import Pair
from tests.models import write_tiny_policy
from tests.rewardmodels.rows import row


def test_length_bias_by_hand() -> None:
    pairs = [
        row(3.0, 0.0, chosen_tokens=5, rejected_tokens=2),  # longer chosen, right
        row(0.0, 1.0, chosen_tokens=4, rejected_tokens=3),  # longer chosen, wrong
        row(0.0, 2.0, chosen_tokens=1, rejected_tokens=3),  # shorter chosen, wrong: prefers longer
        row(1.0, 1.0, chosen_tokens=1, rejected_tokens=2),  # shorter chosen, a tie
        row(5.0, 0.0, chosen_tokens=2, rejected_tokens=2),  # as long
    ]
    bias = length_bias(pairs)
    assert bias.num_unequal == 4
    assert bias.human_prefers_longer.value == 0.5
    assert bias.model_prefers_longer.value == 0.625  # (1 + 0 + 1 + 1/2) / 4
    assert bias.accuracy_longer_chosen.value == 0.5
    assert bias.accuracy_shorter_chosen.value == 0.25
    # Σ ds·dl = 9 - 1 + 4 + 0 + 0 = 12; Σ ds² = 9 + 1 + 4 + 25 = 39; Σ dl² = 9 + 1 + 4 + 1 = 15.
    assert bias.correlation == pytest.approx(12 / (39 * 15) ** 0.5)


def test_the_correlation_is_the_same_from_the_other_side() -> None:
    pairs = [
        row(3.0, 0.0, chosen_tokens=5, rejected_tokens=2),
        row(0.0, 1.0, chosen_tokens=4, rejected_tokens=2),
    ]
    turned = [row(0.0, 3.0, chosen_tokens=2, rejected_tokens=5), pairs[1]]
    assert length_bias(turned).correlation == pytest.approx(length_bias(pairs).correlation)


def test_without_pairs_there_is_no_bias() -> None:
    bias = length_bias([])
    assert (bias.num_unequal, bias.correlation, bias.model_prefers_longer.value) == (0, None, None)


def test_position_bias_by_hand() -> None:
    # Pair 1 keeps its order; pair 2 prefers what is read first; pair 3 ties, then prefers chosen.
    chosen_first = (torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
    rejected_first = (torch.tensor([2.0, 0.0, 0.5]), torch.tensor([1.0, 1.0, 0.0]))
    bias = summarise_positions(chosen_first, rejected_first)
    assert (bias.num_pairs, bias.num_flipped, bias.max_difference) == (3, 2, 1.0)
    # First preferred: 1, 1, 1/2 of the first order; 0, 1, 0 of the second.
    assert bias.first_preferred.value == pytest.approx(3.5 / 6)


def test_a_model_that_reads_responses_apart_has_no_position_bias(tmp_path: Path) -> None:
    model = create_scalar_model(write_tiny_policy(tmp_path / "policy"), seed=5)
    pairs = [
        Pair(TokenRow((1, 40, 41), (50 + i, 2)), TokenRow((1, 40, 41), (60, 61 + i, 2)), None, None)
        for i in range(10)
    ]
    bias = position_bias(model, pairs)
    assert bias is not None
    assert bias.num_pairs == 10
    assert bias.max_difference < 1e-5
    assert bias.first_preferred.value == 0.5
    assert position_bias(model, []) is None
