"""Packed rows: the tokens of many rows on one line, nothing padded, a shared prompt held once.

Shapes: T tokens on the line, B rows, N tokens of all rows, M response tokens of all rows, R places
that are read, D hidden.

Rows with the same prompt branch from one copy of it: `prompt, response, response, ...`. Positions
count on from the prompt in every response, and attention (`language.packed_attention`) keeps rows
and sibling responses apart, so that what is computed for a row is what it would be by itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaModel

from language.devices import tensor_on
from language.last_layer import reads_places, use_last_layer_
from language.packed_attention import (
    ATTENTION,
    Crossing,
    GPUPlan,
    Layout,
    PackedLlamaAttention,
    Run,
)
from language.rows import TokenRow

_SHARED_TOKENS = 12
"""Shorter prompts are copied to each row: branching costs more than it saves."""


class PackedRows(NamedTuple):
    """Rows on one line of tokens, and where each of them is found again."""

    ids_T: Tensor
    positions_T: Tensor
    layout: Layout
    last_B: Tensor
    """The place of each row's last token."""
    row_N: Tensor
    """The places of every row's tokens, row after row in the order given; a shared prompt's are
    there once for each of its rows."""
    response_ids_M: Tensor
    """The response tokens, row after row in the order given."""
    before_M: Tensor
    """The place of the token before each of them: the one whose output predicts it."""


class _Line:
    """A line of tokens being written."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.segments: list[tuple[int, int]] = []
        self.crossings: list[Crossing] = []
        self.dialogues: list[int] = []
        self.branches: list[int] = []

    def append(self, ids: Sequence[int], *, position: int, branch: int) -> tuple[int, int]:
        """Write `ids` and return the places of the first one and of the one after the last."""
        start = len(self.ids)
        self.ids.extend(ids)
        self.positions.extend(range(position, position + len(ids)))
        self.branches.extend([branch] * len(ids))
        return start, len(self.ids)

    def runs(self) -> tuple[Run, ...]:
        """Return the segments, those of equal length side by side as one."""
        runs: list[Run] = []
        for start, end in self.segments:
            if runs and runs[-1].length == end - start and runs[-1].end == start:
                runs[-1] = runs[-1]._replace(num_segments=runs[-1].num_segments + 1)
            elif end > start:
                runs.append(Run(start, 1, end - start))
        return tuple(runs)


def pack_rows(rows: Sequence[TokenRow], *, device: torch.device | str = "cpu") -> PackedRows:
    """Return `rows` on one line; those with the same prompt share it.

    Raises:
        ValueError: There are no rows, or a row has no prompt.
    """
    if not rows:
        raise ValueError("rows: a batch needs at least one row")
    if not all(row.prompt_ids for row in rows):
        raise ValueError("rows: every row needs a prompt of at least one token")
    line = _Line()
    # The response's first and last place, and the place of the prompt's last token.
    places: dict[int, tuple[int, int, int]] = {}
    for number, indices in enumerate(_dialogues(rows)):
        first, *others = indices
        prompt_ids = rows[first].prompt_ids
        start, middle = line.append(prompt_ids, position=0, branch=0)
        # The first response and its prompt are one segment: plain causal attention.
        _, end = line.append(rows[first].response_ids, position=len(prompt_ids), branch=1)
        line.segments.append((start, end))
        places[first] = (middle, end, middle - 1)
        for branch, index in enumerate(others, start=2):
            segment = line.append(rows[index].response_ids, position=len(prompt_ids), branch=branch)
            line.segments.append(segment)
            places[index] = (*segment, middle - 1)
        if len(line.ids) > end:
            line.crossings.append(Crossing(end, len(line.ids), start, middle))
        line.dialogues.extend([number] * (len(line.ids) - start))
    last: list[int] = []
    every: list[int] = []
    response: list[int] = []
    before: list[int] = []
    for index, row in enumerate(rows):
        start, end, prompt_last = places[index]
        last.append(end - 1 if end > start else prompt_last)
        every.extend(range(prompt_last + 1 - len(row.prompt_ids), prompt_last + 1))
        every.extend(range(start, end))
        response.extend(row.response_ids)
        before.extend([prompt_last, *range(start, end - 1)][: end - start])
    layout = Layout(
        line.runs(),
        tuple(line.crossings),
        tensor_on(device, line.dialogues),
        tensor_on(device, line.branches),
    )
    if layout.dialogue_T.is_cuda:
        layout = layout._replace(gpu=GPUPlan(layout))
    return PackedRows(
        ids_T=tensor_on(device, line.ids),
        positions_T=tensor_on(device, line.positions),
        layout=layout,
        last_B=tensor_on(device, last),
        row_N=tensor_on(device, every),
        response_ids_M=tensor_on(device, response, dtype=torch.long),
        before_M=tensor_on(device, before, dtype=torch.long),
    )


def packed_hidden(model: LlamaModel, packed: PackedRows, read_R: Tensor | None = None) -> Tensor:
    """Return hidden_RD, the last layer's normalised output at the places `read_R` of the line.

    Without places it is hidden_TD, that of every token, which costs more. `model` is told once to
    use our attention; without a layout that is SDPA, as before.
    """
    _prepare_(model)
    assert read_R is None or reads_places(model), "cut over processes before it was prepared"
    hidden_1RD: Tensor = model(
        input_ids=packed.ids_T[None],
        position_ids=packed.positions_T[None],
        # Of four dimensions, so that no mask of T by T is built; our attention does not read it.
        attention_mask=packed.ids_T.new_ones(1, 1, 1, 1),
        use_cache=False,
        layout=packed.layout,
        read_R=read_R,
    ).last_hidden_state
    return hidden_1RD[0]


def _prepare_(model: LlamaModel) -> None:
    """Let `model` attend by a layout where it is given one; without one it computes as before."""
    if model.config._attn_implementation == ATTENTION:
        return
    model.set_attn_implementation(ATTENTION)
    use_last_layer_(model)
    for layer in model.layers:
        # The class changes, so that parameters, and what wraps or shards them, stay where they are.
        layer.self_attn.__class__ = PackedLlamaAttention


def packed_length(rows: Sequence[TokenRow]) -> int:
    """Return how many tokens `pack_rows` computes for `rows`."""
    return sum(
        sum(len(rows[index].response_ids) for index in indices) + len(rows[indices[0]].prompt_ids)
        for indices in _dialogues(rows)
    )


def split_by_tokens(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Return the indices of `lengths` in groups that add up to at most `tokens` each.

    Longest first, each into the first group with room for it. What is longer than `tokens` is a
    group of its own.

    Raises:
        ValueError: `tokens` is below one.
    """
    if tokens < 1:
        raise ValueError(f"tokens: {tokens} must be at least 1")
    groups: list[list[int]] = []
    rooms: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fitting = (g for g, room in enumerate(rooms) if room >= lengths[index])
        group = next(fitting, len(groups))
        if group == len(groups):
            groups.append([])
            rooms.append(tokens)
        groups[group].append(index)
        rooms[group] -= lengths[index]
    return groups


def _dialogues(rows: Sequence[TokenRow]) -> list[list[int]]:
    """Return the indices of `rows` by prompt, short rows first: like lengths lie side by side."""
    by_prompt: dict[tuple[int, ...] | int, list[int]] = {}
    for index, row in enumerate(rows):
        is_shared = len(row.prompt_ids) >= _SHARED_TOKENS
        by_prompt.setdefault(row.prompt_ids if is_shared else index, []).append(index)
    return sorted(by_prompt.values(), key=lambda indices: rows[indices[0]].num_tokens)
