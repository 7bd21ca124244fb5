"""Live responses for annotators: everything that waits, in one batch per policy.

`language` is imported inside functions: only a worker of the sampling queue ever loads torch.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings

from annotation import services
from annotation.services import NewSample, SampleRequest, SamplingJob
from records.dialogues import Dialogue as DialogueRecord
from records.servers import LOCAL, ServerApi, server_of
from workers import dispatch
from workers.alive import worker_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from language.engines import Engine
    from language.generation import GenerationRequest

logger = logging.getLogger(__name__)

RENEW_SECONDS = 30.0
"""Time between two renewals of the leases while one batch is drawn."""
Place = tuple[int, int]
"""A response: the comparison's id, and 0 or 1."""


class _Policy(NamedTuple):
    """A loaded policy."""

    engine: "Engine"
    tokenizer: "PreTrainedTokenizerBase"
    eos_ids: tuple[int, ...]
    max_positions: int


class _Drawing(NamedTuple):
    """What one batch has brought so far."""

    samples: dict[Place, NewSample]
    errors: dict[int, str]
    """By comparison id: why a response could not be drawn."""


def sample_waiting_comparisons() -> int:
    """Draw both responses of every comparison that waits, until none waits; return how many.

    A comparison whose drawing goes wrong is handed back with the error: it is tried again, and the
    prompt stays whatever happens. What is drawn ahead has its turn when nobody waits, a few at a
    time.
    """
    dispatch.sampler_starts_looking()
    worker = worker_name()
    num_sampled = 0
    while jobs := _claim(worker):
        _sample(jobs, worker)
        num_sampled += len(jobs)
    return num_sampled


def _claim(worker: str) -> list[SamplingJob]:
    limit = max(1, settings.SAMPLING_ROWS // 2)
    jobs = services.claim_comparisons_for_sampling(limit=limit, worker=worker)
    if jobs:
        return jobs
    limit = min(limit, settings.PREFETCH_ROWS // 2)
    return services.claim_ahead_for_sampling(limit=limit, worker=worker)


def _sample(jobs: Sequence[SamplingJob], worker: str) -> None:
    drawing = _Drawing({}, {})
    by_policy: dict[Path, list[tuple[Place, SampleRequest]]] = {}
    for job in jobs:
        for index, request in enumerate(job.requests):
            place = (job.comparison_id, index)
            by_policy.setdefault(request.path, []).append((place, request))
    ids = [job.comparison_id for job in jobs]
    renew = renewing(lambda: services.beat_sampling(comparison_ids=ids, worker=worker))
    prompts = {job.comparison_id: job.prompt for job in jobs}
    for path, requests in by_policy.items():
        asked = [(prompts[comparison_id], request) for (comparison_id, _), request in requests]
        drawn = draw_or_explain(path, asked, renew)
        for (place, _), response in zip(requests, drawn, strict=True):
            if isinstance(response, str):
                drawing.errors[place[0]] = response
            else:
                drawing.samples[place] = response
    for job in jobs:
        reason = drawing.errors.get(job.comparison_id, "")
        if reason:
            services.fail_sampling(comparison_id=job.comparison_id, worker=worker, error=reason)
            continue
        pair = [drawing.samples[job.comparison_id, index] for index in (0, 1)]
        services.store_samples(comparison_id=job.comparison_id, samples=pair)


def draw_or_explain(
    path: Path,
    requests: Sequence[tuple[DialogueRecord, SampleRequest]],
    renew: Callable[[int, int], None],
) -> list[NewSample | str]:
    """Return one policy's response to each request, or in its place why there is none."""
    try:
        return _draw(path, requests, renew)
    except Exception as error:
        logger.exception("Policy %s could not answer", path)
        reason = f"{type(error).__name__}: {error}"
        return [reason for _ in requests]


def renewing(beat: Callable[[], object]) -> Callable[[int, int], None]:
    """Return a progress callback that renews leases by `beat` now and then."""
    last = time.monotonic()

    def renew(_num_done: int, _num_all: int) -> None:
        nonlocal last
        if time.monotonic() - last >= RENEW_SECONDS:
            last = time.monotonic()
            beat()

    return renew


def _draw(
    path: Path,
    requests: Sequence[tuple[DialogueRecord, SampleRequest]],
    renew: Callable[[int, int], None],
) -> list[NewSample | str]:
    from language.chat import decode_response

    policy = _load(path)
    drawn: list[NewSample | str] = [""] * len(requests)
    places: list[int] = []
    encoded: list[GenerationRequest] = []
    for index, (prompt, request) in enumerate(requests):
        try:
            encoded.append(_encode(policy, prompt, request))
        except ValueError as error:
            drawn[index] = f"{type(error).__name__}: {error}"
        else:
            places.append(index)
    responses = policy.engine.generate(
        encoded,
        eos_ids=policy.eos_ids,
        rows_per_batch=settings.SAMPLING_ROWS,
        on_progress=renew,
    )
    for index, (response,) in zip(places, responses, strict=True):
        request = requests[index][1]
        drawn[index] = NewSample(
            text=decode_response(policy.tokenizer, response.ids),
            policy=request.policy,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            num_tokens=len(response.ids),
            is_finished=response.is_finished,
        )
    return drawn


def _encode(policy: _Policy, prompt: DialogueRecord, request: SampleRequest) -> "GenerationRequest":
    """Return the request in token ids; a long dialogue loses its oldest exchanges.

    Raises:
        ValueError: Not even the last turn fits, or a turn imitates the chat format.
    """
    from language.chat import fit_prompt
    from language.generation import GenerationRequest

    room = policy.max_positions - request.max_new_tokens
    prompt_ids = fit_prompt(policy.tokenizer, prompt, room)
    if prompt_ids is None:
        raise ValueError(f"the prompt does not fit into {room} tokens; write a shorter one")
    return GenerationRequest(
        prompt_ids=tuple(prompt_ids),
        temperature=request.temperature,
        top_p=request.top_p,
        max_new_tokens=request.max_new_tokens,
        seed=request.seed,
    )


@lru_cache(maxsize=settings.SAMPLING_POLICIES)
def _load(path: Path) -> _Policy:
    """Return the policy at `path`; artifacts never change, so the path says which weights.

    Where one of `SAMPLING_SERVERS` is entered as holding it, that server answers for it, and has
    proved that it does; its weights are not kept here.
    """
    import torch

    from language.engines import open_engine
    from language.models import load_policy, resolve_device, resolve_dtype
    from language.tokenizers import eos_id_of, load_tokenizer

    if settings.SAMPLING_THREADS:
        torch.set_num_threads(settings.SAMPLING_THREADS)
    dtype, device = resolve_dtype(settings.SAMPLING_DTYPE), resolve_device("auto")
    model = load_policy(path, dtype=dtype, device=device)
    tokenizer = load_tokenizer(path)
    engine = open_engine(
        _engine_name(path),
        model,
        tokenizer,
        version=path.name,
        path=path,
        field="CONCORD_SAMPLING_SERVERS",
    )
    max_positions = model.config.max_position_embeddings
    return _Policy(engine, tokenizer, (eos_id_of(tokenizer),), max_positions)


def _engine_name(path: Path) -> str:
    """Return the first of `SAMPLING_SERVERS` whose entry says that it holds the policy at `path`.

    Its `model` is the policy's digest, the name of its folder, or the folder; an entry without one
    is a server that loads any folder.

    Raises:
        RecordError: A name in the setting is no server's.
    """
    for name in settings.SAMPLING_SERVERS:
        config = server_of("CONCORD_SAMPLING_SERVERS", name, os.environ)
        if config.model in {path.name, str(path)} or (
            not config.model and config.api is ServerApi.TRANSFORMERS
        ):
            return name
    return LOCAL
