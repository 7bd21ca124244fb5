"""Attention over packed rows on a GPU in half precision: flash attention, segment by segment.

Shapes: T tokens on the line, C of them in responses that branch from a prompt, K in the prompts
they branch from, S segments, H heads, E head size. Tensors are (T, H, E).

The same two parts as on a CPU (`language.packed_attention`): each segment attends to itself,
causally, and branching responses attend to all of their prompt; the parts are merged by their
normalisers, and each part's gradient follows from the merged output and normaliser alone. One call
of torch's kernel for rows of any length serves all segments, and one all branches: nothing is
padded, compiled or masked.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from language.devices import tensor_on
from language.rotary import turned

DTYPES = (torch.bfloat16, torch.float16)
"""The kernel takes no others."""
MAX_HEAD_SIZE = 256


class Spans(NamedTuple):
    """Stretches of tokens side by side."""

    starts_S: Tensor
    """int32: where each begins, and after them where the last one ends."""
    longest: int


class Branches(NamedTuple):
    """Responses that branch from a prompt: the stretch of each, and of its prompt."""

    query_C: Tensor
    """Places of their tokens on the line."""
    queries: Spans
    key_K: Tensor
    """Places of the prompts' tokens."""
    keys: Spans


class FlashPlan(NamedTuple):
    """Who sees whom, as the kernel reads it."""

    segments: Spans
    branches: Branches | None
    """None where no prompt is shared."""


def create_plan(
    segments: Sequence[tuple[int, int]],
    crossings: Sequence[tuple[int, int, int, int]],
    device: torch.device | str,
) -> FlashPlan:
    """Return the plan of segments [start, end), which cover the line in order, and of crossings.

    A crossing is (start, end, key_start, key_end): the first stretch sees all of the second.
    """
    own = _spans([end - start for start, end in segments], device)
    if not crossings:
        return FlashPlan(own, None)
    queries = [range(start, end) for start, end, _, _ in crossings]
    keys = [range(start, end) for _, _, start, end in crossings]
    branches = Branches(
        _places(queries, device),
        _spans([len(part) for part in queries], device),
        _places(keys, device),
        _spans([len(part) for part in keys], device),
    )
    return FlashPlan(own, branches)


def attend_by_flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: FlashPlan,
    scaling: float,
    rotation: tuple[Tensor, Tensor],
) -> Tensor:
    """Return attention's output (T, H, E); queries and keys are turned by `rotation` first.

    `rotation` is (cos_1TE, sin_1TE). Keys and values have as many heads as queries.
    """
    cos, sin = (part[0][:, None].to(query.dtype) for part in rotation)
    apply: Callable[..., Tensor] = _FlashAttention.apply
    return apply(query, key, value, plan, scaling, cos, sin)


class _FlashAttention(torch.autograd.Function):
    """Both parts and their merging, in one backward pass."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's, which takes any attribute
        query: Tensor,
        key: Tensor,
        value: Tensor,
        plan: FlashPlan,
        scaling: float,
        cos: Tensor,
        sin: Tensor,
    ) -> Tensor:
        """Attend within segments, then merge what the branches see of their prompts."""
        q, k = turned(query, cos, sin), turned(key, cos, sin)
        output, normaliser_HT = _forward(
            q, k, value, plan.segments, plan.segments, is_causal=True, scale=scaling
        )
        branches = plan.branches
        if branches is not None:
            prompt, prompt_HC = _forward(
                q[branches.query_C],
                k[branches.key_K],
                value[branches.key_K],
                branches.queries,
                branches.keys,
                is_causal=False,
                scale=scaling,
            )
            own_HC = normaliser_HT[:, branches.query_C]
            share = torch.sigmoid(prompt_HC - own_HC).t()[..., None]
            merged = output[branches.query_C].float().lerp_(prompt.float(), share)
            output.index_copy_(0, branches.query_C, merged.to(output.dtype))
            normaliser_HT.index_copy_(1, branches.query_C, torch.logaddexp(own_HC, prompt_HC))
        ctx.save_for_backward(q, k, value, output, normaliser_HT, cos, sin)
        ctx.plan, ctx.scaling = plan, scaling
        return output

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Add up both parts' gradients; turn those of queries and keys back."""
        q, k, value, output, normaliser_HT, cos, sin = ctx.saved_tensors
        plan, gradient = ctx.plan, gradients[0].contiguous()
        q_grad, k_grad, v_grad = _backward(
            gradient,
            (q, k, value, output, normaliser_HT),
            plan.segments,
            plan.segments,
            is_causal=True,
            scale=ctx.scaling,
        )
        branches = plan.branches
        if branches is not None:
            query_C, key_K = branches.query_C, branches.key_K
            of_branches = (
                q[query_C],
                k[key_K],
                value[key_K],
                output[query_C],
                normaliser_HT[:, query_C].contiguous(),
            )
            parts = _backward(
                gradient[query_C],
                of_branches,
                branches.queries,
                branches.keys,
                is_causal=False,
                scale=ctx.scaling,
            )
            q_grad.index_add_(0, query_C, parts[0])
            k_grad.index_add_(0, key_K, parts[1])
            v_grad.index_add_(0, key_K, parts[2])
        q_grad, k_grad = turned(q_grad, cos, -sin), turned(k_grad, cos, -sin)
        return q_grad, k_grad, v_grad, None, None, None, None


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Spans,
    keys: Spans,
    *,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return the kernel's output (T, H, E) and its normalisers (H, T), float32."""
    output, normaliser_HT, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        queries.starts_S,
        keys.starts_S,
        queries.longest,
        keys.longest,
        0.0,
        is_causal,
        False,
        scale=scale,
    )
    return output, normaliser_HT


def _backward(
    gradient: Tensor,
    saved: tuple[Tensor, ...],
    queries: Spans,
    keys: Spans,
    *,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value; `saved` ends in output and normalisers."""
    query, key, value, output, normaliser_HT = saved
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=query.device)
    unused = torch.empty(0, device=query.device)
    grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
        gradient,
        query,
        key,
        value,
        output,
        normaliser_HT,
        queries.starts_S,
        keys.starts_S,
        queries.longest,
        keys.longest,
        0.0,
        is_causal,
        no_dropout,
        unused,
        scale=scale,
    )
    return grads


def _spans(lengths: Sequence[int], device: torch.device | str) -> Spans:
    starts = list(accumulate(lengths, initial=0))
    return Spans(tensor_on(device, starts, dtype=torch.int32), max(lengths))


def _places(parts: Sequence[range], device: torch.device | str) -> Tensor:
    return tensor_on(device, [place for part in parts for place in part], dtype=torch.long)
