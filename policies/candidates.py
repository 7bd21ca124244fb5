"""The samples of rejection sampling, chunk by chunk: a finished chunk is a file and survives.

Shapes: B responses of a chunk, K responses per prompt.
"""

import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from language.engines import Engine, open_run_engine
from language.generation import GenerationRequest
from language.models import load_policy
from language.monitors import Monitor, load_monitor
from language.rows import TokenRow
from language.runs import RunContext
from language.scores import ScoreFn
from language.tokenizers import eos_id_of
from policies.encoding import EncodedPrompt
from policies.scoring import derived_seed, load_score_fn, score_rows
from records.policy_configs import RejectionSamplingConfig
from records.rundirs import RunSpec


class Candidate(NamedTuple):
    """One sampled and scored response; scores are raw."""

    ids: tuple[int, ...]
    is_finished: bool
    helpfulness: float
    safety: float
    score: float
    """The gated score."""
    general: float | None = None
    """The score of the general reward model, where there is one; nothing is chosen by it."""


class Chunk(NamedTuple):
    """The candidates of some prompts."""

    first: int
    """Place of its first prompt among all."""
    candidates: list[list[Candidate]]
    """K for each prompt."""


class Sampled(NamedTuple):
    """What a sampler returns."""

    candidates: list[list[Candidate]]
    """K for each prompt."""
    seconds: dict[str, float]
    """By phase, as a row of metrics names them."""


class Sampler(NamedTuple):
    """What prompts are answered and scored with."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    score_fn: ScoreFn
    monitor: Monitor | None
    config: RejectionSamplingConfig

    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds: Sequence[int], temperature: float
    ) -> Sampled:
        """Return K scored responses to each prompt, which `seeds`, one a prompt, decide."""
        config = self.config
        requests = [
            GenerationRequest(
                prompt_ids=prompt.ids,
                temperature=temperature,
                top_p=config.sampling.top_p,
                max_new_tokens=config.sampling.max_new_tokens,
                seed=seed,
                num_responses=config.num_responses,
            )
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        started = time.perf_counter()
        generated = self.engine.generate(
            requests, eos_ids=[eos_id_of(self.tokenizer)], rows_per_batch=config.rows_per_batch
        )
        sampled = time.perf_counter()
        candidates = score_candidates(
            self.score_fn,
            prompts,
            [[(r.ids, r.is_finished) for r in responses] for responses in generated],
            threshold=config.safety_threshold,
            monitor=self.monitor,
        )
        seconds = {
            "seconds_generate": round(sampled - started, 4),
            "seconds_score": round(time.perf_counter() - sampled, 4),
        }
        return Sampled(candidates, seconds)

    def sample_chunk(
        self, prompts: Sequence[EncodedPrompt], temperature: float, number: int
    ) -> tuple[Chunk, dict[str, float]]:
        """Return the candidates of a chunk of all the run's prompts, and its row of metrics.

        Seeds follow from a prompt's place, so chunks may be sampled in any order, on any process,
        and again.
        """
        size = prompts_per_chunk(self.config)
        first = number * size
        part = prompts[first : first + size]
        places = range(first, first + len(part))
        seeds = [derived_seed(self.config.seed, "candidates", place) for place in places]
        candidates, seconds = self.sample(part, seeds, temperature)
        return Chunk(first, candidates), {**_metrics(candidates), **seconds}


def open_sampler(
    spec: RunSpec,
    config: RejectionSamplingConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: RunContext,
) -> Sampler:
    """Return the sampler of a run: its input `policy` here, or at a server that proves to hold it.

    Raises:
        RecordError: The config names no such server or score function.
        ServerError: The server cannot be used; says why.
        ValueError: A reward model reads other token ids than the policy writes.
    """
    paths = {role: item.path for role, item in spec.inputs.items()}
    policy = load_policy(paths["policy"], dtype=context.dtype, device=context.device)
    score_fn = load_score_fn(spec, config, tokenizer, context)
    monitor = load_monitor(
        paths,
        tokenizer,
        device=context.device,
        dtype=context.dtype,
        rows_per_batch=config.rows_per_batch,
        beside=score_fn,
    )
    engine = open_run_engine(spec, "policy", policy, tokenizer, context)
    return Sampler(engine, tokenizer, score_fn, monitor, config)


def read_chunk(stored: Sequence[Any]) -> Chunk:
    """Return a chunk from what was stored of it, lists in place of tuples."""
    first, lists = stored
    return Chunk(first, [[Candidate(tuple(ids), *rest) for ids, *rest in k] for k in lists])


def prompts_per_chunk(config: RejectionSamplingConfig) -> int:
    """Return how many prompts fill one batch with their K responses."""
    return max(1, config.rows_per_batch // config.num_responses)


def score_candidates(
    score_fn: ScoreFn,
    prompts: Sequence[EncodedPrompt],
    responses: Sequence[Sequence[tuple[tuple[int, ...], bool]]],
    *,
    threshold: float,
    monitor: Monitor | None = None,
) -> list[list[Candidate]]:
    """Return `responses` with their scores."""
    pairs = [(p, r) for p, answers in zip(prompts, responses, strict=True) for r in answers]
    rows = [TokenRow(prompt.ids, ids) for prompt, (ids, _) in pairs]
    is_safety = [prompt.prompt.is_safety for prompt, _ in pairs]
    scores = score_rows(score_fn, rows, is_safety, threshold=threshold)
    columns: list[list[float]] = [scores_B.tolist() for scores_B in scores]
    if monitor is not None:
        columns.append(monitor(rows).tolist())
    values = zip(*columns, strict=True)
    scored = iter([Candidate(*r, *v) for (_, r), v in zip(pairs, values, strict=True)])
    return [[next(scored) for _ in answers] for answers in responses]


def monitored(groups: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """Return the general model's mean over all responses, and over each prompt's best by score."""
    every = [c.general for group in groups for c in group if c.general is not None]
    bests = [max(group, key=lambda candidate: candidate.score).general for group in groups]
    best = [general for general in bests if general is not None]
    return {"general": fmean(every), "best_general": fmean(best)} if every else {}


def _metrics(groups: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """Return means over a chunk's responses (`best_score`: over its prompts)."""
    candidates = [candidate for group in groups for candidate in group]
    count = len(candidates)
    bests = [max(candidate.score for candidate in group) for group in groups]
    return {
        "score": sum(c.score for c in candidates) / count,
        "best_score": sum(bests) / len(bests),
        "helpfulness": sum(c.helpfulness for c in candidates) / count,
        "safety": sum(c.safety for c in candidates) / count,
        **monitored(groups),
        "mean_tokens": sum(len(c.ids) for c in candidates) / count,
        "finished_share": sum(c.is_finished for c in candidates) / count,
        "num_responses": count,
    }
