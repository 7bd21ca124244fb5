"""Scalar models: a Llama with one number per token, for rewards and values.

B rows, T tokens in a row, N tokens of all rows, D hidden.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.models import load_llama, load_policy
from language.packing import pack_rows, packed_hidden
from language.rows import RowBatch, TokenRow, rows_of
from language.sharding import ShardedModel, compute_with

Scorer = LlamaForSequenceClassification | ShardedModel[LlamaForSequenceClassification]
"""A scalar model, whole or cut over the processes."""
HandOut = Callable[[], Scorer]
"""Hands out a scalar model, ready for a pass; what is handed out next may share its layers."""


def create_scalar_model(
    policy_path: str | Path,
    *,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LlamaForSequenceClassification:
    """Return the policy's layers under a fresh head with weights from N(0, 1 / (D + 1)).

    The scale of the head is Stiennon et al. (arXiv:2009.01325)'s.
    """
    policy = load_policy(policy_path, dtype=dtype, device=device)
    model = _headless(policy)
    config = policy.config
    head = nn.Linear(config.hidden_size, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(head.weight, std=(config.hidden_size + 1) ** -0.5, generator=generator)
    model.score = head.to(device=device, dtype=dtype)
    model.eval()
    return model


def load_scalar_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> LlamaForSequenceClassification:
    """Return the scalar model of a folder, head included.

    Raises:
        ValueError: The folder has no head: it holds a policy.
    """
    return load_llama(LlamaForSequenceClassification, path, dtype=dtype, device=device)


def head_of(model: LlamaForSequenceClassification, hidden_ND: Tensor) -> Tensor:
    """Return scalars_N float32: the head applied to hidden states, whatever their type."""
    # A reduced-precision head would round scores to 8 bits.
    return nn.functional.linear(hidden_ND.float(), model.score.weight.float())[:, 0]


def share_trunk(
    other: LlamaForCausalLM | LlamaForSequenceClassification,
) -> LlamaForSequenceClassification:
    """Return a scalar model on the layers of `other`, with a float32 head of zeros.

    Whatever changes these layers changes it too. It says 0 of every token until it learns.
    """
    model = _headless(other)
    head = nn.Linear(other.config.hidden_size, 1, bias=False)
    nn.init.zeros_(head.weight)
    model.score = head.to(device=other.device)
    model.eval()
    return model


def token_scalars(
    model: LlamaForSequenceClassification, ids_BT: Tensor, attention_mask_BT: Tensor
) -> Tensor:
    """Return scalars_BT float32: the head applied to every real token; 0 at padding.

    Padding may be on either side, and is not computed: scalars do not depend on it.
    """
    is_response_BT = torch.zeros_like(attention_mask_BT)
    rows = rows_of(RowBatch(ids_BT, attention_mask_BT, is_response_BT))
    packed = pack_rows(rows, device=ids_BT.device)
    scalars_N = head_of(model, packed_hidden(model.model, packed)[packed.row_N])
    zeros_BT = scalars_N.new_zeros(ids_BT.shape)
    return zeros_BT.masked_scatter(attention_mask_BT, scalars_N)


def row_scalars(model: LlamaForSequenceClassification, rows: Sequence[TokenRow]) -> Tensor:
    """Return scalars_B float32: the head at each row's last token, its end token where it has one.

    Rows that share a prompt share its computation. A row's scalar does not depend on the others.
    """
    packed = pack_rows(rows, device=model.device)
    return head_of(model, packed_hidden(model.model, packed, packed.last_B))


@torch.inference_mode()
def score_rows(model: Scorer, rows: Sequence[TokenRow], *, rows_per_batch: int) -> Tensor:
    """Return scores_B in the order of `rows`, float32 on the CPU: the head at each last token.

    Responses to one prompt are scored side by side, so that it is read once; a row's score does not
    depend on the others beyond rounding. A model that is cut over several processes must be given
    as many rows by each of them.

    Raises:
        ValueError: `rows_per_batch` is below one.
    """
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch: {rows_per_batch} must be at least 1")
    scores_B = torch.empty(len(rows))
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].prompt_ids), rows[i].prompt_ids))
    for start in range(0, len(rows), rows_per_batch):
        indices = order[start : start + rows_per_batch]
        batch = [rows[i] for i in indices]
        scores_B[indices] = compute_with(model, partial(row_scalars, rows=batch)).cpu()
    return scores_B


def _headless(
    other: LlamaForCausalLM | LlamaForSequenceClassification,
) -> LlamaForSequenceClassification:
    """Return a scalar model on the layers of `other`, whose head has no weights yet."""
    config = deepcopy(other.config)
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    with torch.device("meta"):
        model: LlamaForSequenceClassification = LlamaForSequenceClassification(config)
    model.model = other.model
    return model
