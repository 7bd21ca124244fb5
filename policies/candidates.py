"""The samples of rejection sampling, chunk by chunk: a finished chunk is a file and survives.

Shapes: B responses of a chunk, K responses per prompt.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from language.engines import Engine
from language.generation import GenerationRequest
from language.monitors import Monitor
from language.rows import TokenRow
from language.scores import ScoreFn
from language.tokenizers import eos_id_of
from policies.encoding import EncodedPrompt
from policies.scoring import derived_seed, score_rows
from records.configs import RejectionSamplingConfig


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


def read_chunk(stored: Sequence[Any]) -> Chunk:
    """Return a chunk from what was stored of it, lists in place of tuples."""
    first, lists = stored
    return Chunk(first, [[Candidate(tuple(ids), *rest) for ids, *rest in k] for k in lists])


def prompts_per_chunk(config: RejectionSamplingConfig) -> int:
    """Return how many prompts fill one batch with their K responses."""
    return max(1, config.rows_per_batch // config.num_responses)


def sample_candidates(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[EncodedPrompt],
    *,
    first: int,
    config: RejectionSamplingConfig,
) -> list[list[tuple[tuple[int, ...], bool]]]:
    """Return for each prompt the ids of K responses, and whether each ended by itself.

    `first` is the place of the first prompt among all the run's: seeds follow from a prompt's
    place, so chunks may be sampled in any order, on any process, and again.
    """
    requests = [
        GenerationRequest(
            prompt_ids=prompt.ids,
            temperature=config.sampling.temperature,
            top_p=config.sampling.top_p,
            max_new_tokens=config.sampling.max_new_tokens,
            seed=derived_seed(config.seed, "candidates", place),
            num_responses=config.num_responses,
        )
        for place, prompt in enumerate(prompts, start=first)
    ]
    eos_ids = [eos_id_of(tokenizer)]
    generated = engine.generate(requests, eos_ids=eos_ids, rows_per_batch=config.rows_per_batch)
    return [[(r.ids, r.is_finished) for r in responses] for responses in generated]


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
