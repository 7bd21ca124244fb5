"""Scalar models: a Llama with one number per token, for rewards and values.

B rows, T tokens in a row, N tokens of all rows, D hidden.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.models import load_llama, load_policy
from language.packing import pack_rows, packed_hidden
from language.rows import RowBatch, TokenRow, rows_of


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


def share_trunk(policy: LlamaForCausalLM) -> LlamaForSequenceClassification:
    """Return a scalar model on the policy's own layers, with a float32 head of zeros.

    Whatever changes the policy's layers changes it too. It says 0 of every token until it learns.
    """
    model = _headless(policy)
    head = nn.Linear(policy.config.hidden_size, 1, bias=False)
    nn.init.zeros_(head.weight)
    model.score = head.to(device=policy.device)
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
    return head_of(model, packed_hidden(model.model, packed)[packed.last_B])


def _headless(policy: LlamaForCausalLM) -> LlamaForSequenceClassification:
    """Return a scalar model on the policy's layers, whose head has no weights yet."""
    config = deepcopy(policy.config)
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    with torch.device("meta"):
        model: LlamaForSequenceClassification = LlamaForSequenceClassification(config)
    model.model = policy.model
    return model
