"""Keys and values of rows being decoded: each prompt's once for all its rows, each row's own apart.

B rows (responses being written), N prompts, K live rows per prompt at most, P prompt tokens, C
columns of own tokens, H query heads, J key heads (H is a multiple of J), G = H / J, E head size.

Rows and prompts have places that are filled again when their response is finished. All rows write
the same column at the same time: a row that began later has the columns before its own masked. So
writing is one slice, whatever the rows' ages, and nothing is moved when a row begins.

The softmax runs over prompt and own tokens together. Scores of the prompt are taken for all rows of
a prompt in one matrix product: queries are laid on a grid of prompts by rows and scores are taken
off it. The grid may have empty cells; they repeat row 0 and are not read.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from language.prompt_cache import PromptCache, bias_of, product

_COLUMNS = 32
"""The capacity grows by at least so many columns."""


class Layout(NamedTuple):
    """Which prompt each row continues, and from which column on a row's own tokens count."""

    prompt_of_row: Sequence[int]
    start_of_row: Sequence[int]
    is_live: Sequence[bool]
    """Rows that are not live are computed and never read."""


class Cache:
    """The keys and values of `num_rows` rows that continue `num_prompts` prompts at most.

    Attributes:
        prompts: The prompts'; `make_room` adds places.
    """

    _prompt_cache: type[PromptCache] = PromptCache

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
        self._num_key_heads, self._head_size = num_key_heads, head_size
        empty = torch.zeros((), dtype=dtype, device=device)
        own = (2, num_rows, num_key_heads, 0, head_size)
        self._own = [empty.new_zeros(own) for _ in range(num_layers)]
        self.prompts = self._prompt_cache(
            num_layers=num_layers,
            num_key_heads=num_key_heads,
            head_size=head_size,
            num_places=num_prompts,
            dtype=dtype,
            device=device,
        )
        self._first = self._num_columns = 0
        self._own_bias: Tensor | None = None
        self._grid: tuple[Tensor, Tensor] | None = None

    @property
    def next_column(self) -> int:
        """The column that the next step writes."""
        return self._num_columns

    @property
    def dtype(self) -> torch.dtype:
        """The type of keys and values."""
        return self._own[0].dtype

    def arrange(self, layout: Layout) -> int:
        """Take note of rows that began or ended, before the next step.

        Columns before the oldest live row's first are given up when they are many; returned is by
        how many columns all have moved then, the layout's own starts included.
        """
        live = [row for row, is_live in enumerate(layout.is_live) if is_live]
        starts = [layout.start_of_row[row] for row in live]
        self._first = min(starts)
        moved = self._forget() if self._first > max(_COLUMNS, self._num_columns // 2) else 0
        self._own_bias = self._bias_of_own(layout, moved) if len(set(starts)) > 1 else None
        self._arrange_grid(layout, live)
        self.prompts.arrange({layout.prompt_of_row[row] for row in live})
        return moved

    def keep(self, rows: Sequence[int], prompts: Sequence[int]) -> None:
        """Keep some rows and prompts alone, in this order; `arrange` must follow."""
        rows_M, end = torch.tensor(rows, device=self._own[0].device), self._num_columns
        self._own = [own[:, :, :, :end].index_select(1, rows_M) for own in self._own]
        self.prompts.keep(prompts)

    def advance(self) -> None:
        """Begin a new column; each layer then writes it."""
        self._num_columns += 1
        capacity = self._own[0].shape[3]
        if self._num_columns > capacity:
            grown = max(_COLUMNS, capacity)
            self._own = [F.pad(own, (0, 0, 0, grown)) for own in self._own]
            if self._own_bias is not None:
                self._own_bias = F.pad(self._own_bias, (0, grown))

    def write(self, layer: int, key_value_BIJE: Tensor) -> None:
        """Store the newest token's keys (index 0 of I) and values (1) of all rows."""
        self._own[layer][:, :, :, self._num_columns - 1] = key_value_BIJE.transpose(0, 1)

    def attend(self, layer: int, query_BHE: Tensor) -> Tensor:
        """Return attention's output (B, H * E) to queries that are scaled already."""
        num_rows, num_heads, size = query_BHE.shape
        flat = num_rows * self._num_key_heads
        query = query_BHE.reshape(flat, num_heads // self._num_key_heads, size)
        window = self._window()
        keys, values = self._own[layer].view(2, flat, -1, size)[:, :, window]
        own_bias = None if self._own_bias is None else self._own_bias[:, :, window]
        own = product(query, keys.transpose(1, 2), own_bias)
        prompt = self._taken(self.prompts.scores(layer, self._laid(query)))
        weights = torch.cat([prompt, own], dim=2).softmax(dim=2).to(query.dtype)
        output = self._taken(self.prompts.mixed(layer, self._laid(weights)))
        output.baddbmm_(weights[:, :, self.prompts.width :], values)
        return output.view(num_rows, num_heads * size)

    def _window(self) -> slice:
        """Return the columns of own tokens that some row sees."""
        return slice(self._first, self._num_columns)

    def _laid(self, rows: Tensor) -> Tensor:
        """Return (B * J, G, X) of rows as (N * J, K * G, X) of the grid."""
        if self._grid is None:
            return rows
        row_of_cell, _ = self._grid
        flat = self.prompts.num_places * self._num_key_heads
        return rows.index_select(0, row_of_cell).view(flat, -1, rows.shape[2])

    def _taken(self, cells: Tensor) -> Tensor:
        """Return (N * J, K * G, X) of the grid as (B * J, G, X) of rows."""
        if self._grid is None:
            return cells
        row_of_cell, cell_of_row = self._grid
        return cells.view(len(row_of_cell), -1, cells.shape[2]).index_select(0, cell_of_row)

    def _arrange_grid(self, layout: Layout, live: Sequence[int]) -> None:
        self._grid, num_prompts = None, self.prompts.num_places
        if not is_identity(layout, live, num_prompts):
            width = grid_width(layout, live)
            grid = create_grid(layout, live, num_prompts, self._num_key_heads, width)
            device = self._own[0].device
            self._grid = (grid[0].to(device), grid[1].to(device))

    def _forget(self) -> int:
        """Drop the columns before the first; return how many they were."""
        moved, self._first = self._first, 0
        self._own = [own[:, :, :, moved : self._num_columns].clone() for own in self._own]
        self._num_columns -= moved
        return moved

    def _bias_of_own(self, layout: Layout, moved: int) -> Tensor:
        """Return (B * J, 1, C), -inf where a row had not begun; rows that ended have no bias."""
        own = self._own[0]
        rows = zip(layout.start_of_row, layout.is_live, strict=True)
        starts = [start - moved if is_live else 0 for start, is_live in rows]
        start_B = torch.tensor(starts, device=own.device)
        is_before_BC = torch.arange(own.shape[3], device=own.device) < start_B[:, None]
        return bias_of(is_before_BC, num_heads=self._num_key_heads, dtype=self.dtype)


def is_identity(layout: Layout, live: Sequence[int], num_prompts: int) -> bool:
    """Return whether each live row continues the prompt at its own number: no grid is needed."""
    is_same = all(layout.prompt_of_row[row] == row for row in live)
    return is_same and len(layout.prompt_of_row) == num_prompts


def grid_width(layout: Layout, live: Sequence[int]) -> int:
    """Return how many live rows continue one prompt at most."""
    return max(Counter([layout.prompt_of_row[row] for row in live]).values())


def create_grid(
    layout: Layout, live: Sequence[int], num_prompts: int, num_heads: int, width: int
) -> tuple[Tensor, Tensor]:
    """Return the row of each cell (N * J * width) and the cell of each row (B * J), by key head."""
    prompt_of = [layout.prompt_of_row[row] for row in live]
    counts: dict[int, int] = {}
    within = []
    for prompt in prompt_of:
        within.append(counts.get(prompt, 0))
        counts[prompt] = within[-1] + 1
    prompt_M, within_M, live_M = (torch.tensor(n) for n in (prompt_of, within, live))
    head_J = torch.arange(num_heads)
    cell_MJ = (prompt_M[:, None] * num_heads + head_J) * width + within_M[:, None]
    row_of_cell = torch.zeros(num_prompts * num_heads * width, dtype=torch.long)
    row_of_cell[cell_MJ] = live_M[:, None] * num_heads + head_J
    cell_of_row = torch.zeros((len(layout.prompt_of_row), num_heads), dtype=torch.long)
    cell_of_row[live_M] = cell_MJ
    return row_of_cell, cell_of_row.view(-1)
