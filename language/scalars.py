"""Scalar models: a Llama with one number per token, for rewards and values.

B rows, T tokens in a row, D hidden.
"""

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlamaForSequenceClassification

from language.models import load_llama, load_policy


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
    config = deepcopy(policy.config)
    config.num_labels = 1
    config.architectures = ["LlamaForSequenceClassification"]
    with torch.device("meta"):
        model: LlamaForSequenceClassification = LlamaForSequenceClassification(config)
    head = nn.Linear(config.hidden_size, 1, bias=False)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(head.weight, std=(config.hidden_size + 1) ** -0.5, generator=generator)
    model.model = policy.model
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


def token_scalars(
    model: LlamaForSequenceClassification, ids_BT: Tensor, attention_mask_BT: Tensor
) -> Tensor:
    """Return scalars_BT float32: the head applied to every position.

    Values at padding are meaningless. Padding may be on either side: a token's position is the
    number of real tokens before it, so scalars do not depend on padding or on other rows.
    """
    is_right_padded = not bool((attention_mask_BT[:, 1:] & ~attention_mask_BT[:, :-1]).any())
    if is_right_padded:  # causal attention alone hides the padding
        hidden_BTD = model.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    else:
        hidden_BTD = model.model(
            input_ids=ids_BT,
            attention_mask=attention_mask_BT,
            position_ids=(attention_mask_BT.long().cumsum(dim=1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
    # A reduced-precision head would round scores to 8 bits.
    return nn.functional.linear(hidden_BTD.float(), model.score.weight.float())[:, :, 0]


def last_scalars(scalars_BT: Tensor, attention_mask_BT: Tensor) -> Tensor:
    """Return scalars_B: the value at each row's last real token, found by the mask alone."""
    assert bool(attention_mask_BT.any(dim=1).all()), "a row without a real token has no last one"
    num_tokens = attention_mask_BT.shape[1]
    last_B = num_tokens - 1 - attention_mask_BT.flip(1).long().argmax(dim=1)
    return scalars_BT.gather(1, last_B[:, None])[:, 0]
