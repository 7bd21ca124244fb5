"""Pairs behind one copy of their prompt: scored as if each response stood alone."""

from pathlib import Path

import torch

from language.rows import TokenRow
from language.scalars import create_scalar_model, score_rows
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair
from tests.models import write_tiny_policy


def pair(prompt: tuple[int, ...], chosen: tuple[int, ...], rejected: tuple[int, ...]) -> Pair:
    return Pair(TokenRow(prompt, chosen), TokenRow(prompt, rejected), None, None)


PAIRS = [
    pair((1, 20), (30, 2), (40, 41, 2)),  # too short a prompt to be shared
    pair((1, 20, 21, 22, 2, 1, 23), (30, 31, 2), (2,)),  # the end token within
    pair((1, *range(20, 50)), (50, 51, 2), (50, 51, 52, 53, 2)),  # one response begins the other
    pair((1, *range(60, 70), 2, 1, 20), (30, 31, 2), (2,)),
    pair((1,), (50, 51, 52, 53, 2), (60, 2)),
]


def test_scores_and_gradients_are_those_of_rows_that_stand_alone(tmp_path: Path) -> None:
    policy = write_tiny_policy(tmp_path / "policy")
    model = create_scalar_model(policy, seed=4)
    chosen, rejected = pair_scores(model, PAIRS)
    rows = [item.chosen for item in PAIRS] + [item.rejected for item in PAIRS]
    alone = score_rows(model, rows, rows_per_batch=1)
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
