"""Steps over tensors that stay where they are, replayed as CUDA graphs where there is a GPU.

B rows, S steps of a chunk, U uniform numbers a token, V vocabulary.

A step of a large model is some eight hundred kernels, which Python launches more slowly than a GPU
runs them. A graph launches them at once. It is captured for one set of shapes; the step before the
capture is an ordinary one, and its warm-up. Rows leave for smaller shapes seldom, as each costs a
capture. What is computed is the same without graphs, as on a CPU, where the tests compare it with
`PlainSteps`. Hooks on the model's modules do not run in a replay.
"""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from language.decoding import Decoder
from language.graphs import Graphs, Replay
from language.sampling import Settings, draw_tokens
from language.static_cache import StaticCache
from language.steps import Chunk, PlainSteps, Tokens

_STEPPINGS = ("plain", "static", "graphs")


class Stepping(NamedTuple):
    """How the steps of one call of `generate` are run; it changes no token."""

    is_static: bool
    graphs: Graphs | None


def create_stepping(
    device: torch.device, name: str = "", *, environment: Mapping[str, str] = os.environ
) -> Stepping:
    """Return `plain` stepping, `static`, or `graphs`, which is static and replayed.

    Without a name `CONCORD_STEPPING` says which, and where it does not either, a GPU has graphs and
    a CPU is plain.

    Raises:
        ValueError: There is no such stepping, or no GPU for graphs.
    """
    is_gpu = device.type == "cuda"
    chosen = name or environment.get("CONCORD_STEPPING") or ("graphs" if is_gpu else "plain")
    if chosen not in _STEPPINGS:
        raise ValueError(f"CONCORD_STEPPING: {chosen!r} is not one of {', '.join(_STEPPINGS)}")
    if chosen == "graphs" and not is_gpu:
        raise ValueError("CONCORD_STEPPING: graphs need a GPU; use plain or static")
    return Stepping(chosen != "plain", Graphs(device) if chosen == "graphs" else None)


def create_steps(
    decoder: Decoder, is_end_V: Tensor, stepping: Stepping, *, num_rows: int
) -> PlainSteps:
    """Return the steps of `num_rows` rows."""
    if not stepping.is_static:
        return PlainSteps(decoder, is_end_V, num_rows=num_rows)
    return StaticSteps(decoder, is_end_V, num_rows=num_rows, graphs=stepping.graphs)


class _Buffers(NamedTuple):
    """What a chunk's steps read and write."""

    temperature_B1: Tensor | None
    is_greedy_B: Tensor | None
    top_p_B: Tensor | None
    position_B: Tensor
    is_done_B: Tensor
    uniforms_BSU: Tensor
    step_1: Tensor
    """The number of the step that draws next."""
    newest_B: Tensor
    """The tokens drawn last."""
    ids_BS: Tensor
    logprobs_3BS: Tensor

    @property
    def settings(self) -> Settings:
        """How tokens are drawn."""
        return Settings(self.temperature_B1, self.is_greedy_B, self.top_p_B)


class StaticSteps(PlainSteps):
    """Steps whose kernels and addresses are the same each time, until shapes or settings change."""

    compaction_share = 0.75
    cache: StaticCache

    def __init__(
        self, decoder: Decoder, is_end_V: Tensor, *, num_rows: int, graphs: Graphs | None
    ) -> None:
        """Begin with `graphs` to capture steps in; None runs them one kernel after the other."""
        super().__init__(decoder, is_end_V, num_rows=num_rows)
        self._shape = self.cache.shape
        self._num_drawn = 0
        self._buffers: _Buffers | None = None
        self._drawing, self._decoding = Replay(graphs, 0), Replay(graphs, 1)

    def _create_cache(self, num_rows: int) -> StaticCache:
        return self._decoder.create_cache(StaticCache, num_rows=num_rows, num_prompts=0)

    @property
    def num_drawn(self) -> int:
        """Tokens drawn for each row in this chunk."""
        return self._num_drawn

    def begin(self, chunk: Chunk) -> None:
        """Begin a chunk in the buffers that there are, or in new ones where it does not fit."""
        self._num_drawn = 0
        new, held = _buffers_of(chunk), self._buffers
        if held is None:
            self._buffers = new
            self._drawing.forget()
            self._decoding.forget()
        else:
            # Rows are as many as before: settings alone may differ, which drawing reads.
            self._buffers = _Buffers._make(map(_refilled, held, new))
            if any(one is not other for one, other in zip(self._buffers, held, strict=True)):
                self._drawing.forget()
        self._is_done_B = self._buffers.is_done_B

    def keep(self, rows: Sequence[int], prompts: Sequence[int]) -> None:
        """Keep some rows and places of prompts alone; the cache's `arrange` and `begin` follow."""
        super().keep(rows, prompts)
        self._buffers = None

    def draw(self) -> None:
        """Draw a token for each row."""
        self._drawing(self._draw_)
        self._num_drawn += 1

    def decode(self) -> None:
        """Have the model read the tokens drawn last."""
        self.cache.reserve()
        if self._shape != self.cache.shape:
            self._shape = self.cache.shape
            self._decoding.forget()
        self._decoding(self._decode_)

    def read(self) -> Tokens:
        """Return what was drawn in this chunk; waits for a GPU."""
        held = self._held()
        ids_BS = held.ids_BS[:, : self._num_drawn]
        logprobs_3BS = held.logprobs_3BS[:, :, : self._num_drawn]
        return Tokens(ids_BS.tolist(), self._is_end_V[ids_BS].tolist(), logprobs_3BS.tolist())

    def close(self) -> None:
        """Let go of the graphs."""
        self._drawing.close()
        self._decoding.close()

    def _held(self) -> _Buffers:
        assert self._buffers is not None, "begin comes before the first step"
        return self._buffers

    def _draw_(self) -> None:
        held = self._held()
        uniforms_BU = held.uniforms_BSU.index_select(1, held.step_1)[:, 0]
        draw = draw_tokens(self._logits_BV, uniforms_BU, held.settings, is_static=True)
        held.newest_B.copy_(draw.ids_B)
        held.ids_BS.index_copy_(1, held.step_1, draw.ids_B[:, None])
        held.logprobs_3BS.index_copy_(2, held.step_1, torch.stack(draw[1:])[:, :, None])
        held.is_done_B.logical_or_(self._is_end_V[draw.ids_B])
        held.step_1.add_(1)

    def _decode_(self) -> None:
        held = self._held()
        self._logits_BV.copy_(self._decoder.step(held.newest_B, held.position_B, self.cache))
        held.position_B.add_(1)


def _buffers_of(chunk: Chunk) -> _Buffers:
    num_rows, num_steps, _ = chunk.uniforms_BSU.shape
    device = chunk.uniforms_BSU.device
    return _Buffers(
        *chunk.settings,
        position_B=chunk.position_B,
        is_done_B=chunk.is_done_B,
        uniforms_BSU=chunk.uniforms_BSU,
        step_1=torch.zeros(1, dtype=torch.long, device=device),
        newest_B=torch.zeros_like(chunk.position_B),
        ids_BS=torch.zeros(num_rows, num_steps, dtype=torch.long, device=device),
        logprobs_3BS=torch.zeros(3, num_rows, num_steps, device=device),
    )


def _refilled(held: Tensor | None, new: Tensor | None) -> Tensor | None:
    """Return `held` with the content of `new`, or `new` where a setting was or is not there."""
    return new if held is None or new is None else held.copy_(new)
