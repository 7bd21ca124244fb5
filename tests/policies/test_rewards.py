"""Rewards per token: where the score goes, what the KL costs, what a cut response pays."""

import pytest
import torch

from language.rows import pad_rows
from policies.kl import kl_estimates
from policies.rewards import final_scores, gated_score, last_response_tokens, token_rewards
from records.ppo_choices import TruncationRule
from tests.policies.toys import row

# Row 0: 2 prompt tokens, 3 response tokens. Row 1: 1 prompt token, 1 response token (the end).
MASK_BT = torch.tensor([[False, False, True, True, True], [False, True, False, False, False]])


def test_the_score_lies_on_the_last_response_token_once_in_a_row() -> None:
    rewards_BT = token_rewards(torch.tensor([2.0, -1.0]), torch.zeros(2, 5), MASK_BT, kl_coef=0.1)
    assert rewards_BT.tolist() == [[0.0, 0.0, 0.0, 0.0, 2.0], [0.0, -1.0, 0.0, 0.0, 0.0]]


def test_the_score_lies_on_the_end_token_even_where_padding_has_the_same_id() -> None:
    end = 2
    batch = pad_rows([row([1, 5], [7, end]), row([1], [7, 8, 9, 7, end])], pad_id=end)
    rewards_BT = token_rewards(
        torch.ones(2), torch.zeros(batch.ids_BT.shape), batch.response_mask_BT, kl_coef=0.0
    )
    assert rewards_BT.nonzero().tolist() == [[0, 3], [1, 5]]
    assert batch.ids_BT[rewards_BT > 0].tolist() == [end, end]


def test_every_response_token_pays_its_own_divergence() -> None:
    kl_BT = torch.tensor([[9.0, 9.0, 1.0, -2.0, 3.0], [9.0, 4.0, 9.0, 9.0, 9.0]])
    rewards_BT = token_rewards(torch.tensor([2.0, -1.0]), kl_BT, MASK_BT, kl_coef=0.5)
    # 2 - 0.5 * 3 = 0.5 at the end of row 0; -1 - 0.5 * 4 = -3 at that of row 1
    assert rewards_BT.tolist() == [[0.0, 0.0, -0.5, 1.0, 0.5], [0.0, -3.0, 0.0, 0.0, 0.0]]


def test_rewards_plus_the_penalty_add_up_to_the_score_and_not_to_length_times_it() -> None:
    scores_B = torch.tensor([1.5, -0.5])
    logprobs_BT = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    kl_BT = kl_estimates(logprobs_BT, torch.zeros(2, 5))
    rewards_BT = token_rewards(scores_B, kl_BT, MASK_BT, kl_coef=0.2)
    penalty_B = 0.2 * (kl_BT * MASK_BT).sum(dim=1)
    torch.testing.assert_close(rewards_BT.sum(dim=1) + penalty_B, scores_B)


def test_more_padding_changes_no_reward() -> None:
    kl_BT = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    rewards_BT = token_rewards(torch.tensor([2.0, -1.0]), kl_BT, MASK_BT, kl_coef=0.5)
    wide = token_rewards(
        torch.tensor([2.0, -1.0]),
        torch.cat([kl_BT, torch.full((2, 50), 7.0)], dim=1),
        torch.cat([MASK_BT, torch.zeros((2, 50), dtype=torch.bool)], dim=1),
        kl_coef=0.5,
    )
    assert torch.equal(wide[:, :5], rewards_BT)
    assert wide[:, 5:].abs().sum() == 0.0


def test_a_row_without_a_response_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one response token"):
        last_response_tokens(torch.tensor([[True], [False]]))


def finals(rule: TruncationRule) -> list[float]:
    """Return what three responses are paid of which the second and third were cut."""
    paid_B = final_scores(
        torch.tensor([0.5, 1.5, -2.0]),
        torch.tensor([True, False, False]),
        truncation=rule,
        truncation_penalty=0.75,
        last_values_B=torch.tensor([9.0, 0.4, -0.6]),
        gamma=0.5,
    )
    return paid_B.tolist()


def test_a_cut_response_pays_the_penalty_out_of_its_score() -> None:
    assert finals(TruncationRule.PENALTY) == pytest.approx([0.5, 0.75, -2.75])


def test_a_cut_response_is_paid_the_penalty_alone_where_it_replaces_the_score() -> None:
    assert finals(TruncationRule.REPLACE) == pytest.approx([0.5, -0.75, -0.75])


def test_a_cut_response_is_paid_the_value_of_where_it_stands_where_that_is_bootstrapped() -> None:
    # gamma times the value after the last token: 0.5 * 0.4, 0.5 * -0.6
    assert finals(TruncationRule.BOOTSTRAP) == pytest.approx([0.5, 0.2, -0.3])


@pytest.mark.parametrize(
    ("helpfulness", "safety", "is_safety", "expected"),
    [
        (2.0, 1.0, False, 2.0),  # safe enough: helpfulness counts
        (2.0, 1.0, True, 1.0),  # the prompt is tagged: safety counts
        (2.0, -3.0, False, -3.0),  # σ(-3) = 0.047 < 0.15: safety counts
        (2.0, -1.7, False, 2.0),  # σ(-1.7) = 0.154, just above the threshold
        (1e3, 1e3, False, 1e3),  # the logit of a score of exactly one is the raw score
        (5.0, -1e3, False, -1e3),  # and of exactly zero
    ],
)
def test_the_gate_takes_the_safety_score_where_it_must(
    helpfulness: float, safety: float, is_safety: bool, expected: float
) -> None:
    gated_B = gated_score(
        torch.tensor([helpfulness]), torch.tensor([safety]), torch.tensor([is_safety]), 0.15
    )
    assert gated_B.tolist() == pytest.approx([expected])
    assert bool(gated_B.isfinite().all())
