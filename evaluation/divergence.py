"""How far a policy has moved from its reference, measured on the policy's own responses.

Shapes: `B` rows, `T` tokens in a row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from language.logprobs import response_logprobs
from language.rows import TokenRow, batches_by_length, pad_rows


@torch.no_grad()
def sequence_kl(
    policy: LlamaForCausalLM,
    reference: LlamaForCausalLM,
    rows: Sequence[TokenRow],
    *,
    temperature: float,
    pad_id: int,
    rows_per_batch: int,
) -> Tensor:
    """Return kl_B, for each row the sum over its response of log π(token) - log π_0(token).

    This is the estimator k1. Its mean over responses that the policy sampled at `temperature` and
    top-p 1 is an unbiased estimate of KL(π || π_0) per response, both at that temperature; with a
    smaller top-p the rarest tokens are missing from it.
    """
    kl_B = torch.zeros(len(rows))
    lengths = [row.num_tokens for row in rows]
    for indices in batches_by_length(lengths, rows_per_batch=rows_per_batch):
        batch = pad_rows([rows[i] for i in indices], pad_id=pad_id, device=policy.device)
        logprobs_BT = response_logprobs(policy, batch, temperature=temperature)
        reference_BT = response_logprobs(reference, batch, temperature=temperature)
        kl_B[indices] = (logprobs_BT - reference_BT).sum(dim=1).cpu()
    return kl_B
