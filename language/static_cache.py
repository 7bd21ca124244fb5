"""The cache of rows being decoded in tensors that stay where they are: a step can be replayed.

B rows (responses being written), N places for prompts, K rows per prompt at most, P prompt tokens,
C columns of own tokens, J key heads, E head size.

A graph of a step holds addresses and shapes. So which column is written is a number on the device,
each step attends over all C columns with those that are not its row's masked, and the masks and
the grid are filled anew in place. Capacities grow by doubling, or by a quarter: the tensors are
replaced then, and a step must be captured anew. Columns given up are moved over in place. Masked
columns cost as much as others: C is mostly below three times what the oldest live row needs.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from language.caches import Cache, Layout, create_grid, grid_width, is_identity
from language.prompt_cache import PromptCache, bias_of

_COLUMNS = 64
"""Own columns at first: a capture costs as much as some twenty steps over columns in vain."""
_FORGOTTEN_COLUMNS = 32
"""Fewer columns are not given up, nor less than a quarter: the others must be moved."""
_PROMPT_COLUMNS = 32
_PLACES = 4
"""Prompts' columns and places grow by at least so many, and by a quarter."""


class StaticPromptCache(PromptCache):
    """A `PromptCache` whose tensors are replaced only where `shape` changes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each layer's values."""
        return tuple(self._values[0].shape)

    def arrange(self, used: Collection[int]) -> None:  # noqa: ARG002 - all are read and masked
        """Fill the mask of all places anew."""
        self._bias = _refilled(self._bias, self._bias_of_padding())

    def _column_capacity(self, held: int, needed: int) -> int:
        return _grown(held, needed, _PROMPT_COLUMNS)

    def _place_capacity(self, held: int, needed: int) -> int:
        return _grown(held, needed, _PLACES)


class StaticCache(Cache):
    """A `Cache` whose tensors are replaced only where `shape` changes."""

    _prompt_cache = StaticPromptCache
    prompts: StaticPromptCache

    def __init__(
        self,
        *,
        num_layers: int,
        num_key_heads: int,
        head_size: int,
        num_rows: int,
        num_prompts: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            num_key_heads=num_key_heads,
            head_size=head_size,
            num_rows=num_rows,
            num_prompts=num_prompts,
            dtype=dtype,
            device=device,
        )
        self._num_keeps = self._grid_width = 0
        self._column_1 = torch.full((1,), -1, device=device)
        """The newest column, on the device."""

    @property
    def shape(self) -> tuple[int, ...]:
        """What a step's graph depends on: while it is equal, so are the tensors' addresses."""
        return (self._num_keeps, *self._own[0].shape, *self.prompts.shape, self._grid_width)

    def arrange(self, layout: Layout) -> int:
        """Take note of rows that began or ended, before the next step; as `Cache.arrange`."""
        live = [row for row, is_live in enumerate(layout.is_live) if is_live]
        self._first = min(layout.start_of_row[row] for row in live)
        is_much = self._first > max(_FORGOTTEN_COLUMNS, self._num_columns // 4)
        moved = self._forget() if is_much else 0
        self._column_1.fill_(self._num_columns - 1)
        self._own_bias = _refilled(self._own_bias, self._bias_of_own(layout, moved))
        self.prompts.arrange({layout.prompt_of_row[row] for row in live})
        self._arrange_grid(layout, live)
        return moved

    def keep(self, rows: Sequence[int], prompts: Sequence[int]) -> None:
        """Keep some rows and prompts alone, in this order; `arrange` must follow."""
        super().keep(rows, prompts)
        self._num_keeps += 1
        self._grid, self._grid_width = None, 0

    def reserve(self) -> None:
        """Count the column that the next `advance` begins, and make room for it.

        Apart from `advance`, as a replayed step runs nothing on the host.
        """
        self._num_columns += 1
        held = self._own[0].shape[3]
        if self._num_columns > held:
            capacity = _COLUMNS
            while capacity < max(self._num_columns, 2 * held):
                capacity *= 2
            grown = capacity - held
            for layer, own in enumerate(self._own):
                self._own[layer] = F.pad(own, (0, 0, 0, grown))
            assert self._own_bias is not None, "arrange comes before the first step"
            self._own_bias = F.pad(self._own_bias, (0, grown), value=float("-inf"))

    def advance(self) -> None:
        """Begin the column that was reserved; each layer then writes it."""
        assert self._own_bias is not None, "arrange comes before the first step"
        self._column_1.add_(1)
        self._own_bias.index_fill_(2, self._column_1, 0.0)

    def write(self, layer: int, key_value_BIJE: Tensor) -> None:
        """Store the newest token's keys (index 0 of I) and values (1) of all rows."""
        newest = key_value_BIJE.transpose(0, 1).unsqueeze(3)
        self._own[layer].index_copy_(3, self._column_1, newest)

    def _window(self) -> slice:
        return slice(None)

    def _forget(self) -> int:
        """Move the columns from the first on to the left; return by how many."""
        moved, self._first = self._first, 0
        kept = self._num_columns - moved
        for own in self._own:
            own[:, :, :, :kept] = own[:, :, :, moved : self._num_columns].clone()
        self._num_columns = kept
        return moved

    def _bias_of_own(self, layout: Layout, moved: int) -> Tensor:
        """Return (B * J, 1, C), -inf where a row had not begun and where nothing is written yet."""
        own = self._own[0]
        rows = zip(layout.start_of_row, layout.is_live, strict=True)
        starts = [start - moved if is_live else 0 for start, is_live in rows]
        start_B1 = torch.tensor(starts, device=own.device)[:, None]
        column_C = torch.arange(own.shape[3], device=own.device)
        is_masked_BC = (column_C < start_B1) | (column_C >= self._num_columns)
        return bias_of(is_masked_BC, num_heads=self._num_key_heads, dtype=self.dtype)

    def _arrange_grid(self, layout: Layout, live: Sequence[int]) -> None:
        """Fill the grid anew; rows that are prompts themselves need none until another begins."""
        num_prompts = self.prompts.num_places
        if self._grid is None and is_identity(layout, live, num_prompts):
            return
        self._grid_width = _grown(self._grid_width, grid_width(layout, live), 1)
        grid = create_grid(layout, live, num_prompts, self._num_key_heads, self._grid_width)
        held = self._grid or (None, None)
        device = self._own[0].device
        row_of_cell, cell_of_row = (
            _refilled(tensor, new.to(device)) for tensor, new in zip(held, grid, strict=True)
        )
        self._grid = (row_of_cell, cell_of_row)


def _refilled(held: Tensor | None, new: Tensor) -> Tensor:
    """Return `held` with the content of `new` where it fits, else `new`."""
    return held.copy_(new) if held is not None and held.shape == new.shape else new


def _grown(held: int, needed: int, least: int) -> int:
    """Return a capacity: what is needed at first, later more than that, so that it grows seldom."""
    if needed <= held or not held:
        return max(held, needed)
    return max(needed, held + max(least, held // 4))
