"""Keys and values of prompts that rows being decoded continue: each prompt's once for all its rows.

N places for prompts, P prompt tokens, K live rows per prompt at most, J key heads, G query heads a
key head, E head size, C columns of any kind.

On a CPU the keys of a prompt lie with its tokens side by side: products with few queries take a
third to two thirds of the time then.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_COLUMNS = 32
"""The capacity grows by at least so many columns."""


class Prompts(NamedTuple):
    """Prompts read by the model: keys and values per layer, and what follows each prompt."""

    keys: list[Tensor]
    """One (N, J, E, P) per layer; padded on the right."""
    values: list[Tensor]
    """One (N, J, P, E) per layer."""
    lengths: list[int]
    logits_NV: Tensor
    """Of the token after each prompt, float32."""


class PromptCache:
    """Places for prompts, which are filled again when no row continues their prompt any more."""

    def __init__(
        self,
        *,
        num_layers: int,
        num_key_heads: int,
        head_size: int,
        num_places: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        empty = torch.zeros((), dtype=dtype, device=device)
        values = (num_places, num_key_heads, 0, head_size)
        self._is_by_component = _is_by_component(device)
        keys = (num_places, num_key_heads, head_size, 0) if self._is_by_component else values
        self._keys = [empty.new_zeros(keys) for _ in range(num_layers)]
        self._values = [empty.new_zeros(values) for _ in range(num_layers)]
        self._lengths = [0] * num_places
        self._bias: Tensor | None = None

    @property
    def num_places(self) -> int:
        """How many prompts there is room for."""
        return len(self._lengths)

    @property
    def width(self) -> int:
        """How many columns each place has."""
        return self._values[0].shape[2]

    def make_room(self, used: Collection[int], lengths: Sequence[int]) -> list[int]:
        """Return places for prompts of `lengths` that are not among `used`."""
        held = self.num_places
        free = [place for place in range(held) if place not in used][: len(lengths)]
        needed = held + len(lengths) - len(free)
        width = max(lengths, default=0)
        self._grow(
            self._place_capacity(held, needed) - held if needed > held else 0,
            self._column_capacity(self.width, width) - self.width if width > self.width else 0,
        )
        return [*free, *range(held, needed)]

    def _grow(self, places: int, columns: int) -> None:
        if places or columns:
            # With zeros, as padding too is multiplied.
            below = (0, 0, 0, columns, 0, 0, 0, places)
            of_keys = (0, columns, 0, 0, 0, 0, 0, places) if self._is_by_component else below
            self._keys = [F.pad(keys, of_keys) for keys in self._keys]
            self._values = [F.pad(values, below) for values in self._values]
            self._lengths += [0] * places

    def _column_capacity(self, held: int, needed: int) -> int:
        """Return how many columns places get, which have `held`, too few."""
        return max(needed, held + _COLUMNS) if held else needed

    def _place_capacity(self, held: int, needed: int) -> int:
        """Return how many places there are to be; there are `held`, too few."""
        return max(needed, held)

    def store(self, prompts: Prompts, places: Sequence[int]) -> None:
        """Put prompts into `places`, for which there is room, in the place of what was there."""
        width, dtype = max(prompts.lengths), self._values[0].dtype
        places_M = torch.tensor(places, device=self._values[0].device)
        for layer, (keys, values) in enumerate(zip(prompts.keys, prompts.values, strict=True)):
            self._columns(self._keys[layer], width)[places_M] = self._turned(keys.to(dtype))
            self._values[layer][places_M, :, :width] = values.to(dtype)
        for place, length in zip(places, prompts.lengths, strict=True):
            self._lengths[place] = length

    def keep(self, places: Sequence[int]) -> None:
        """Keep some places alone, in this order; `arrange` must follow."""
        self._lengths = [self._lengths[place] for place in places]
        width, places_M = max(self._lengths), torch.tensor(places, device=self._values[0].device)
        self._keys = [self._columns(keys, width).index_select(0, places_M) for keys in self._keys]
        self._values = [values[:, :, :width].index_select(0, places_M) for values in self._values]

    def arrange(self, used: Collection[int]) -> None:
        """Take note of the places whose prompts live rows continue."""
        is_even = all(self._lengths[place] == self.width for place in used)
        self._bias = None if is_even else self._bias_of_padding()

    def scores(self, layer: int, query: Tensor) -> Tensor:
        """Return the scores (N * J, K * G, P) of queries (N * J, K * G, E)."""
        return product(query, self._turned(self._keys[layer]).flatten(0, 1), self._bias)

    def mixed(self, layer: int, weights: Tensor) -> Tensor:
        """Return values (N * J, K * G, E) mixed by weights (N * J, K * G, P or more)."""
        return torch.bmm(weights[:, :, : self.width], self._values[layer].flatten(0, 1))

    def _bias_of_padding(self) -> Tensor:
        """Return (N * J, 1, P), -inf on padding; a place that holds no prompt has no bias."""
        values, width = self._values[0], self.width
        lengths_N = torch.tensor([n or width for n in self._lengths], device=values.device)
        is_padding_NP = torch.arange(width, device=values.device) >= lengths_N[:, None]
        return bias_of(is_padding_NP, num_heads=values.shape[1], dtype=values.dtype)

    def _columns(self, keys: Tensor, width: int) -> Tensor:
        """Return the first columns of keys as they are held."""
        return keys[..., :width] if self._is_by_component else keys[:, :, :width]

    def _turned(self, keys: Tensor) -> Tensor:
        """Return keys (N, J, E, P) as they are held, and the other way round."""
        return keys if self._is_by_component else keys.transpose(2, 3)


def _is_by_component(device: torch.device) -> bool:
    """Return whether keys are held as (E, P): a GPU reads rows of any length P slowly."""
    return device.type == "cpu"


def product(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    """Return scores, with a bias; float32 on a GPU whatever the type of the factors."""
    if left.dtype == torch.float32:
        return torch.bmm(left, right) if bias is None else torch.baddbmm(bias, left, right)
    scores = torch.bmm(left, right, out_dtype=torch.float32)
    return scores if bias is None else scores.add_(bias)


def bias_of(is_masked_NC: Tensor, *, num_heads: int, dtype: torch.dtype) -> Tensor:
    """Return (N * J, 1, C), -inf where columns are masked; float32 on a GPU."""
    device = is_masked_NC.device
    bias_dtype = torch.float32 if device.type == "cuda" else dtype
    bias = torch.zeros(is_masked_NC.shape, dtype=bias_dtype, device=device)
    bias.masked_fill_(is_masked_NC, float("-inf"))
    return bias.repeat_interleave(num_heads, dim=0)[:, None]
