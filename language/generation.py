"""Sampling responses from a policy: many prompts, several responses each, ragged lengths.

V vocabulary.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM

from language.batching import STEPS_PER_CHUNK, ContinuousBatch, SampledRow, Wanted
from language.decoding import Decoder
from language.sharding import Policy
from language.static_steps import Stepping, create_stepping, create_steps

_MAX_TOLD = 64


class GenerationRequest(NamedTuple):
    """A prompt and how to answer it."""

    prompt_ids: tuple[int, ...]
    temperature: float
    """Divides the logits; 0 means greedy."""
    top_p: float
    max_new_tokens: int
    seed: int
    """With the response's number, decides every draw: the same request gives the same responses."""
    num_responses: int = 1


class GeneratedResponse(NamedTuple):
    """One sampled response. A server's lacks the log-probabilities that it does not say: empty."""

    ids: tuple[int, ...]
    """The sampled tokens, the end token included when there is one."""
    logprobs: tuple[float, ...]
    """Of the policy at the request's temperature (at 1 when greedy), not renormalised by top-p."""
    is_finished: bool
    """Whether it ended by itself; False when it was cut at `max_new_tokens`."""
    sampling_logprobs: tuple[float, ...]
    """Of exactly the distribution drawn from: tempered, cut by top-p; 0 when greedy."""
    untempered_logprobs: tuple[float, ...]
    """Of the policy at temperature 1, nothing cut."""
    weights: str = ""
    """What the weights that it was drawn from go by, where the engine was told."""


class Limits(NamedTuple):
    """What a model can be asked for."""

    vocabulary_size: int
    max_positions: int

    @classmethod
    def of(cls, model: Policy) -> "Limits":
        """Return the limits of `model`."""
        return cls(model.config.vocab_size, model.config.max_position_embeddings)


@torch.no_grad()
def generate(
    model: LlamaForCausalLM,
    requests: Sequence[GenerationRequest],
    *,
    eos_ids: Collection[int],
    rows_per_batch: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
    stepping: Stepping | None = None,
) -> list[list[GeneratedResponse]]:
    """Return each request's responses, in the order of `requests`.

    What a request gets depends on the weights, its prompt, settings and seed, not on the requests
    beside it, up to the rounding of matrix products, which depends on how many rows are computed
    together: a draw within rounding of the border between two tokens may fall to either. Prompts
    are read once for all their responses. At most `rows_per_batch` responses are sampled at a time,
    and the next begin as these end. `on_progress` is told the finished and all responses, at most
    64 times. On a GPU steps are replayed as CUDA graphs, unless `stepping`, which is for tests and
    measurements, or the environment's `CONCORD_STEPPING` says otherwise (`create_stepping`).

    Raises:
        ValueError: A request is out of bounds, or longer than the model's positions.
    """
    check_requests(requests, eos_ids, rows_per_batch, Limits.of(model))
    responses: list[list[GeneratedResponse | None]] = [
        [None] * request.num_responses for request in requests
    ]
    total = sum(request.num_responses for request in requests)
    longest = max(map(_num_positions, requests), default=1)
    num_rows = min(rows_per_batch, total)
    decoder = Decoder(model, max_positions=longest + STEPS_PER_CHUNK, num_rows=num_rows)
    is_end_V = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=model.device)
    is_end_V[sorted(eos_ids)] = True
    stepping = stepping or create_stepping(model.device)
    steps = create_steps(decoder, is_end_V, stepping, num_rows=num_rows)
    rows = ContinuousBatch(decoder, _queue(requests), steps).run(
        steps_per_look=_steps_per_look(model.device)
    )
    with closing(steps):
        for done, row in enumerate(rows, start=1):
            responses[row.wanted.prompt][row.wanted.response] = _response(row)
            if on_progress is not None and is_told(done, total):
                on_progress(done, total)
    return [[response for response in of_prompt if response] for of_prompt in responses]


def is_told(done: int, total: int) -> bool:
    """Return whether `on_progress` is called: 64 times at most, as it may write to a disk."""
    return done % math.ceil(total / _MAX_TOLD) == 0 or done == total


def _queue(requests: Sequence[GenerationRequest]) -> list[Wanted]:
    """Return all responses to sample, prompts of like length together."""
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
    return [
        Wanted(
            prompt=index,
            prompt_ids=request.prompt_ids,
            response=number,
            temperature=request.temperature,
            top_p=request.top_p,
            max_new_tokens=request.max_new_tokens,
            seed=request.seed,
        )
        for index, request in ((index, requests[index]) for index in order)
        for number in range(request.num_responses)
    ]


def _response(row: SampledRow) -> GeneratedResponse:
    tempered, sampled, untempered = (tuple(values) for values in row.logprobs)
    return GeneratedResponse(tuple(row.ids), tempered, row.is_finished, sampled, untempered)


def _steps_per_look(device: torch.device) -> int:
    """Return how many steps pass between looks for finished rows: looking waits for a GPU."""
    return 1 if device.type == "cpu" else 8


def _num_positions(request: GenerationRequest) -> int:
    return len(request.prompt_ids) + request.max_new_tokens


def check_requests(
    requests: Sequence[GenerationRequest],
    eos_ids: Collection[int],
    rows_per_batch: int,
    limits: Limits,
) -> None:
    """Raise where something cannot be asked for.

    Raises:
        ValueError: Names the request, its field and the bound.
    """
    if not eos_ids:
        raise ValueError("eos_ids: at least one end token is needed")
    for token in eos_ids:
        if not 0 <= token < limits.vocabulary_size:
            raise ValueError(
                f"eos_ids: {token} is outside the vocabulary of {limits.vocabulary_size}"
            )
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch: {rows_per_batch} must be at least 1")
    limit = limits.max_positions
    for index, request in enumerate(requests):
        if not request.prompt_ids:
            raise ValueError(f"requests[{index}].prompt_ids: must not be empty")
        if request.temperature < 0.0:
            raise ValueError(f"requests[{index}].temperature: {request.temperature} is below 0")
        if not 0.0 < request.top_p <= 1.0:
            raise ValueError(f"requests[{index}].top_p: {request.top_p} is outside (0, 1]")
        for name in ("max_new_tokens", "num_responses"):
            if getattr(request, name) < 1:
                raise ValueError(f"requests[{index}].{name}: must be at least 1")
        if _num_positions(request) > limit:
            raise ValueError(
                f"requests[{index}]: {len(request.prompt_ids)} prompt tokens and "
                f"{request.max_new_tokens} new ones exceed the model's {limit} positions"
            )
