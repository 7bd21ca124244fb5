"""Log-probabilities of response tokens under a policy.

B rows, T tokens in a row, M response tokens of the whole batch, V vocabulary, D hidden.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM

from language.packing import pack_rows, packed_hidden
from language.rows import RowBatch, TokenRow, rows_of

_LOGITS_PER_CHUNK = 2**26
"""Logits held at once; more are recomputed in the backward pass instead of kept."""


class ResponseStatistics(NamedTuple):
    """What a policy thinks of each response token; 0 outside the response."""

    logprobs_BT: Tensor
    entropies_BT: Tensor


class TokenStatistics(NamedTuple):
    """What a policy thinks of each response token of packed rows, row after row."""

    logprobs_M: Tensor
    entropies_M: Tensor


def token_statistics(
    model: LlamaForCausalLM, hidden_MD: Tensor, ids_M: Tensor, *, temperature: float
) -> TokenStatistics:
    """Return log-probabilities and entropies of tokens from the hidden states before them.

    Logits are divided by `temperature` (as in sampling), and normalised in float32 whatever the
    model's type. Entropies have no gradient.
    """

    def statistics(hidden_MD: Tensor, ids_M: Tensor) -> tuple[Tensor, ...]:
        logprobs_MV = _logits(model, hidden_MD, temperature).log_softmax(dim=-1)
        with torch.no_grad():
            entropies_M = -(logprobs_MV.exp() * logprobs_MV).sum(dim=-1)
        return logprobs_MV.gather(1, ids_M[:, None])[:, 0], entropies_M

    return TokenStatistics(*_in_chunks(model, hidden_MD, ids_M, statistics))


def token_logprobs(
    model: LlamaForCausalLM, hidden_MD: Tensor, ids_M: Tensor, *, temperature: float
) -> Tensor:
    """Return logprobs_M as `token_statistics` does, without the price of the entropies."""

    def logprobs(hidden_MD: Tensor, ids_M: Tensor) -> tuple[Tensor, ...]:
        logits_MV = _logits(model, hidden_MD, temperature)
        return (-F.cross_entropy(logits_MV, ids_M, reduction="none"),)

    return _in_chunks(model, hidden_MD, ids_M, logprobs)[0]


def response_logprobs(
    model: LlamaForCausalLM, batch: RowBatch, *, temperature: float = 1.0
) -> Tensor:
    """Return logprobs_BT: at t the float32 log-probability of ids[t] given ids[<t].

    Logits are computed at response positions only, divided by `temperature` (as in sampling), and
    normalised in float32 whatever the model's type. 0 outside the response.
    """
    return response_statistics(model, batch, temperature=temperature).logprobs_BT


def response_statistics(
    model: LlamaForCausalLM, batch: RowBatch, *, temperature: float = 1.0
) -> ResponseStatistics:
    """Return log-probabilities as `response_logprobs` does, with the entropy at each token.

    Raises:
        ValueError: `temperature` is not positive, or a response begins at the first token.
    """
    if temperature <= 0.0:
        raise ValueError(f"temperature: {temperature} must be greater than 0")
    if bool(batch.response_mask_BT[:, 0].any()):
        raise ValueError("response_mask_BT: the first token has no tokens before it")
    packed = pack_rows(rows_of(batch), device=batch.ids_BT.device)
    hidden_MD = packed_hidden(model.model, packed, packed.before_M)
    logprobs_M, entropies_M = token_statistics(
        model, hidden_MD, packed.response_ids_M, temperature=temperature
    )
    zeros_BT = torch.zeros(batch.ids_BT.shape, device=logprobs_M.device)
    return ResponseStatistics(
        zeros_BT.masked_scatter(batch.response_mask_BT, logprobs_M),
        zeros_BT.masked_scatter(batch.response_mask_BT, entropies_M),
    )


def response_losses(model: LlamaForCausalLM, rows: Sequence[TokenRow]) -> Tensor:
    """Return losses_M = -log π(x_t | x_<t) float32 of the response tokens, row after row."""
    packed = pack_rows(rows, device=model.device)
    hidden_MD = packed_hidden(model.model, packed, packed.before_M)
    return -token_logprobs(model, hidden_MD, packed.response_ids_M, temperature=1.0)


def _logits(model: LlamaForCausalLM, hidden_MD: Tensor, temperature: float) -> Tensor:
    logits_MV: Tensor = model.lm_head(hidden_MD).float()
    return logits_MV if temperature == 1.0 else logits_MV / temperature


def _in_chunks(
    model: LlamaForCausalLM,
    hidden_MD: Tensor,
    ids_M: Tensor,
    compute: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
) -> list[Tensor]:
    """Return what `compute` makes of the hidden states before tokens, and of these.

    In chunks where their logits would be many; a chunk's are then recomputed in the backward pass.
    """
    rows = max(1, _LOGITS_PER_CHUNK // model.config.vocab_size)
    chunks = list(zip(hidden_MD.split(rows), ids_M.split(rows), strict=True))
    if len(chunks) > 1 and torch.is_grad_enabled():
        parts = [checkpoint(compute, *chunk, use_reentrant=False) for chunk in chunks]
    else:
        parts = [compute(*chunk) for chunk in chunks]
    return [torch.cat(values) for values in zip(*parts, strict=True)]
