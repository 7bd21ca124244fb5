"""Attention over packed rows, as a function that Hugging Face's Llama layers call.

Shapes: T tokens on the line, H heads, E head size. The layers give tensors of (1, H, T, E).

On a CPU, fused causal attention runs over each segment by itself, without masks or padding, and
responses that branch from a prompt attend to it in one more call; the two parts are merged by
their normalisers, and one backward pass serves both, as in ring attention (arXiv:2310.01889).
Queries and keys are turned by their positions on the way, in two passes over memory where the
layers take five and their gradients eight. A GPU does the same with flash attention
(`language.flash_attention`), which takes half precision alone; in float32, FlexAttention takes the
rule as a block mask.
"""

from collections.abc import Callable
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama.modeling_llama import LlamaAttention

from language.flash_attention import (
    DTYPES,
    MAX_HEAD_SIZE,
    FlashPlan,
    attend_by_flash,
    create_plan,
)
from language.rotary import turned

ATTENTION = "concord_packed"
"""The name under which transformers knows this attention."""
_BLOCK = 128
"""FlexAttention's blocks."""
_COARSE = 1024
"""Lines are padded to multiples of this for FlexAttention, which compiles for each length."""


class Run(NamedTuple):
    """Segments of equal length side by side; each attends to itself, causally."""

    start: int
    num_segments: int
    length: int

    @property
    def end(self) -> int:
        """The place after the last token."""
        return self.start + self.num_segments * self.length


class Crossing(NamedTuple):
    """Responses that branch from a prompt: tokens [start, end) see all of [key_start, key_end)."""

    start: int
    end: int
    key_start: int
    key_end: int


class Layout(NamedTuple):
    """Who sees whom on a line of tokens. Every token lies in exactly one run."""

    runs: tuple[Run, ...]
    crossings: tuple[Crossing, ...]
    dialogue_T: Tensor
    """Number of each token's dialogue."""
    branch_T: Tensor
    """0 on a prompt; from 1 on, the number of the response within its dialogue."""
    block_mask: BlockMask | None = None
    """The same rule as FlexAttention reads it, where that is to attend."""
    gpu: "GPUPlan | None" = None
    """The same rule as a GPU's kernels read it, where there is one."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """Return where tokens at `query` see tokens at `key`: earlier ones of prompt and row."""
        is_same_dialogue = self.dialogue_T[query] == self.dialogue_T[key]
        is_own = (self.branch_T[key] == 0) | (self.branch_T[query] == self.branch_T[key])
        return is_same_dialogue & is_own & (query >= key)


class GPUPlan:
    """A layout as a GPU's kernels read it: flash attention's plan, and blocks where it can't be."""

    def __init__(self, layout: Layout) -> None:
        segments = chain.from_iterable(
            ((start, start + run.length) for start in range(run.start, run.end, run.length))
            for run in layout.runs
        )
        device = layout.dialogue_T.device
        self.flash: FlashPlan = create_plan(list(segments), layout.crossings, device)
        self._layout = layout
        self._in_blocks: Layout | None = None

    @property
    def in_blocks(self) -> Layout:
        """The layout with its block mask, which is large, and made when it is first asked for."""
        if self._in_blocks is None:
            self._in_blocks = with_block_mask(self._layout)
        return self._in_blocks


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    layout: Layout | None = None,
    **kwargs: Any,  # noqa: ANN401 - transformers passes what its layers were given
) -> tuple[Tensor, Tensor | None]:
    """Return attention's output (1, T, H, E) by `layout`; without one, that of SDPA."""
    if layout is None:
        output: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return output
    assert not kwargs.get("dropout"), "packed attention has no dropout; see disable_dropout_"
    copies = query.shape[1] // key.shape[1]
    if copies > 1:
        key, value = key.repeat_interleave(copies, 1), value.repeat_interleave(copies, 1)
    assert layout.block_mask is not None, "on a CPU a model needs PackedLlamaAttention"
    heads = attend_by_blocks(query, key, value, layout.block_mask, scaling)
    return heads.transpose(1, 2), None


class PackedLlamaAttention(LlamaAttention):
    """Llama's attention; it turns packed rows by their positions as it attends to them.

    Without a layout, and where FlexAttention attends, it is what it was.
    """

    def forward(  # type: ignore[override] # the weights that transformers' own leaves None
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,  # noqa: ANN401 - transformers' cache
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor | None]:
        """Return attention's output (1, T, D) for hidden_states (1, T, D).

        Where `taken_R` is among `kwargs`, (1, R, D): the output at these places alone.
        """
        layout: Layout | None = kwargs.get("layout")
        taken_R: Tensor | None = kwargs.pop("taken_R", None)
        gpu = None if layout is None else layout.gpu
        if gpu is not None and not takes_flash(hidden_states.dtype, self.head_dim):
            layout = kwargs["layout"] = gpu.in_blocks
        if layout is None or layout.block_mask is not None:
            output, weights = super().forward(
                hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs
            )
            return output if taken_R is None else output[:, taken_R], weights
        assert position_embeddings is not None, "a Llama's layers are given their positions"
        assert not (self.training and self.attention_dropout), "see disable_dropout_"
        query, key, value = (
            project(hidden_states).unflatten(-1, (-1, self.head_dim))
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        copies = self.num_key_value_groups
        if copies > 1:
            key, value = key.repeat_interleave(copies, 2), value.repeat_interleave(copies, 2)
        if gpu is not None:
            parts = (query[0], key[0], value[0])
            heads = attend_by_flash(*parts, gpu.flash, self.scaling, position_embeddings)[None]
        else:
            parts = (query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
            heads = attend_by_segments(*parts, layout, self.scaling, position_embeddings)
            heads = heads.transpose(1, 2)
        if taken_R is not None:
            heads = heads[:, taken_R]
        return self.o_proj(heads.flatten(2)), None


def takes_flash(dtype: torch.dtype, head_size: int) -> bool:
    """Return whether a GPU's flash attention computes in `dtype` with heads of `head_size`."""
    return dtype in DTYPES and head_size <= MAX_HEAD_SIZE and head_size % 8 == 0


def attend_by_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scaling: float,
    rotation: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return attention's output (1, H, T, E) from fused calls per run and crossing; CPU only.

    `rotation` is (cos_1TE, sin_1TE), by which queries and keys are turned first.
    """
    apply: Callable[..., Tensor] = _SegmentAttention.apply
    return apply(query, key, value, layout, scaling, rotation)


def attend_by_blocks(
    query: Tensor, key: Tensor, value: Tensor, block_mask: BlockMask, scaling: float
) -> Tensor:
    """Return attention's output (1, H, T, E) from FlexAttention, compiled on a GPU."""
    attend: Callable[..., Tensor] = flex_attention
    if query.is_cuda:
        attend = _compiled_flex_attention()
    num_tokens = query.shape[2]
    padding = (0, 0, 0, block_mask.seq_lengths[0] - num_tokens)
    query, key, value = (F.pad(tensor, padding) for tensor in (query, key, value))
    return attend(query, key, value, block_mask=block_mask, scale=scaling)[:, :, :num_tokens]


def with_block_mask(layout: Layout) -> Layout:
    """Return `layout` with its rule in blocks, built once for all layers.

    The mask is of a line padded by tokens that see each other alone: lengths that FlexAttention has
    not met it compiles for.
    """
    num_tokens = len(layout.dialogue_T)
    multiple = _COARSE if num_tokens > _COARSE else _BLOCK
    padding = (0, -num_tokens % multiple)
    dialogue_T = F.pad(layout.dialogue_T, padding, value=-1)
    padded = Layout((), (), dialogue_T, F.pad(layout.branch_T, padding))

    def rule(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return padded.allows(query, key)

    length = len(dialogue_T)
    block_mask = create_block_mask(rule, None, None, length, length, device=dialogue_T.device)
    return layout._replace(block_mask=block_mask)


class _SegmentAttention(torch.autograd.Function):
    """Fused attention over the segments of a layout, in float32 whatever the inputs' type.

    bfloat16 would be slower here: the CPU's kernel converts block by block.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's, which takes any attribute
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        scaling: float,
        rotation: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        """Write each run's output, then merge what each crossing adds to it."""
        q, k, v = query.float(), key.float(), value.float()
        if rotation is not None:
            q, k = _turned(q, rotation), _turned(k, rotation)
        _, num_heads, num_tokens, size = q.shape
        output = q.new_empty(1, num_tokens, num_heads, size).transpose(1, 2)
        normaliser = q.new_empty(1, num_heads, num_tokens)
        forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        for run in layout.runs:
            own, own_normaliser = forward(
                *(_run_of(tensor, run) for tensor in (q, k, v)), 0.0, True, scale=scaling
            )
            _run_of(output, run).copy_(own)
            _run_of(normaliser, run).copy_(own_normaliser)
        for start, end, key_start, key_end in layout.crossings:
            prompt, prompt_normaliser = forward(
                q[:, :, start:end],
                k[:, :, key_start:key_end],
                v[:, :, key_start:key_end],
                0.0,
                False,
                scale=scaling,
            )
            own_normaliser = normaliser[:, :, start:end]
            share = torch.sigmoid(prompt_normaliser - own_normaliser)
            output[:, :, start:end].lerp_(prompt, share[..., None])
            own_normaliser.copy_(torch.logaddexp(own_normaliser, prompt_normaliser))
        ctx.save_for_backward(q, k, value, output, normaliser, *(rotation or ()))
        ctx.layout, ctx.scaling = layout, scaling
        return output.to(query.dtype)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Each part's gradient follows from the merged output and normaliser alone."""
        q, k, value, output, normaliser, *rotation = ctx.saved_tensors
        gradient, v = gradients[0].float(), value.float()
        grads = [torch.empty_like(tensor) for tensor in (q, k, v)]
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        for run in ctx.layout.runs:
            parts = backward(
                *(_run_of(t, run) for t in (gradient, q, k, v, output, normaliser)),
                0.0,
                True,
                scale=ctx.scaling,
            )
            for grad, part in zip(grads, parts, strict=True):
                _run_of(grad, run).copy_(part)
        for start, end, key_start, key_end in ctx.layout.crossings:
            parts = backward(
                gradient[:, :, start:end],
                q[:, :, start:end],
                k[:, :, key_start:key_end],
                v[:, :, key_start:key_end],
                output[:, :, start:end],
                normaliser[:, :, start:end],
                0.0,
                False,
                scale=ctx.scaling,
            )
            grads[0][:, :, start:end].add_(parts[0])
            for grad, part in zip(grads[1:], parts[1:], strict=True):
                grad[:, :, key_start:key_end].add_(part)
        if rotation:
            cos, sin = rotation
            grads[:2] = [_turned(grad, (cos, -sin)) for grad in grads[:2]]
        return (*(grad.to(value.dtype) for grad in grads), None, None, None)


def _turned(tensor: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Return (1, H, T, E) turned by (cos, sin) of (1, T, E)."""
    cos, sin = (part.float()[:, None] for part in rotation)
    return turned(tensor, cos, sin)


def _run_of(tensor: Tensor, run: Run) -> Tensor:
    """Return a run's part of (1, H, T, ...) as (segments, H, length, ...), without copying."""
    part: Tensor = tensor[0, :, run.start : run.end].unflatten(1, (run.num_segments, run.length))
    return part.transpose(0, 1)


@cache
def _compiled_flex_attention() -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, dynamic=True)
    return compiled


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
