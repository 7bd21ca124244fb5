"""Ways to attend over packed pairs: tokens per CPU second of one layer's attention, with backward.

Ours takes fused causal attention segment by segment. The peer is the best of the others: SDPA with
a mask over the whole line, SDPA with a mask for each dialogue, nested passes (prompts first, then
each response against the keys of its prompt and its own), products that keep the probabilities,
and SDPA over padded rows whose prompts are not shared.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.calibration import calibrate, fastest_seconds
from benchmarks.frame import Result
from benchmarks.texts import SHAPES, load_pairs
from language.packed_attention import Layout, attend_by_segments
from language.packing import pack_rows
from language.rows import TokenRow

NUM_PAIRS = 8
_CHARACTERS_PER_TOKEN = 4


def run() -> Iterator[Result]:
    """Yield a result for each size and type."""
    torch.set_num_threads(1)
    rows = _rows()
    layout = pack_rows(rows).layout
    num_tokens = len(layout.dialogue_T)
    for size, (shape, _) in SHAPES.items():
        heads = (shape.num_heads, shape.hidden_size // shape.num_heads)
        for dtype in (torch.float32, torch.bfloat16):
            before = calibrate()
            rates = {
                name: round(num_tokens / fastest_seconds(work, 3), 1)
                for name, work in _ways(rows, layout, heads, dtype).items()
            }
            best = max((n for n in rates if n != "segments"), key=lambda name: rates[name])
            yield Result(
                name="packed_attention",
                unit="packed tokens per CPU second, one layer, forward and backward",
                ours=rates["segments"],
                peer=rates[best],
                peer_version=f"torch {torch.__version__}, {best}",
                floor_share=None,
                calibration={"before": before, "after": calibrate()},
                details={
                    "model": size,
                    "dtype": str(dtype).removeprefix("torch."),
                    "tokens": num_tokens,
                    "rates": rates,
                },
            )


def _rows() -> list[TokenRow]:
    """Return rows as long as real ones; their ids do not matter, but tell dialogues apart."""
    rows = []
    for number, preference in enumerate(load_pairs(NUM_PAIRS).preferences):
        num_characters = sum(len(turn.text) for turn in preference.prompt.turns)
        prompt_ids = (number, *range(num_characters // _CHARACTERS_PER_TOKEN + 1))
        for text in (preference.chosen, preference.rejected):
            rows.append(TokenRow(prompt_ids, (*range(len(text) // _CHARACTERS_PER_TOKEN + 1),)))
    return rows


def _ways(
    rows: list[TokenRow], layout: Layout, heads: tuple[int, int], dtype: torch.dtype
) -> dict[str, Callable[[], None]]:
    num_tokens, scale = len(layout.dialogue_T), heads[1] ** -0.5
    places = torch.arange(num_tokens)
    allowed = layout.allows(places[:, None], places)
    starts = (layout.dialogue_T.diff() != 0).nonzero().flatten() + 1
    bounds = [0, *starts.tolist(), num_tokens]
    blocks = [(start, end, allowed[start:end, start:end]) for start, end in pairwise(bounds)]
    line = _inputs(1, num_tokens, heads, dtype)
    padded = _inputs(len(rows), max(row.num_tokens for row in rows), heads, dtype)

    def by_dialogue(*inputs: Tensor) -> Tensor:
        sizes = [end - start for start, end, _ in blocks]
        parts = zip(*(tensor.split(sizes, dim=2) for tensor in inputs), strict=True)
        masked = zip(parts, blocks, strict=True)
        attend = F.scaled_dot_product_attention
        outputs = [attend(q, k, v, attn_mask=mask) for (q, k, v), (_, _, mask) in masked]
        return torch.cat(outputs, dim=2)

    def by_products(*inputs: Tensor) -> Tensor:
        outputs = []
        for start, end, allowed in blocks:
            query, key, value = (tensor[:, :, start:end] for tensor in inputs)
            scores = (query @ key.transpose(2, 3) * scale).masked_fill(~allowed, -torch.inf)
            outputs.append(scores.softmax(dim=-1) @ value)
        return torch.cat(outputs, dim=2)

    branches = _branches(layout)

    def nested(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        outputs = []
        for start, end, prompt_start, prompt_end in branches:
            own = slice(start, end)
            if prompt_start == prompt_end:
                parts = (query[:, :, own], key[:, :, own], value[:, :, own])
                outputs.append(F.scaled_dot_product_attention(*parts, is_causal=True))
                continue
            seen = [*range(prompt_start, prompt_end), *range(start, end)]
            parts = (query[:, :, own], key[:, :, seen], value[:, :, seen])
            mask = allowed[start:end, seen]
            outputs.append(F.scaled_dot_product_attention(*parts, attn_mask=mask))
        return torch.cat(outputs, dim=2)

    return {
        "segments": partial(
            _work, lambda q, k, v: attend_by_segments(q, k, v, layout, scale), line
        ),
        "mask over the line": partial(
            _work, partial(F.scaled_dot_product_attention, attn_mask=allowed), line
        ),
        "mask per dialogue": partial(_work, by_dialogue, line),
        "nested passes": partial(_work, nested, line),
        "products per dialogue": partial(_work, by_products, line),
        "padded rows": partial(
            _work, partial(F.scaled_dot_product_attention, is_causal=True), padded
        ),
    }


def _branches(layout: Layout) -> list[tuple[int, int, int, int]]:
    """Return each segment's first token and end, and those of its prompt (nothing, for prompts)."""
    kinds = torch.stack([layout.dialogue_T, layout.branch_T])
    changes = (kinds.diff() != 0).any(dim=0).nonzero().flatten() + 1
    bounds = [0, *changes.tolist(), kinds.shape[1]]
    prompts: dict[int, tuple[int, int]] = {}
    branches = []
    for start, end in pairwise(bounds):
        dialogue, branch = kinds[:, start].tolist()
        if branch == 0:
            prompts[dialogue] = (start, end)
        branches.append((start, end, *(prompts[dialogue] if branch else (0, 0))))
    return branches


def _inputs(rows: int, length: int, heads: tuple[int, int], dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.randn(rows, length, *heads, dtype=dtype).transpose(1, 2).requires_grad_()
        for _ in range(3)
    ]


def _work(attend: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    output = attend(*inputs)
    torch.autograd.grad(output, inputs, torch.ones_like(output))
