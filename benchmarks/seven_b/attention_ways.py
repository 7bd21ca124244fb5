"""Ways to attend over packed pairs at 7B's layer shape: forwards and backwards, milliseconds.

Shapes: T tokens on the line, B rows, H heads, E head size.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.seven_b.machine import Machine
from benchmarks.seven_b.work import Size, draw_pairs
from language.flash_attention import attend_by_flash
from language.packed_attention import (
    GPUPlan,
    Layout,
    attend_by_blocks,
    attend_by_segments,
    with_block_mask,
)
from language.packing import pack_rows, packed_length
from language.rotary import turned
from language.rows import TokenRow

_FORWARD_AND_BACKWARD = 3.5
"""The backward pass has five products of queries by keys where the forward pass has two."""
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def attention_ways(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line for each way; queries and keys are turned by their positions in all of them."""
    shape, device = size.shape, machine.device
    head_size = shape.hidden // shape.heads
    rows = _rows(size)
    layout = pack_rows(rows, device=device).layout
    dtype = torch.bfloat16 if machine.is_gpu else torch.float32
    num_tokens = len(layout.dialogue_T)
    num_pairs_seen = _num_pairs_seen(layout)
    flops = _FORWARD_AND_BACKWARD * 4 * num_pairs_seen * shape.hidden
    ways = _Ways(layout, rows, head_size**-0.5, machine)
    for name, (attend, num_rows, length) in ways.all().items():
        line = {"way": name, "tokens": num_tokens, "dtype": str(dtype).removeprefix("torch.")}
        try:
            inputs = [
                torch.randn(
                    num_rows, length, shape.heads, head_size, device=device, dtype=dtype
                ).requires_grad_()
                for _ in range(3)
            ]
            work = partial(_work, attend, inputs)
            first = machine.seconds(work)
            second = machine.median_seconds(work, 5)
        except TimeoutError:
            raise
        except Exception as error:  # noqa: BLE001 - a way that is not there is a result
            yield {**line, "error": f"{type(error).__name__}: {error}"[:500]}
            continue
        yield {
            **line,
            "milliseconds": round(1e3 * second, 3),
            "first_call_seconds": round(first, 2),
            "tflops": round(flops / second / 1e12, 2),
            "flops": "3.5 times the forward pass's, over pairs of tokens that see each other",
        }


def _rows(size: Size) -> list[TokenRow]:
    """Return pairs' rows that share prompts, about as many tokens as the size asks for."""
    rows: list[TokenRow] = []
    for pair in draw_pairs(size.attention_tokens // 64, size.shape):
        more = [*rows, pair.chosen, pair.rejected]
        if rows and packed_length(more) > size.attention_tokens:
            break
        rows = more
    return rows


def _num_pairs_seen(layout: Layout) -> int:
    own = sum(run.num_segments * run.length * (run.length + 1) // 2 for run in layout.runs)
    crossing = sum((c.end - c.start) * (c.key_end - c.key_start) for c in layout.crossings)
    return own + crossing


class _Ways:
    """Functions of (B, T, H, E) queries, keys and values, each with the B and T it takes."""

    def __init__(
        self, layout: Layout, rows: list[TokenRow], scale: float, machine: Machine
    ) -> None:
        self._layout, self._rows, self._scale = layout, rows, scale
        self._machine = machine

    def all(self) -> dict[str, tuple[Attend, int, int]]:
        """Return the ways that this device has."""
        line = len(self._layout.dialogue_T)
        lengths = [row.num_tokens for row in self._rows]
        ways: dict[str, tuple[Attend, int, int]] = {
            "SDPA, dense mask over the line": (self._dense(), 1, line),
            "SDPA, padded rows": (self._padded, len(lengths), max(lengths)),
        }
        if not self._machine.is_gpu:
            return {"segments merged (ours on a CPU)": (self._segments, 1, line), **ways}
        return {
            "flash, segments merged (ours)": (self._flash, 1, line),
            **ways,
            "varlen, prompts repeated": (self._varlen, 1, sum(lengths)),
            "FlexAttention": (self._blocks(), 1, line),
        }

    def _flash(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        plan = (self._layout.gpu or GPUPlan(self._layout)).flash
        rotation = _rotation(query)
        return attend_by_flash(query[0], key[0], value[0], plan, self._scale, rotation)

    def _segments(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return attend_by_segments(q, k, v, self._layout, self._scale, _rotation(query))

    def _blocks(self) -> Attend:
        mask = with_block_mask(self._layout).block_mask
        assert mask is not None, "it was just made"

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return attend_by_blocks(*_turned_heads(query, key, value), mask, self._scale)

        return attend

    def _dense(self) -> Attend:
        place_T = torch.arange(len(self._layout.dialogue_T), device=self._machine.device)
        allowed = self._layout.allows(place_T[:, None], place_T)

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            heads = _turned_heads(query, key, value)
            return F.scaled_dot_product_attention(*heads, attn_mask=allowed, scale=self._scale)

        return attend

    def _padded(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = _turned_heads(query, key, value)
        return F.scaled_dot_product_attention(*heads, is_causal=True, scale=self._scale)

    def _varlen(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        from torch.nn.attention.varlen import varlen_attn

        lengths = [row.num_tokens for row in self._rows]
        starts = torch.tensor(
            list(accumulate(lengths, initial=0)), dtype=torch.int32, device=query.device
        )
        takes = inspect.signature(varlen_attn).parameters
        causal: dict[str, Any] = (
            {"is_causal": True} if "is_causal" in takes else {"window_size": (-1, 0)}
        )
        cos, sin = (part[0][:, None] for part in _rotation(query))
        q, k = turned(query[0], cos, sin), turned(key[0], cos, sin)
        longest = max(lengths)
        output = varlen_attn(q, k, value[0], starts, starts, longest, longest, **causal)
        assert isinstance(output, Tensor), "its normalisers were not asked for"
        return output


def _rotation(query: Tensor) -> tuple[Tensor, Tensor]:
    """Return some (cos_1TE, sin_1TE): what they are does not matter to the time."""
    angle_1TE = torch.zeros(1, query.shape[1], query.shape[3], device=query.device)
    return angle_1TE.cos().to(query.dtype), angle_1TE.sin().to(query.dtype)


def _turned_heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (B, H, T, E) heads, queries and keys turned."""
    cos, sin = (part[:, :, None] for part in _rotation(query))
    q, k = turned(query, cos, sin), turned(key, cos, sin)
    return q.transpose(1, 2), k.transpose(1, 2), value.transpose(1, 2)


def _work(attend: Attend, inputs: list[Tensor]) -> None:
    query, key, value = inputs
    output = attend(query, key, value)
    torch.autograd.grad(output, inputs, torch.ones_like(output))
