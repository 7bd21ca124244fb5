"""Rollouts: one response per prompt from the policy as it stands, and its tokens in two layouts.

Shapes: B rows, R tokens of the longest response, M response tokens of all rows. Models speak of the
M tokens, row after row; what follows time along a response (advantages) is a grid of B by R.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from language.devices import tensor_on
from language.distributed import world
from language.engines import Engine
from language.generation import GenerationRequest
from language.packing import PackedRows, pack_rows
from language.rows import TokenRow
from language.training import micro_batches
from policies.encoding import EncodedPrompt
from records.run_configs import SamplingConfig


class Rollout(NamedTuple):
    """Responses of one policy to prompts, one row each; all of them in every process."""

    rows: list[TokenRow]
    is_safety: list[bool]
    is_finished_B: Tensor
    """Whether the response ended by itself."""
    sampler_logprobs_M: Tensor
    """What the sampler took for the tokens' log-probabilities; only ever compared."""
    response_mask_BR: Tensor
    """True on real tokens. Built from lengths: the padding id may well be the end token."""
    place_M: Tensor
    """Where each token lies in the grid, read row after row."""

    def grid(self, values_M: Tensor) -> Tensor:
        """Return values_BR of `values_M`; 0 after a response."""
        rows, columns = self.response_mask_BR.shape
        flat = values_M.new_zeros(rows * columns).index_copy(0, self.place_M, values_M)
        return flat.view(rows, columns)

    def flat(self, values_BR: Tensor) -> Tensor:
        """Return values_M of `values_BR`."""
        return values_BR.flatten().index_select(0, self.place_M)


class Group(NamedTuple):
    """Some rows of a rollout, packed for one forward pass, and where their tokens are."""

    packed: PackedRows
    token_M: Tensor
    """The place of each of their response tokens among those of the rollout."""
    row_B: Tensor
    """Their numbers."""
    is_own: bool = True
    """Whether this process answers for them. Else they are computed, for nothing, as the others
    have one more group: a model that is cut over the processes computes in all of them."""


def sample_rollout(
    engine: Engine,
    prompts: Sequence[EncodedPrompt],
    seeds: Sequence[int],
    *,
    sampling: SamplingConfig,
    eos_id: int,
    rows_per_batch: int,
    device: torch.device,
) -> Rollout:
    """Return one sampled response to each prompt; the ids are those sampled, never re-encoded.

    Raises:
        ValueError: The engine does not say the tokens' log-probabilities at this temperature.
    """
    requests = [
        GenerationRequest(
            prompt_ids=prompt.ids,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            seed=seed,
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    generated = engine.generate(requests, eos_ids=[eos_id], rows_per_batch=rows_per_batch)
    responses = [first for (first,) in generated]
    if not all(response.logprobs for response in responses):
        raise ValueError(
            "engine: it does not say the log-probabilities of its tokens at temperature "
            f"{sampling.temperature}, nothing cut; start vLLM with `--logprobs-mode "
            f"processed_logprobs` and sample with a top_p of 1, not {sampling.top_p}"
        )
    return create_rollout(
        [TokenRow(p.ids, r.ids) for p, r in zip(prompts, responses, strict=True)],
        is_safety=[prompt.prompt.is_safety for prompt in prompts],
        is_finished=[response.is_finished for response in responses],
        sampler_logprobs=[value for response in responses for value in response.logprobs],
        device=device,
    )


def create_rollout(
    rows: list[TokenRow],
    *,
    is_safety: list[bool],
    is_finished: Sequence[bool],
    sampler_logprobs: Sequence[float],
    device: torch.device,
) -> Rollout:
    """Return the rollout of `rows`, its layouts worked out from their lengths."""
    lengths = [len(row.response_ids) for row in rows]
    width = max(lengths)
    places = [b * width + r for b, length in enumerate(lengths) for r in range(length)]
    mask_BR = torch.arange(width) < torch.tensor(lengths)[:, None]
    return Rollout(
        rows=rows,
        is_safety=is_safety,
        is_finished_B=torch.tensor(is_finished),
        sampler_logprobs_M=tensor_on(device, sampler_logprobs),
        response_mask_BR=mask_BR.to(device),
        place_M=tensor_on(device, places),
    )


def groups_of(
    rollout: Rollout, indices: Sequence[int] | None = None, *, tokens: int
) -> list[Group]:
    """Return the rows of `indices` (all without any) in groups of at most `tokens` tokens.

    Of several processes each is given its share, and as many groups as the others.
    """
    rows, device = rollout.rows, rollout.place_M.device
    chosen = range(len(rows)) if indices is None else indices
    # Sorted by length before they are dealt out, so that every process gets as much to do.
    ordered = sorted(chosen, key=lambda i: -rows[i].num_tokens)
    starts = list(accumulate((len(row.response_ids) for row in rows), initial=0))
    rank, world_size = world()
    groups = []
    for group in micro_batches(
        [rows[i].num_tokens for i in ordered], tokens=tokens, rank=rank, world_size=world_size
    ):
        numbers = [ordered[place] for place in group] or ordered[-1:]
        places = [t for i in numbers for t in range(starts[i], starts[i + 1])]
        groups.append(
            Group(
                packed=pack_rows([rows[i] for i in numbers], device=device),
                token_M=tensor_on(device, places),
                row_B=tensor_on(device, numbers),
                is_own=bool(group),
            )
        )
    return groups
