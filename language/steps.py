"""Steps of sampling: a token is drawn for each row, then the model reads it.

B rows, S steps of a chunk, U uniform numbers a token, V vocabulary, M some of the rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from language.caches import Cache
from language.decoding import Decoder
from language.sampling import Draw, Settings, draw_tokens


class Tokens(NamedTuple):
    """What was drawn since a chunk began, by row and step, on the host."""

    ids: list[list[int]]
    is_end: list[list[bool]]
    logprobs: list[list[list[float]]]
    """Tempered, as sampled, untempered: as in `Draw`."""


class Chunk(NamedTuple):
    """What is set when a chunk of steps begins."""

    settings: Settings
    position_B: Tensor
    """Of the token that is drawn next."""
    is_done_B: Tensor
    uniforms_BSU: Tensor


class PlainSteps:
    """Steps with tensors made anew for each: the fewest columns and kernels that do."""

    compaction_share = 0.25
    """Rows move together when this share of them is free: that copies the cache."""

    def __init__(self, decoder: Decoder, is_end_V: Tensor, *, num_rows: int) -> None:
        self._decoder, self._is_end_V = decoder, is_end_V
        self._logits_BV = torch.zeros(num_rows, len(is_end_V), device=is_end_V.device)
        self._draws: list[Draw] = []
        self.cache: Cache = self._create_cache(num_rows)
        self._settings: Settings
        self._position_B: Tensor
        self._is_done_B: Tensor
        self._uniforms_BSU: Tensor

    def _create_cache(self, num_rows: int) -> Cache:
        return self._decoder.create_cache(Cache, num_rows=num_rows, num_prompts=0)

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self._is_end_V.device

    @property
    def num_rows(self) -> int:
        """Rows that are computed, whether live or not."""
        return len(self._logits_BV)

    @property
    def num_drawn(self) -> int:
        """Tokens drawn for each row in this chunk."""
        return len(self._draws)

    def begin(self, chunk: Chunk) -> None:
        """Begin a chunk; what was drawn before is forgotten."""
        self._draws = []
        self._settings, self._position_B, self._is_done_B, self._uniforms_BSU = chunk

    def put_logits(self, rows_M: Tensor, logits_MV: Tensor) -> None:
        """Set what follows in some rows."""
        self._logits_BV.index_copy_(0, rows_M, logits_MV)

    def keep(self, rows: Sequence[int], prompts: Sequence[int]) -> None:
        """Keep some rows and places of prompts alone; the cache's `arrange` and `begin` follow."""
        self.cache.keep(rows, prompts)
        self._logits_BV = self._logits_BV[torch.tensor(rows, device=self._is_end_V.device)]

    def draw(self) -> None:
        """Draw a token for each row."""
        uniforms_BU = self._uniforms_BSU[:, len(self._draws)]
        draw = draw_tokens(self._logits_BV, uniforms_BU, self._settings)
        self._draws.append(draw)
        self._is_done_B.logical_or_(self._is_end_V[draw.ids_B])

    def decode(self) -> None:
        """Have the model read the tokens drawn last."""
        ids_B = self._draws[-1].ids_B
        self._logits_BV = self._decoder.step(ids_B, self._position_B, self.cache)
        self._position_B = self._position_B + 1

    def mark_done(self, is_done: Sequence[bool]) -> None:
        """Count these rows as done, besides those that are."""
        self._is_done_B.logical_or_(torch.tensor(is_done, device=self._is_done_B.device))

    def count_done(self) -> int:
        """Return how many rows are done; waits for a GPU."""
        return int(self._is_done_B.sum())

    def close(self) -> None:
        """Let go of what a call of `generate` must not leave behind, however it ends."""

    def read(self) -> Tokens:
        """Return what was drawn in this chunk; waits for a GPU."""
        ids_BS, *logprobs = (
            torch.stack(tensors, dim=1) for tensors in zip(*self._draws, strict=True)
        )
        values = [logprobs_BS.tolist() for logprobs_BS in logprobs]
        return Tokens(ids_BS.tolist(), self._is_end_V[ids_BS].tolist(), values)
