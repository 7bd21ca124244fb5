"""Best of K at 7B: tokens per second against transformers' two engines, with ragged ends."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, LlamaForCausalLM

from benchmarks.best_of_k import end_often_
from benchmarks.seven_b.machine import Machine, Rates, time_limit
from benchmarks.seven_b.work import EOS_ID, Shape, Size, draw_prompts, random_policy
from language.generation import GenerationRequest, generate
from language.static_steps import Stepping, create_stepping

_PEER_SECONDS = 30.0
"""Of each of a peer's two calls."""
_MAX_PROMPT = 512


def best_of_k(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line for each K and engine; the engine that may hang comes last."""
    model, prompts = _model_and_prompts(machine, size)
    ours: dict[int, float] = {}
    for line in _ours(machine, size, model, prompts):
        # The last way of stepping is the one that a call takes by itself on a GPU.
        ours[line["responses"]] = line["tokens_per_second"]
        yield line
    try:
        yield from _peers(machine, model, prompts, size, ours)
    finally:
        # Its thread and cache would outlive the stage.
        if hasattr(model, "destroy_cached_continuous_batching_manager"):
            model.destroy_cached_continuous_batching_manager()


def decode_graphs(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield a line for each K and way of stepping, without peers: a minute at 7B."""
    yield from _ours(machine, size, *_model_and_prompts(machine, size))


def _model_and_prompts(
    machine: Machine, size: Size
) -> tuple[LlamaForCausalLM, list[tuple[int, ...]]]:
    model = random_policy(size.shape, machine.device, torch.bfloat16)
    end_often_(model, EOS_ID, size.mean_new_tokens)
    return model, [ids[:_MAX_PROMPT] for ids in draw_prompts(size.prompts, size.shape)]


def _ours(
    machine: Machine, size: Size, model: LlamaForCausalLM, prompts: Sequence[tuple[int, ...]]
) -> Iterator[dict[str, Any]]:
    """Yield our figures for each K, with plain steps and with graphs; captures count as time."""
    rates, prompt_lengths = machine.rates(size.calibration), [len(ids) for ids in prompts]
    for num_responses in size.responses:
        for name in ("plain", "graphs" if machine.is_gpu else "static"):
            # Twice, as the peers below: the first call pays for kernels that are not loaded yet.
            limit = size.new_tokens
            sample_ours(model, prompts, num_responses, limit, create_stepping(machine.device, name))
            stepping = create_stepping(machine.device, name)
            seconds, lengths = _timed(
                machine, partial(sample_ours, model, prompts, num_responses, limit, stepping)
            )
            floor = decode_floor(size.shape, rates, prompt_lengths, lengths, num_responses)
            yield {
                "engine": "ours",
                "stepping": name,
                "responses": num_responses,
                **_figures(lengths, seconds, max(lengths)),
                **_capture_figures(stepping, seconds, max(lengths)),
                "floor_seconds": round(floor, 4),
                "floor_milliseconds_per_step": round(1e3 * floor / max(lengths), 2),
                "floor_share": round(floor / seconds, 3),
                "floor": "prompts once at the bfloat16 rate; each step the larger of products at "
                "that rate and bytes of weights, prompts' and own keys and values at the copy's",
                "peak_gigabytes": machine.peak_gigabytes(),
            }


def _capture_figures(stepping: Stepping, seconds: float, num_steps: int) -> dict[str, Any]:
    """Return what capturing cost, and a step without it; nothing where nothing is captured."""
    if stepping.graphs is None:
        return {}
    captures = stepping.graphs.captures
    return {
        "captures": captures.num,
        "capture_seconds": round(captures.seconds, 3),
        "is_off": stepping.graphs.is_off,
        "milliseconds_per_step_without_captures": round(
            1e3 * (seconds - captures.seconds) / num_steps, 2
        ),
    }


def _peers(
    machine: Machine,
    model: LlamaForCausalLM,
    prompts: Sequence[tuple[int, ...]],
    size: Size,
    ours: dict[int, float],
) -> Iterator[dict[str, Any]]:
    # Continuous batching takes all the memory there is, which on a CPU is everybody's.
    for engine in (_generate, _generate_batch) if machine.is_gpu else (_generate,):
        for num_responses in size.responses if engine is _generate else size.responses[-1:]:
            line = {"engine": engine.__name__.lstrip("_"), "responses": num_responses}
            yield {**line, **_peer(machine, engine, model, prompts, num_responses, size, ours)}


def sample_ours(
    model: LlamaForCausalLM,
    prompts: Sequence[tuple[int, ...]],
    num_responses: int,
    limit: int,
    stepping: Stepping | None = None,
) -> list[int]:
    """Return the lengths of sampled responses."""
    requests = [
        GenerationRequest(ids, 1.0, 1.0, limit, seed, num_responses)
        for seed, ids in enumerate(prompts)
    ]
    generated = generate(model, requests, eos_ids=[EOS_ID], stepping=stepping)
    return [len(response.ids) for responses in generated for response in responses]


def decode_floor(
    shape: Shape,
    rates: Rates,
    prompts: Sequence[int],
    lengths: Sequence[int],
    num_responses: int,
) -> float:
    """Return the least seconds in which responses of `lengths` can be sampled."""
    weights = shape.matrix_parameters + shape.head_parameters
    seconds = shape.layer_flops(sum(prompts), len(prompts)) / rates.bf16
    for step in range(1, max(lengths, default=0) + 1):
        live = [index for index, length in enumerate(lengths) if length >= step]
        live_prompts = {index // num_responses for index in live}
        held = sum(prompts[index] for index in live_prompts) + step * len(live)
        moved = 2 * weights + held * shape.cache_bytes
        seconds += max(moved / rates.copy, 2.0 * weights * len(live) / rates.bf16)
    return seconds


def _figures(lengths: Sequence[int], seconds: float, num_steps: int) -> dict[str, Any]:
    return {
        "tokens": sum(lengths),
        "mean_tokens": round(sum(lengths) / len(lengths), 1),
        "seconds": round(seconds, 3),
        "tokens_per_second": round(sum(lengths) / seconds, 1),
        "milliseconds_per_step": round(1e3 * seconds / num_steps, 2),
    }


def _peer(
    machine: Machine,
    engine: Any,  # noqa: ANN401 - one of the two functions below
    model: LlamaForCausalLM,
    prompts: Sequence[tuple[int, ...]],
    num_responses: int,
    size: Size,
    ours: dict[int, float],
) -> dict[str, Any]:
    """Return a peer's figures, those of the quicker of two calls, or why there are none."""
    found: list[tuple[float, list[int]]] = []
    failure: dict[str, Any] = {}
    for _ in range(2):
        sample = partial(engine, model, prompts, num_responses, size.new_tokens)
        try:
            with time_limit(_PEER_SECONDS), torch.no_grad():
                seconds, lengths = _timed(machine, sample)
        except Exception as error:  # noqa: BLE001 - a peer that does not run is a result
            failure = {"error": f"{type(error).__name__}: {error}"[:500]}
            break
        if sum(lengths):
            found.append((seconds, lengths))
    if not found:
        return failure or {"error": "it returned no tokens"}
    seconds, lengths = max(found, key=lambda call: sum(call[1]) / call[0])
    rate = sum(lengths) / seconds
    ratio = {"ours_over_this": round(ours[num_responses] / rate, 2)}
    calls = {"seconds_of_calls": [round(call[0], 3) for call in found]}
    return {**_figures(lengths, seconds, max(lengths)), **ratio, **calls, **failure}


def _timed(machine: Machine, sample: Callable[[], list[int]]) -> tuple[float, list[int]]:
    """Return the seconds that `sample` takes, and the lengths that it returns."""
    lengths: list[int] = []
    seconds = machine.seconds(lambda: lengths.extend(sample()))
    return seconds, lengths


def _options(limit: int) -> dict[str, Any]:
    return {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": limit,
        "eos_token_id": EOS_ID,
        "pad_token_id": EOS_ID,
    }


def _generate(
    model: LlamaForCausalLM, prompts: Sequence[tuple[int, ...]], num_responses: int, limit: int
) -> list[int]:
    """Return the lengths of responses from transformers' `generate`, padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[EOS_ID] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    whole: Any = model  # what mixes `generate` in is typed for another kind of class
    rows = whole.generate(
        ids.to(model.device),
        attention_mask=mask.to(model.device),
        num_return_sequences=num_responses,
        **_options(limit),
    )
    return [_num_useful(ids) for ids in rows[:, width:].tolist()]


def _generate_batch(
    model: LlamaForCausalLM, prompts: Sequence[tuple[int, ...]], num_responses: int, limit: int
) -> list[int]:
    """Return the lengths of responses from transformers' continuous batching, kept for later."""
    outputs = model.generate_batch(
        inputs=[list(prompt) for prompt in prompts for _ in range(num_responses)],
        generation_config=GenerationConfig(**_options(limit)),
        progress_bar=False,
        persistent_manager=True,
    )
    return [_num_useful(output.generated_tokens) for output in outputs.values()]


def _num_useful(ids: list[int]) -> int:
    """Return the tokens up to and including the first end."""
    return ids.index(EOS_ID) + 1 if EOS_ID in ids else len(ids)
