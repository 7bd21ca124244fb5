"""Log-probabilities of response tokens under a policy.

B rows, T tokens in a row, M response tokens of the whole batch, V vocabulary, D hidden.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import LlamaForCausalLM

from language.rows import RowBatch

_LOGITS_PER_CHUNK = 2**26
"""Logits held at once; more are recomputed in the backward pass instead of kept."""


class ResponseStatistics(NamedTuple):
    """What a policy thinks of each response token; 0 outside the response."""

    logprobs_BT: Tensor
    entropies_BT: Tensor


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
    # Padding is on the right and attention is causal: no response position sees a pad.
    hidden_BTD = model.model(input_ids=batch.ids_BT, use_cache=False).last_hidden_state
    mask_BT = batch.response_mask_BT[:, 1:]
    hidden_MD = hidden_BTD[:, :-1][mask_BT]
    ids_M = batch.ids_BT[:, 1:][mask_BT]
    rows = max(1, _LOGITS_PER_CHUNK // model.config.vocab_size)
    pairs = list(zip(hidden_MD.split(rows), ids_M.split(rows), strict=True))
    parts = [_statistics(model, h, i, temperature, recompute=len(pairs) > 1) for h, i in pairs]
    logprobs_M, entropies_M = (torch.cat(values) for values in zip(*parts, strict=True))
    zeros_BT = torch.zeros(batch.ids_BT.shape, device=hidden_MD.device)
    return ResponseStatistics(
        zeros_BT.masked_scatter(batch.response_mask_BT, logprobs_M),
        zeros_BT.masked_scatter(batch.response_mask_BT, entropies_M),
    )


def _statistics(
    model: LlamaForCausalLM,
    hidden_MD: Tensor,
    ids_M: Tensor,
    temperature: float,
    *,
    recompute: bool,
) -> tuple[Tensor, Tensor]:
    def compute(hidden_MD: Tensor) -> tuple[Tensor, Tensor]:
        logits_MV = model.lm_head(hidden_MD).float() / temperature
        logprobs_MV = logits_MV.log_softmax(dim=-1)
        entropies_M = -(logprobs_MV.exp() * logprobs_MV).sum(dim=-1)
        return logprobs_MV.gather(1, ids_M[:, None])[:, 0], entropies_M

    if recompute and torch.is_grad_enabled():
        values: tuple[Tensor, Tensor] = checkpoint(compute, hidden_MD, use_reentrant=False)
        return values
    return compute(hidden_MD)
