"""Log-probabilities of responses."""

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from language import logprobs
from language.logprobs import response_logprobs, response_losses, response_statistics
from language.packing import pack_rows, packed_hidden
from language.rows import RowBatch, TokenRow, pad_rows
from tests.models import tiny_policy

ROWS = [
    TokenRow((1, 20, 30), (40, 50, 60, 2)),
    TokenRow((1, 21), (41,)),
    TokenRow((1, 22, 32, 42, 52), (62, 2)),
]


def naive_logprobs(model: LlamaForCausalLM, row: TokenRow, temperature: float) -> Tensor:
    """Score one row alone, token by token, in float64."""
    ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
    with torch.no_grad():
        logits = model(ids).logits[0].double() / temperature
    start = len(row.prompt_ids)
    picked = [logits[t - 1].log_softmax(0)[ids[0, t]] for t in range(start, ids.shape[1])]
    return torch.stack(picked).float()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_logprobs_are_those_of_the_scaled_logits_at_each_response_token(
    temperature: float,
) -> None:
    model = tiny_policy()
    batch = pad_rows(ROWS, pad_id=2)

    logprobs_BT = response_logprobs(model, batch, temperature=temperature)

    for index, row in enumerate(ROWS):
        values = logprobs_BT[index][batch.response_mask_BT[index]]
        torch.testing.assert_close(
            values, naive_logprobs(model, row, temperature), atol=1e-5, rtol=0
        )
    assert (logprobs_BT[~batch.response_mask_BT] == 0).all()


def test_more_padding_changes_nothing() -> None:
    model = tiny_policy()
    batch = pad_rows(ROWS, pad_id=2)
    extra = torch.zeros(len(ROWS), 50, dtype=torch.long)
    padded = RowBatch(
        torch.cat([batch.ids_BT, extra + 2], dim=1),
        torch.cat([batch.attention_mask_BT, extra.bool()], dim=1),
        torch.cat([batch.response_mask_BT, extra.bool()], dim=1),
    )

    before, after = response_statistics(model, batch), response_statistics(model, padded)

    width = batch.ids_BT.shape[1]
    for value, padded_value in zip(before, after, strict=True):
        torch.testing.assert_close(padded_value[:, :width], value, atol=1e-6, rtol=0)
        assert (padded_value[:, width:] == 0).all()


def test_logits_of_a_bfloat16_model_are_normalised_in_float32() -> None:
    model = tiny_policy().to(torch.bfloat16)
    batch = pad_rows(ROWS, pad_id=2)

    logprobs_BT = response_logprobs(model, batch)

    packed = pack_rows(ROWS)
    with torch.no_grad():
        logits_MV = model.lm_head(packed_hidden(model.model, packed)[packed.before_M]).double()
    ids_M1 = packed.response_ids_M[:, None]
    exact_M = logits_MV.log_softmax(-1).gather(1, ids_M1)[:, 0].float()
    assert logprobs_BT.dtype is torch.float32
    torch.testing.assert_close(logprobs_BT[batch.response_mask_BT], exact_M, atol=1e-5, rtol=0)


def test_responses_that_share_a_prompt_have_the_logprobs_of_rows_that_stand_alone() -> None:
    model = tiny_policy()
    prompt = (1, *range(20, 40))
    rows = [TokenRow(prompt, (40, 50, 2)), TokenRow(prompt, (2,)), TokenRow(prompt, (40, 51, 60))]
    batch = pad_rows(rows, pad_id=2)

    logprobs_BT = response_logprobs(model, batch, temperature=0.7)

    for index, row in enumerate(rows):
        values = logprobs_BT[index][batch.response_mask_BT[index]]
        torch.testing.assert_close(values, naive_logprobs(model, row, 0.7), atol=1e-5, rtol=0)
    losses_M = response_losses(model, rows)
    expected_M = torch.cat([naive_logprobs(model, row, 1.0) for row in rows])
    torch.testing.assert_close(-losses_M, expected_M, atol=1e-5, rtol=0)


def test_entropy_is_that_of_the_distribution_before_each_token() -> None:
    model = tiny_policy()
    batch = pad_rows(ROWS[:1], pad_id=2)

    entropies_BT = response_statistics(model, batch).entropies_BT

    with torch.no_grad():
        logits = model(batch.ids_BT).logits[0, 2:6]
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropies_BT[0, 3:7], expected, atol=1e-5, rtol=0)


def test_recomputing_logits_in_chunks_gives_the_same_values_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = pad_rows(ROWS, pad_id=2)

    def gradient() -> tuple[Tensor, Tensor]:
        model = tiny_policy()
        values = response_logprobs(model, batch)
        (values * torch.arange(values.shape[1])).sum().backward()
        grad = model.model.embed_tokens.weight.grad
        assert grad is not None
        return values.detach(), grad

    whole = gradient()
    monkeypatch.setattr(logprobs, "_LOGITS_PER_CHUNK", 2 * 384)
    chunked = gradient()

    torch.testing.assert_close(chunked[0], whole[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(chunked[1], whole[1], atol=1e-5, rtol=1e-4)


def test_out_of_bounds_is_refused() -> None:
    batch = pad_rows(ROWS, pad_id=2)
    first = batch._replace(response_mask_BT=torch.ones_like(batch.response_mask_BT))

    with pytest.raises(ValueError, match=r"temperature: 0\.0 must be greater than 0"):
        response_logprobs(tiny_policy(), batch, temperature=0.0)
    with pytest.raises(ValueError, match="the first token has no tokens before it"):
        response_logprobs(tiny_policy(), first)
