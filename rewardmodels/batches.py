"""Both responses of a pair behind one copy of their prompt, so that it is read once.

Shapes: `N` pairs, `T` tokens in a row: prompt, chosen, rejected, padding.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from rewardmodels.data import Pair


class PairBatch(NamedTuple):
    """Pairs as rows, padded on the right."""

    ids_NT: Tensor
    positions_NT: Tensor
    """Each response counts on from the prompt, as if the other were not there."""
    allowed_N1TT: Tensor
    """True where a token (third axis) sees a token (fourth): the prompt and its own response."""
    last_N2: Tensor
    """Where chosen and rejected end."""


def pad_pairs(
    pairs: Sequence[Pair], *, pad_id: int, device: torch.device | str = "cpu"
) -> PairBatch:
    """Return `pairs` as one batch."""
    sizes_N3 = torch.tensor(
        [
            [len(p.chosen.prompt_ids), len(p.chosen.response_ids), len(p.rejected.response_ids)]
            for p in pairs
        ]
    )
    ends_N3 = sizes_N3.cumsum(dim=1)
    width = max(pair.num_tokens for pair in pairs)
    ids_NT = torch.tensor(
        [
            (
                *pair.chosen.prompt_ids,
                *pair.chosen.response_ids,
                *pair.rejected.response_ids,
                *(pad_id,) * (width - pair.num_tokens),
            )
            for pair in pairs
        ]
    )
    place_T = torch.arange(width)
    # 0 on the prompt, 1 on chosen, 2 on rejected, 3 on padding.
    segment_NT = (place_T >= ends_N3[:, :, None]).sum(dim=1)
    is_second_NT = segment_NT >= 2
    positions_NT = place_T - is_second_NT * sizes_N3[:, 1:2]
    is_same_NTT = segment_NT[:, :, None] == segment_NT[:, None, :]
    is_prompt_N1T = (segment_NT == 0)[:, None, :]
    is_earlier_TT = place_T[:, None] >= place_T[None, :]
    allowed_NTT = is_earlier_TT & (is_same_NTT | is_prompt_N1T)
    return PairBatch(
        ids_NT.to(device),
        positions_NT.to(device),
        allowed_NTT[:, None].to(device),
        (ends_N3[:, 1:] - 1).to(device),
    )


def pair_scores(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair], *, pad_id: int
) -> tuple[Tensor, Tensor]:
    """Return chosen_scores_N and rejected_scores_N, raw float32, from one forward pass.

    Equal to scoring each response by itself, up to rounding.
    """
    batch = pad_pairs(pairs, pad_id=pad_id, device=model.device)
    bias_N1TT = torch.zeros(batch.allowed_N1TT.shape, dtype=model.dtype, device=model.device)
    bias_N1TT.masked_fill_(~batch.allowed_N1TT, -torch.inf)
    hidden_NTD = model.model(
        input_ids=batch.ids_NT,
        attention_mask=bias_N1TT,
        position_ids=batch.positions_NT,
        use_cache=False,
    ).last_hidden_state
    index_N2D = batch.last_N2[:, :, None].expand(-1, -1, hidden_NTD.shape[2])
    last_N2D = hidden_NTD.gather(1, index_N2D).float()
    # In float32, as in language.scalars: bfloat16 would round scores to 8 bits.
    scores_N2 = torch.nn.functional.linear(last_N2D, model.score.weight.float())[:, :, 0]
    return scores_N2[:, 0], scores_N2[:, 1]
