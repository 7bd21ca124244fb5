"""Pairs behind one copy of their prompt: laid out as said, and scored as if they stood alone."""

from pathlib import Path

import pytest
import torch

from language.rows import TokenRow
from language.scalars import create_scalar_model
from rewardmodels.batches import pad_pairs, pair_scores
from rewardmodels.data import Pair
from rewardmodels.scoring import score_rows
from tests.models import write_tiny_policy

PAD = 3


def pair(prompt: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...]) -> Pair:
    return Pair(TokenRow(prompt, chosen), TokenRow(prompt, rejected), None, None)


PAIRS = [
    pair((1, 20), (30, 2), (40, 41, 2)),
    pair((1, 20, 21, 22, 2, 1, 23), (30, 31, 2), (2,)),  # the end token within and as padding
    pair((1,), (50, 51, 52, 53, 2), (60, 2)),
]


def test_a_row_is_prompt_chosen_rejected_padding() -> None:
    batch = pad_pairs(PAIRS[:2], pad_id=PAD)
    assert batch.ids_NT.tolist() == [
        [1, 20, 30, 2, 40, 41, 2, 3, 3, 3, 3],
        [1, 20, 21, 22, 2, 1, 23, 30, 31, 2, 2],
    ]
    # The rejected response counts on from the prompt, not from the chosen response.
    assert batch.positions_NT[0, :7].tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert batch.positions_NT[1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7]
    assert batch.last_N2.tolist() == [[3, 6], [9, 10]]


def test_a_response_sees_the_prompt_and_itself_only() -> None:
    allowed = pad_pairs(PAIRS[:1], pad_id=PAD).allowed_N1TT[0, 0].int().tolist()
    assert allowed == [
        [1, 0, 0, 0, 0, 0, 0],  # prompt
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],  # chosen
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],  # rejected
        [1, 1, 0, 0, 1, 1, 0],
        [1, 1, 0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("pad_id", [PAD, 2])
def test_scores_and_gradients_are_those_of_rows_that_stand_alone(
    tmp_path: Path, pad_id: int
) -> None:
    policy = write_tiny_policy(tmp_path / "policy")
    model = create_scalar_model(policy, seed=4)
    chosen, rejected = pair_scores(model, PAIRS, pad_id=pad_id)
    rows = [item.chosen for item in PAIRS] + [item.rejected for item in PAIRS]
    alone = score_rows(model, rows, pad_id=pad_id, rows_per_batch=1)
    torch.testing.assert_close(torch.cat([chosen, rejected]).detach(), alone, atol=1e-5, rtol=0.0)

    torch.autograd.backward((chosen - rejected).sum())
    shared = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for item in PAIRS:
        for row, sign in ((item.chosen, 1.0), (item.rejected, -1.0)):
            ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
            hidden = model.model(input_ids=ids).last_hidden_state[0, -1]
            torch.autograd.backward(sign * (hidden @ model.score.weight[0]))
    expected = [p.grad for p in model.parameters() if p.grad is not None]
    for left, right in zip(shared, expected, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
