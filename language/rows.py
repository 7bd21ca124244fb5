"""Rows of tokens: a prompt with its response, padded into batches of like length.

B rows, T tokens in a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class TokenRow(NamedTuple):
    """A prompt and the response to it, as the ids that were sampled or encoded."""

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and response together."""
        return len(self.prompt_ids) + len(self.response_ids)


class RowBatch(NamedTuple):
    """Rows padded on the right to the longest of them."""

    ids_BT: Tensor
    attention_mask_BT: Tensor
    """True on real tokens. Built from lengths: the padding id may well be the end token."""
    response_mask_BT: Tensor
    """True on the response's tokens, its end token included."""


def pad_rows(
    rows: Sequence[TokenRow], *, pad_id: int, device: torch.device | str = "cpu"
) -> RowBatch:
    """Return `rows` as one batch.

    Raises:
        ValueError: There are no rows, or a row has no prompt.
    """
    if not rows:
        raise ValueError("rows: a batch needs at least one row")
    if not all(row.prompt_ids for row in rows):
        raise ValueError("rows: every row needs a prompt of at least one token")
    width = max(row.num_tokens for row in rows)
    ids_BT = torch.tensor(
        [
            (*row.prompt_ids, *row.response_ids, *(pad_id,) * (width - row.num_tokens))
            for row in rows
        ]
    )
    position_T = torch.arange(width)
    start_B1 = torch.tensor([[len(row.prompt_ids)] for row in rows])
    end_B1 = torch.tensor([[row.num_tokens] for row in rows])
    attention_mask_BT = position_T < end_B1
    response_mask_BT = attention_mask_BT & (position_T >= start_B1)
    return RowBatch(ids_BT.to(device), attention_mask_BT.to(device), response_mask_BT.to(device))


def rows_of(batch: RowBatch) -> list[TokenRow]:
    """Return the rows of `batch` without their padding, on whichever side it is."""
    rows = []
    parts = (part.tolist() for part in batch)
    for ids, is_real, is_response in zip(*parts, strict=True):
        real = [
            (token, response)
            for token, keep, response in zip(ids, is_real, is_response, strict=True)
            if keep
        ]
        prompt_ids = tuple(token for token, response in real if not response)
        rows.append(TokenRow(prompt_ids, tuple(token for token, response in real if response)))
    return rows


def batches_by_length(lengths: Sequence[int], *, rows_per_batch: int) -> list[list[int]]:
    """Return indices of `lengths` in batches of like length, from short to long.

    Raises:
        ValueError: `rows_per_batch` is below one.
    """
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch: {rows_per_batch} must be at least 1")
    indices = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [indices[i : i + rows_per_batch] for i in range(0, len(indices), rows_per_batch)]
