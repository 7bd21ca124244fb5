"""KL on sampled responses: zero for the same policy, unbiased, and blind to padding."""

import pytest
import torch

from evaluation.divergence import sequence_kl
from language.rows import TokenRow
from tests.models import tiny_policy

PAD = 3
ROWS = [TokenRow((1, 20, 30), (40, 50, 2)), TokenRow((1, 20), (60, 61, 62, 63, 2))]


def kl_of(
    rows: list[TokenRow], *, temperature: float = 1.0, rows_per_batch: int = 64
) -> torch.Tensor:
    return sequence_kl(
        tiny_policy(seed=0),
        tiny_policy(seed=1),
        rows,
        temperature=temperature,
        pad_id=PAD,
        rows_per_batch=rows_per_batch,
    )


def test_a_policy_has_not_moved_from_itself() -> None:
    policy = tiny_policy()
    kl = sequence_kl(policy, tiny_policy(), ROWS, temperature=0.7, pad_id=PAD, rows_per_batch=8)
    assert kl.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_the_mean_of_the_estimate_is_the_exact_kl(temperature: float) -> None:
    # Responses of one token: the policy's expectation over the whole vocabulary is a finite sum.
    prompt = (1, 20, 30)
    estimates = kl_of([TokenRow(prompt, (token,)) for token in range(384)], temperature=temperature)
    with torch.no_grad():
        logprobs, reference_logprobs = (
            (tiny_policy(seed=seed)(torch.tensor([prompt])).logits[0, -1] / temperature)
            .double()
            .log_softmax(dim=-1)
            for seed in (0, 1)
        )
    exact = (logprobs.exp() * (logprobs - reference_logprobs)).sum()
    estimated = (logprobs.exp() * estimates.double()).sum()
    assert estimated.item() == pytest.approx(exact.item(), abs=1e-6)
    assert exact > 1e-4


def test_a_row_alone_and_in_company_gives_the_same() -> None:
    together, alone = kl_of(ROWS), kl_of(ROWS, rows_per_batch=1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0.0)
    assert together.abs().max() > 1e-2
