"""Keys and values of rows being decoded, in two layouts.

B rows (responses being written), N prompts, K responses per prompt at most, P prompt tokens, H
query heads, J key heads (H is a multiple of J), G = H / J, E head size, M some of the rows.

`SharedCache` holds each prompt once for all its responses: one matrix product serves them all, and
the prompt is read from memory once a step. It pays while prompts have several rows. `RowCache`
holds prompt and response of a row side by side: one fused attention a layer. All rows write the
same column at the same time.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

_COLUMNS = 32
"""Caches grow by at least so many columns: growing copies them."""
_SHARED_ROWS = 2.0
"""Rows per prompt from which a prompt is stored once."""


class Prompts(NamedTuple):
    """Prompts read by the model: keys and values per layer, and what follows each prompt."""

    keys: list[Tensor]
    """One (N, J, P, E) per layer; padded on the right."""
    values: list[Tensor]
    lengths_N: Tensor
    logits_NV: Tensor
    """Of the token after each prompt, float32."""


class Cache(Protocol):
    """What a decoding step needs of a cache."""

    def advance(self) -> None:
        """Begin a new column; each layer then writes it."""

    def write(self, layer: int, key_BJE: Tensor, value_BJE: Tensor) -> None:
        """Store the newest token's keys and values."""

    def attend(self, layer: int, query_BHE: Tensor) -> Tensor:
        """Return attention's output (B, H * E) over prompt and response; scales the queries."""

    def keep(self, rows_M: Tensor) -> "Cache":
        """Return the cache of the rows `rows_M` alone, in the layout that suits them."""


def create_cache(prompts: Prompts, prompt_B: Tensor) -> Cache:
    """Return an empty cache for rows that continue the prompts numbered `prompt_B`."""
    if len(prompt_B) >= _SHARED_ROWS * len(prompts.lengths_N):
        return SharedCache(prompts, prompt_B)
    return RowCache(prompts, prompt_B)


class SharedCache:
    """Each prompt's keys and values once; each row's own beside them."""

    def __init__(self, prompts: Prompts, prompt_B: Tensor) -> None:
        self._prompts = prompts
        self._prompt_B = prompt_B
        _, self._num_key_heads, _, self._head_size = prompts.keys[0].shape
        shape = (len(prompt_B) * self._num_key_heads, 0, self._head_size)
        self._keys = [keys.new_empty(shape) for keys in prompts.keys]
        self._values = [values.new_empty(shape) for values in prompts.values]
        self._num_columns = 0
        self._place_rows()

    def advance(self) -> None:
        """Begin a new column; each layer then writes it."""
        self._num_columns += 1
        if self._num_columns > self._keys[0].shape[1]:
            self._keys = [F.pad(keys, (0, 0, 0, _COLUMNS)) for keys in self._keys]
            self._values = [F.pad(values, (0, 0, 0, _COLUMNS)) for values in self._values]

    def write(self, layer: int, key_BJE: Tensor, value_BJE: Tensor) -> None:
        """Store the newest token's keys and values."""
        column = self._num_columns - 1
        self._keys[layer][:, column] = key_BJE.reshape(-1, self._head_size)
        self._values[layer][:, column] = value_BJE.reshape(-1, self._head_size)

    def attend(self, layer: int, query_BHE: Tensor) -> Tensor:
        """Return attention's output (B, H * E) over prompt and response; scales the queries."""
        num_rows, num_heads, size = query_BHE.shape
        scaled = (query_BHE * size**-0.5).view(num_rows, self._num_key_heads, -1, size)
        own = _attend(
            scaled.flatten(0, 1),
            self._keys[layer][:, : self._num_columns],
            self._values[layer][:, : self._num_columns],
            None,
        )
        grid = scaled.index_select(0, self._row_of_cell).view(*self._grid_shape, *scaled.shape[1:])
        prompt = _attend(
            grid.transpose(1, 2).reshape(self._prompt_keys[0].shape[0], -1, size),
            self._prompt_keys[layer],
            self._prompt_values[layer],
            self._prompt_bias,
        )
        return self._merged(own, prompt).view(num_rows, num_heads * size)

    def keep(self, rows_M: Tensor) -> Cache:
        """Return the cache of the rows `rows_M` alone, in the layout that suits them."""
        flat = _with_heads(rows_M, self._num_key_heads)
        keys = [k[:, : self._num_columns].index_select(0, flat) for k in self._keys]
        values = [v[:, : self._num_columns].index_select(0, flat) for v in self._values]
        prompts_N, prompt_B = self._prompt_B[rows_M].unique(return_inverse=True)
        prompts = select_prompts(self._prompts, prompts_N)
        if len(prompt_B) < _SHARED_ROWS * len(prompts_N):
            cache = RowCache(prompts, prompt_B)
            cache.extend(keys, values)
            return cache
        self._prompts, self._prompt_B = prompts, prompt_B
        self._keys, self._values = keys, values
        self._place_rows()
        return self

    def _place_rows(self) -> None:
        """Lay rows on a grid of prompts by responses, so that a prompt meets its rows at once."""
        lengths_N, num_rows = self._prompts.lengths_N, len(self._prompt_B)
        order = self._prompt_B.argsort(stable=True)
        counts_N = self._prompt_B.bincount(minlength=len(lengths_N))
        first_N = counts_N.cumsum(0) - counts_N
        within = torch.arange(num_rows, device=order.device) - first_N[self._prompt_B[order]]
        width = int(counts_N.max())
        cell = self._prompt_B[order] * width + within
        self._cell_of_row = torch.empty_like(cell).index_copy(0, order, cell)
        self._grid_shape = (len(lengths_N), width)
        grid = order.new_zeros(len(lengths_N) * width)  # empty cells repeat row 0 and go unread
        self._row_of_cell = grid.index_copy(0, cell, order)
        self._prompt_keys = [keys.flatten(0, 1) for keys in self._prompts.keys]
        self._prompt_values = [values.flatten(0, 1) for values in self._prompts.values]
        bias_NP = _padding_bias(self._prompts)
        self._prompt_bias = None
        if bias_NP is not None:
            self._prompt_bias = bias_NP[:, None].repeat_interleave(self._num_key_heads, dim=0)

    def _merged(self, own: "_Part", prompt: "_Part") -> Tensor:
        """Return the mean over both parts, each rescaled to the same maximum."""
        output, weight, maximum = (self._rows_of_grid(tensor, own.output) for tensor in prompt)
        common = torch.maximum(own.maximum, maximum)
        own_scale = (own.maximum - common).exp_()
        prompt_scale = (maximum - common).exp_()
        total = torch.addcmul(own.weight * own_scale, weight, prompt_scale)
        return torch.addcmul(own.output * own_scale, output, prompt_scale).div_(total)

    def _rows_of_grid(self, tensor: Tensor, like: Tensor) -> Tensor:
        """Return what a grid of (N * J, K * G, ...) holds for each row, as (B * J, G, ...)."""
        shape = (self._grid_shape[0], self._num_key_heads, self._grid_shape[1], -1)
        cells = tensor.view(*shape).transpose(1, 2).flatten(0, 1)
        rows = cells.index_select(0, self._cell_of_row)
        return rows.view(like.shape[0], like.shape[1], -1)


class RowCache:
    """Prompt and response of each row side by side; what lies between them is masked."""

    def __init__(self, prompts: Prompts, prompt_B: Tensor) -> None:
        self._keys = [keys.index_select(0, prompt_B) for keys in prompts.keys]
        self._values = [values.index_select(0, prompt_B) for values in prompts.values]
        self._num_columns = self._capacity = self._keys[0].shape[2]
        bias_NP = _padding_bias(prompts)
        self._bias = None if bias_NP is None else bias_NP[prompt_B][:, None, None]

    def extend(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Append columns, one (B * J, columns, E) per layer."""
        shape = (*self._keys[0].shape[:2], *keys[0].shape[1:])
        self._keys = [
            torch.cat([old, new.view(shape)], dim=2)
            for old, new in zip(self._keys, keys, strict=True)
        ]
        self._values = [
            torch.cat([old, new.view(shape)], dim=2)
            for old, new in zip(self._values, values, strict=True)
        ]
        if self._bias is not None:
            self._bias = F.pad(self._bias, (0, shape[2]))
        self._num_columns = self._capacity = self._keys[0].shape[2]

    def advance(self) -> None:
        """Begin a new column; each layer then writes it."""
        self._num_columns += 1
        if self._num_columns > self._capacity:
            self._keys = [F.pad(keys, (0, 0, 0, _COLUMNS)) for keys in self._keys]
            self._values = [F.pad(values, (0, 0, 0, _COLUMNS)) for values in self._values]
            if self._bias is not None:
                self._bias = F.pad(self._bias, (0, _COLUMNS))
            self._capacity += _COLUMNS

    def write(self, layer: int, key_BJE: Tensor, value_BJE: Tensor) -> None:
        """Store the newest token's keys and values."""
        self._keys[layer][:, :, self._num_columns - 1] = key_BJE
        self._values[layer][:, :, self._num_columns - 1] = value_BJE

    def attend(self, layer: int, query_BHE: Tensor) -> Tensor:
        """Return attention's output (B, H * E) over prompt and response; scales the queries."""
        keys = self._keys[layer][:, :, : self._num_columns]
        output = F.scaled_dot_product_attention(
            query_BHE[:, :, None],
            keys,
            self._values[layer][:, :, : self._num_columns],
            attn_mask=None if self._bias is None else self._bias[..., : self._num_columns],
            enable_gqa=keys.shape[1] != query_BHE.shape[1],
        )
        return output.reshape(len(query_BHE), -1)

    def keep(self, rows_M: Tensor) -> Cache:
        """Return the cache of the rows `rows_M` alone."""
        self._keys = [
            keys[:, :, : self._num_columns].index_select(0, rows_M) for keys in self._keys
        ]
        self._values = [v[:, :, : self._num_columns].index_select(0, rows_M) for v in self._values]
        if self._bias is not None:
            self._bias = self._bias[rows_M][..., : self._num_columns]
        self._capacity = self._num_columns
        return self


def join_prompts(parts: Sequence[Prompts]) -> Prompts:
    """Return several lots of prompts as one, padded to the longest."""
    width = max(part.keys[0].shape[2] for part in parts)

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(t, (0, 0, 0, width - t.shape[2])) for t in tensors])

    return Prompts(
        keys=[joined(layer) for layer in zip(*(part.keys for part in parts), strict=True)],
        values=[joined(layer) for layer in zip(*(part.values for part in parts), strict=True)],
        lengths_N=torch.cat([part.lengths_N for part in parts]),
        logits_NV=torch.cat([part.logits_NV for part in parts]),
    )


def select_prompts(prompts: Prompts, indices_M: Tensor) -> Prompts:
    """Return some of the prompts, without copying when they are all."""
    if len(indices_M) == len(prompts.lengths_N):
        return prompts
    return Prompts(
        keys=[keys.index_select(0, indices_M) for keys in prompts.keys],
        values=[values.index_select(0, indices_M) for values in prompts.values],
        lengths_N=prompts.lengths_N[indices_M],
        logits_NV=prompts.logits_NV[indices_M],
    )


class _Part(NamedTuple):
    """Attention over a part of the context: unnormalised output, its weight, its maximum."""

    output: Tensor
    weight: Tensor
    maximum: Tensor


def _attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> _Part:
    """Return one part of an attention: batches of (queries, E) against (columns, E)."""
    scores = torch.bmm(query, keys.transpose(1, 2))
    if bias is not None:
        scores += bias
    maximum = scores.amax(dim=2, keepdim=True)
    weights = scores.sub_(maximum).exp_()
    return _Part(torch.bmm(weights, values), weights.sum(dim=2, keepdim=True), maximum)


def _padding_bias(prompts: Prompts) -> Tensor | None:
    """Return bias_NP, -inf on padding; None when all prompts are equally long."""
    keys = prompts.keys[0]
    position_P = torch.arange(keys.shape[2], device=keys.device)
    is_pad_NP = position_P >= prompts.lengths_N[:, None]
    if not bool(is_pad_NP.any()):
        return None
    return keys.new_zeros(is_pad_NP.shape).masked_fill(is_pad_NP, float("-inf"))


def _with_heads(rows: Tensor, num_key_heads: int) -> Tensor:
    """Return the indices of `rows` in a tensor that holds their key heads one after another."""
    heads = torch.arange(num_key_heads, device=rows.device)
    return (rows[:, None] * num_key_heads + heads).view(-1)
