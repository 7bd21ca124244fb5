"""Requests of many kinds, and how far responses are from the model's own forward pass."""

import random

import torch
from transformers import LlamaForCausalLM

from language.generation import GeneratedResponse, GenerationRequest
from language.logprobs import response_logprobs
from language.rows import TokenRow, pad_rows

EOS = 2
ENDS = [EOS, *range(10, 34)]
"""Many end tokens: a random model seldom says one of few."""


def request(*prompt: int, **changes: float) -> GenerationRequest:
    """Return a request with defaults of a test."""
    default = GenerationRequest(prompt, 1.0, 1.0, 16, seed=1)
    return default._replace(**changes)  # type: ignore[arg-type] - numbers of either kind


def ragged_requests(num: int = 12) -> list[GenerationRequest]:
    """Return requests of differing lengths, settings and numbers of responses."""
    rng = random.Random(3)
    return [
        request(
            *(1, *(rng.randrange(4, 384) for _ in range(rng.randrange(1, 30)))),
            temperature=(1.0, 0.7, 0.0, 1.3)[index % 4],
            top_p=(1.0, 0.9, 0.4)[index % 3],
            max_new_tokens=(20, 33, 7)[index % 3],
            seed=index,
            num_responses=(1, 4, 8)[index % 3],
        )
        for index in range(num)
    ]


def largest_error(
    model: LlamaForCausalLM,
    requests: list[GenerationRequest],
    responses: list[list[GeneratedResponse]],
) -> float:
    """Return the largest difference between sampled log-probabilities and a full forward pass."""
    errors = []
    for asked, given in zip(requests, responses, strict=True):
        rows = [TokenRow(asked.prompt_ids, response.ids) for response in given]
        batch = pad_rows(rows, pad_id=EOS)
        with torch.no_grad():
            logprobs_BT = response_logprobs(model, batch, temperature=asked.temperature or 1.0)
        for index, response in enumerate(given):
            expected = logprobs_BT[index][batch.response_mask_BT[index]]
            errors.append((expected - torch.tensor(response.logprobs)).abs().max().item())
    return max(errors)
