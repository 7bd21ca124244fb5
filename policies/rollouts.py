"""Rollouts: one response per prompt from the policy as it stands, and what models say of them.

Shapes: B rows, T tokens in a row. All tensors of a rollout have the same rows and columns: column
t of a row speaks of its token t.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from language.generation import GenerationRequest, generate
from language.logprobs import response_logprobs, response_statistics
from language.packing import split_by_tokens
from language.rows import RowBatch, TokenRow, pad_rows
from language.scalars import token_scalars
from policies.advantages import state_values
from policies.encoding import EncodedPrompt
from policies.statistics import Moments, standardised
from records.configs import SamplingConfig


class Rollout(NamedTuple):
    """Responses of one policy to prompts, one row each."""

    rows: list[TokenRow]
    batch: RowBatch
    is_safety: list[bool]
    is_finished_B: Tensor
    """Whether the response ended by itself."""
    sampler_logprobs_BT: Tensor
    """What the sampler took for the tokens' log-probabilities; only ever compared."""


class PolicyView(NamedTuple):
    """A policy's own view of a rollout's tokens; 0 outside the response."""

    logprobs_BT: Tensor
    entropies_BT: Tensor


def sample_rollout(
    policy: LlamaForCausalLM,
    prompts: Sequence[EncodedPrompt],
    seeds: Sequence[int],
    *,
    sampling: SamplingConfig,
    eos_id: int,
    pad_id: int,
    rows_per_batch: int,
) -> Rollout:
    """Return one sampled response to each prompt; the ids are those sampled, never re-encoded."""
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
    generated = generate(policy, requests, eos_ids=[eos_id], rows_per_batch=rows_per_batch)
    responses = [first for (first,) in generated]
    rows = [TokenRow(p.ids, r.ids) for p, r in zip(prompts, responses, strict=True)]
    batch = pad_rows(rows, pad_id=pad_id, device=policy.device)
    flat_logprobs = torch.tensor([value for r in responses for value in r.logprobs])
    zeros_BT = torch.zeros(batch.ids_BT.shape, device=policy.device)
    return Rollout(
        rows=rows,
        batch=batch,
        is_safety=[prompt.prompt.is_safety for prompt in prompts],
        is_finished_B=torch.tensor([response.is_finished for response in responses]),
        sampler_logprobs_BT=zeros_BT.masked_scatter(
            batch.response_mask_BT, flat_logprobs.to(policy.device)
        ),
    )


def select_rows(batch: RowBatch, indices: Sequence[int]) -> RowBatch:
    """Return some rows of `batch`, cut to the longest of them."""
    width = int(batch.attention_mask_BT[list(indices)].sum(dim=1).max())
    ids_BT, attention_mask_BT, response_mask_BT = (part[list(indices), :width] for part in batch)
    return RowBatch(ids_BT, attention_mask_BT, response_mask_BT)


@torch.no_grad()
def view_of(
    policy: LlamaForCausalLM, rollout: Rollout, *, temperature: float, tokens: int
) -> PolicyView:
    """Return log-probabilities and entropies under `policy`, at the temperature of sampling."""

    def compute(batch: RowBatch) -> Tensor:
        return torch.stack(response_statistics(policy, batch, temperature=temperature))

    return PolicyView(*_by_groups(compute, rollout, tokens=tokens, num_channels=2))


@torch.no_grad()
def logprobs_of(
    policy: LlamaForCausalLM, rollout: Rollout, *, temperature: float, tokens: int
) -> Tensor:
    """Return logprobs_BT under `policy`, at the temperature of sampling; 0 outside responses."""

    def compute(batch: RowBatch) -> Tensor:
        return response_logprobs(policy, batch, temperature=temperature)[None]

    return _by_groups(compute, rollout, tokens=tokens, num_channels=1)[0]


@torch.no_grad()
def values_of(
    value_model: LlamaForSequenceClassification, rollout: Rollout, *, units: Moments, tokens: int
) -> Tensor:
    """Return values_BT: at each response token the value of the state before it; else 0."""

    def compute(batch: RowBatch) -> Tensor:
        return response_values(value_model, batch, units=units)[None]

    return _by_groups(compute, rollout, tokens=tokens, num_channels=1)[0]


def response_values(
    value_model: LlamaForSequenceClassification, batch: RowBatch, *, units: Moments
) -> Tensor:
    """Return values_BT of one batch, with gradient: state values at response tokens, else 0.

    The model speaks in raw scores, being a reward model at first; rewards are whitened. `units`
    (mean and variance of the scores before training) takes the one to the other.
    """
    scalars_BT = token_scalars(value_model, batch.ids_BT, batch.attention_mask_BT)
    return state_values(standardised(scalars_BT, units), batch.response_mask_BT)


def _by_groups(
    compute: Callable[[RowBatch], Tensor], rollout: Rollout, *, tokens: int, num_channels: int
) -> Tensor:
    """Return `compute` of the whole rollout, at most `tokens` at a time."""
    shape = (num_channels, *rollout.batch.ids_BT.shape)
    result_CBT_ = torch.zeros(shape, device=rollout.batch.ids_BT.device)
    lengths = [row.num_tokens for row in rollout.rows]
    for indices in split_by_tokens(lengths, tokens=tokens):
        values_CBT = compute(select_rows(rollout.batch, indices))
        result_CBT_[:, indices, : values_CBT.shape[2]] = values_CBT
    return result_CBT_
