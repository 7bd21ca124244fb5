"""Sampling responses from a policy: many prompts, several responses each, ragged lengths.

B rows being decoded, V vocabulary.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from language.caches import create_cache
from language.decoding import Decoder
from language.sampling import Settings, create_settings, draw_tokens, uniform_numbers

_FINISHED_SHARE = 0.25
"""Finished rows are dropped when they are this share of all: dropping copies the cache."""


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
    """One sampled response."""

    ids: tuple[int, ...]
    """The sampled tokens, the end token included when there is one."""
    logprobs: tuple[float, ...]
    """Of the policy at the request's temperature (at 1 when greedy), not renormalised by top-p."""
    is_finished: bool
    """Whether it ended by itself; False when it was cut at `max_new_tokens`."""


class _Row(NamedTuple):
    """One response to be sampled."""

    request: int
    response: int


@torch.no_grad()
def generate(
    model: LlamaForCausalLM,
    requests: Sequence[GenerationRequest],
    *,
    eos_ids: Collection[int],
    rows_per_batch: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[list[GeneratedResponse]]:
    """Return each request's responses, in the order of `requests`.

    What a request gets depends on the weights, its prompt, settings and seed, not on the requests
    beside it (up to the rounding of batched matrix products). Prompts are read once for all their
    responses. `on_progress` is told the finished and all responses.

    Raises:
        ValueError: A request is out of bounds, or longer than the model's positions.
    """
    _check(model, requests, eos_ids, rows_per_batch)
    responses: list[list[GeneratedResponse]] = [[] for _ in requests]
    total, done = sum(request.num_responses for request in requests), 0
    decoder = Decoder(model, max_positions=max(map(_num_positions, requests), default=1))
    is_end_V = torch.zeros(model.config.vocab_size, dtype=torch.bool, device=model.device)
    is_end_V[sorted(eos_ids)] = True
    for rows in _batches(requests, rows_per_batch):
        generated = _generate_batch(decoder, requests, rows, is_end_V)
        for row, response in zip(rows, generated, strict=True):
            responses[row.request].append(response)
        done += len(rows)
        if on_progress is not None:
            on_progress(done, total)
    return responses


def _batches(requests: Sequence[GenerationRequest], rows_per_batch: int) -> Iterator[list[_Row]]:
    """Yield rows in batches, prompts of like length together, a prompt's responses in a row."""
    order = sorted(range(len(requests)), key=lambda index: len(requests[index].prompt_ids))
    rows = [_Row(index, k) for index in order for k in range(requests[index].num_responses)]
    for start in range(0, len(rows), rows_per_batch):
        yield rows[start : start + rows_per_batch]


def _generate_batch(
    decoder: Decoder,
    requests: Sequence[GenerationRequest],
    rows: Sequence[_Row],
    is_end_V: Tensor,
) -> list[GeneratedResponse]:
    device = is_end_V.device
    lot = _start(requests, rows, device)
    numbers = list(dict.fromkeys(row.request for row in rows))
    prompts = decoder.read_prompts([requests[number].prompt_ids for number in numbers])
    place = {number: index for index, number in enumerate(numbers)}
    prompt_B = torch.tensor([place[row.request] for row in rows], device=device)
    cache = create_cache(prompts, prompt_B)
    logits_BV, position_B = prompts.logits_NV[prompt_B], prompts.lengths_N[prompt_B]
    limits = {requests[row.request].max_new_tokens for row in rows}
    tape = _Tape(len(rows), max(limits), device)
    steps_per_look = _steps_per_look(device)
    for step in range(max(limits)):
        ids_B, logprobs_B = draw_tokens(logits_BV, lot.uniforms_BRU[:, step], lot.settings)
        tape.append(ids_B, logprobs_B)
        lot.is_done_B.logical_or_(is_end_V[ids_B])
        if step + 1 in limits:
            lot.is_done_B.logical_or_(lot.limit_B <= step + 1)
        if (step + 1) % steps_per_look == 0 and step + 1 < max(limits):
            num_rows, num_done = len(lot.row_B), int(lot.is_done_B.sum())
            if num_done == num_rows:
                break
            if num_done >= _FINISHED_SHARE * num_rows:
                tape.write(lot.row_B)
                kept_M = (~lot.is_done_B).nonzero()[:, 0]
                lot, cache = lot.of_rows(kept_M), cache.keep(kept_M)
                ids_B, position_B = ids_B[kept_M], position_B[kept_M]
        if step + 1 < max(limits):
            logits_BV = decoder.step(ids_B, position_B, cache)
            position_B = position_B + 1
    tape.write(lot.row_B)
    return tape.responses(is_end_V, [requests[row.request].max_new_tokens for row in rows])


def _steps_per_look(device: torch.device) -> int:
    """Return how many steps pass between looks for finished rows: looking waits for a GPU."""
    return 1 if device.type == "cpu" else 8


class _Lot(NamedTuple):
    """The rows still being decoded."""

    row_B: Tensor
    """Their places among all rows of the batch."""
    uniforms_BRU: Tensor
    settings: Settings
    limit_B: Tensor
    is_done_B: Tensor

    def of_rows(self, rows_M: Tensor) -> "_Lot":
        """Return a lot of some of the rows."""
        return _Lot(
            self.row_B[rows_M],
            self.uniforms_BRU[rows_M],
            self.settings.of_rows(rows_M),
            self.limit_B[rows_M],
            self.is_done_B[rows_M],
        )


def _start(
    requests: Sequence[GenerationRequest], rows: Sequence[_Row], device: torch.device
) -> _Lot:
    """Return all rows of a batch, none done."""
    of_row = [requests[row.request] for row in rows]
    limits = [request.max_new_tokens for request in of_row]
    responses = [row.response for row in rows]
    numbers = uniform_numbers([request.seed for request in of_row], responses, max(limits))
    return _Lot(
        row_B=torch.arange(len(rows), device=device),
        uniforms_BRU=torch.from_numpy(numbers).to(device),
        settings=create_settings(
            [request.temperature for request in of_row],
            [request.top_p for request in of_row],
            device=device,
        ),
        limit_B=torch.tensor(limits, device=device),
        is_done_B=torch.zeros(len(rows), dtype=torch.bool, device=device),
    )


class _Tape:
    """The tokens drawn, step by step; rows leave it when they are dropped."""

    def __init__(self, num_rows: int, num_steps: int, device: torch.device) -> None:
        self._ids_BR = torch.zeros((num_rows, num_steps), dtype=torch.long, device=device)
        self._logprobs_BR = torch.zeros((num_rows, num_steps), device=device)
        self._ids: list[Tensor] = []
        self._logprobs: list[Tensor] = []
        self._num_written = 0

    def append(self, ids_B: Tensor, logprobs_B: Tensor) -> None:
        """Note one step of the rows now being decoded."""
        self._ids.append(ids_B)
        self._logprobs.append(logprobs_B)

    def write(self, row_B: Tensor) -> None:
        """Store the steps since the last call, which are those of the rows `row_B`."""
        steps = slice(self._num_written, self._num_written + len(self._ids))
        self._ids_BR[row_B, steps] = torch.stack(self._ids, dim=1)
        self._logprobs_BR[row_B, steps] = torch.stack(self._logprobs, dim=1)
        self._num_written = steps.stop
        self._ids, self._logprobs = [], []

    def responses(self, is_end_V: Tensor, limits: Sequence[int]) -> list[GeneratedResponse]:
        """Return each row up to its first end token or its limit."""
        is_end_BR = is_end_V[self._ids_BR]
        first_B = torch.where(is_end_BR.any(dim=1), is_end_BR.int().argmax(dim=1), 2**31).tolist()
        rows = zip(self._ids_BR.tolist(), self._logprobs_BR.tolist(), strict=True)
        responses = []
        for (ids, logprobs), first, limit in zip(rows, first_B, limits, strict=True):
            num = min(first + 1, limit)
            responses.append(
                GeneratedResponse(tuple(ids[:num]), tuple(logprobs[:num]), first < limit)
            )
        return responses


def _num_positions(request: GenerationRequest) -> int:
    return len(request.prompt_ids) + request.max_new_tokens


def _check(
    model: LlamaForCausalLM,
    requests: Sequence[GenerationRequest],
    eos_ids: Collection[int],
    rows_per_batch: int,
) -> None:
    if not eos_ids:
        raise ValueError("eos_ids: at least one end token is needed")
    for token in eos_ids:
        if not 0 <= token < model.config.vocab_size:
            raise ValueError(
                f"eos_ids: {token} is outside the vocabulary of {model.config.vocab_size}"
            )
    if rows_per_batch < 1:
        raise ValueError(f"rows_per_batch: {rows_per_batch} must be at least 1")
    limit = model.config.max_position_embeddings
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
