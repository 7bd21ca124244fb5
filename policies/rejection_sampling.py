"""Rejection sampling: draw K responses a prompt, keep the best, fine-tune on it.

arXiv:2307.09288, section 3.2.3. Shapes: P prompts, K responses per prompt.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from language.distributed import barrier
from language.engines import Engine, open_run_engine
from language.models import load_policy
from language.monitors import Monitor, load_monitor
from language.runs import RunContext
from language.scores import ScoreFn
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.candidates import (
    Candidate,
    Chunk,
    prompts_per_chunk,
    read_chunk,
    sample_candidates,
    score_candidates,
)
from policies.chunks import StoredChunks, work_in_chunks
from policies.curves import max_median_curve
from policies.encoding import EncodedPrompt, EncodedPrompts, encode_prompts
from policies.pool import PoolSample, next_pool, read_pool, write_pool
from policies.scoring import load_score_fn, refuse_other_tokenizer
from policies.selection import (
    num_prompts_of,
    read_selected_rows,
    rescore_pool,
    samples_of_chunks,
    select_best,
    write_selected,
)
from policies.sft import finetune, num_finetune_steps
from policies.supervised import load_start, save_finetuned
from records.configs import RejectionSamplingConfig
from records.files import write_json_atomically
from records.prompts import read_prompts
from records.rundirs import RunDirectory, RunSpec


def rejection_sampling(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fine-tune `start` on the best of K responses and the pool; outputs `policy` and `pool`.

    Three phases, each resumed where it stopped: chunks of prompts are sampled from `policy` and
    scored (a metrics row each); the best response per prompt is selected, with the pool re-scored;
    `start` is fine-tuned on the selection as SFT does it. Processes share chunks and rows.

    Raises:
        RunStopped: Someone asked the run to stop; what was done is kept.
        ValueError: No prompts, no response that ended, or different tokenizers.
        ServerError: The engine is a server that cannot be used, or failed; says why.
        FloatingPointError: A score, a loss or a gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, RejectionSamplingConfig), f"{type(config).__name__} is another run's"
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    digest = tokenizer_digest(load_tokenizer(paths["start"]))
    refuse_other_tokenizer("start", digest, tokenizer)
    policy = load_policy(paths["policy"], dtype=context.dtype, device=context.device)
    room = policy.config.max_position_embeddings - config.sampling.max_new_tokens
    encoded = encode_prompts(tokenizer, read_prompts(paths["prompts"]), max_tokens=room)
    if not encoded.prompts:
        raise ValueError(f"prompts: none is left; skipped {dict(encoded.skipped)}")
    pool = list(read_pool(paths["pool"])) if "pool" in paths else []
    score_fn = load_score_fn(spec, config, tokenizer, context)
    monitor = load_monitor(
        paths,
        tokenizer,
        device=context.device,
        dtype=context.dtype,
        rows_per_batch=config.rows_per_batch,
        beside=score_fn,
    )

    # Open what samples, here or at a server, which must prove to hold the policy.
    engine = open_run_engine(spec, "policy", policy, tokenizer, context)

    # Sample and score, a chunk at a time.
    stored = StoredChunks(run_directory.checkpoints / "candidates")
    num_chunks = math.ceil(len(encoded.prompts) / prompts_per_chunk(config))
    num_rows = num_prompts_of(encoded.prompts, pool)
    sampler = _Sampler(engine, tokenizer, score_fn, monitor, encoded.prompts, config)
    work_in_chunks(
        stored,
        num_chunks,
        sampler.sample_chunk,
        total_steps=num_chunks + num_finetune_steps(num_rows, config.finetune),
        run_directory=run_directory,
        context=context,
    )

    # Select, once; all processes read the same file.
    selected_path = run_directory.checkpoints / "selected.jsonl"
    if context.is_main and not selected_path.exists():
        chunks = [read_chunk(stored.read(number)) for number in range(num_chunks)]
        _select(run_directory, spec, config, tokenizer, score_fn, encoded, chunks, pool, room)
    barrier()
    rows = read_selected_rows(selected_path)

    # Fine-tune.
    del policy, engine, score_fn, monitor, sampler
    start = load_start(paths["start"], config.finetune, context)
    trained = finetune(
        start,
        rows,
        config=config.finetune,
        seed=config.seed,
        run_directory=run_directory,
        context=context,
        steps_before=num_chunks,
    )
    output = run_directory.outputs / "policy"
    save_finetuned(trained, tokenizer, output, start=paths["start"], context=context)
    if context.is_main:
        summary = json.loads(_summary_path(run_directory).read_text(encoding="utf-8"))
        outputs = {"policy": output, "pool": _pool_path(run_directory)}
        run_directory.write_result({**summary, "loss": trained.loss}, outputs)


def _select(
    run_directory: RunDirectory,
    spec: RunSpec,
    config: RejectionSamplingConfig,
    tokenizer: PreTrainedTokenizerBase,
    score_fn: ScoreFn,
    encoded: EncodedPrompts,
    chunks: Sequence[Chunk],
    pool: Sequence[PoolSample],
    room: int,
) -> None:
    """Write the pool, the summary and, last, the selection, whose presence says that all are there.

    Raises:
        ValueError: No response ended by itself, and the pool is empty.
    """
    new = samples_of_chunks(
        encoded.prompts,
        chunks,
        tokenizer,
        source=spec.inputs["policy"].digest,
        iteration=1 + max((sample.iteration for sample in pool), default=0),
    )
    old = rescore_pool(
        pool, score_fn, tokenizer, max_tokens=room, threshold=config.safety_threshold
    )
    selected = select_best(new, old.samples)
    if not selected:
        raise ValueError(
            f"no response ended within max_new_tokens = {config.sampling.max_new_tokens}; "
            "allow longer ones or lower the temperature"
        )
    write_pool(_pool_path(run_directory), next_pool([*new, *old.samples], config.pool_size))
    summary = {
        **_candidate_summary(chunks),
        **_selection_summary(selected, old.samples),
        "num_prompts": len(encoded.prompts),
        "num_shortened": encoded.num_shortened,
        "skipped": dict(encoded.skipped),
        "skipped_from_pool": dict(old.skipped),
    }
    write_json_atomically(_summary_path(run_directory), summary)
    write_selected(run_directory.checkpoints / "selected.jsonl", selected, tokenizer, room)


class _Sampler(NamedTuple):
    """What prompts are answered and scored with."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    score_fn: ScoreFn
    monitor: Monitor | None
    prompts: Sequence[EncodedPrompt]
    config: RejectionSamplingConfig

    def sample_chunk(self, number: int) -> tuple[Chunk, dict[str, float]]:
        """Return the candidates of a chunk of prompts, and its row of metrics."""
        config, size = self.config, prompts_per_chunk(self.config)
        first = number * size
        prompts = self.prompts[first : first + size]
        started = time.perf_counter()
        responses = sample_candidates(
            self.engine, self.tokenizer, prompts, first=first, config=config
        )
        sampled = time.perf_counter()
        candidates = score_candidates(
            self.score_fn,
            prompts,
            responses,
            threshold=config.safety_threshold,
            monitor=self.monitor,
        )
        chunk = Chunk(first, candidates)
        return chunk, {
            **_chunk_metrics(chunk),
            "seconds_generate": round(sampled - started, 4),
            "seconds_score": round(time.perf_counter() - sampled, 4),
        }


def _chunk_metrics(chunk: Chunk) -> dict[str, float]:
    """Return means over a chunk's responses (`best_score`: over its prompts)."""
    candidates = [candidate for group in chunk.candidates for candidate in group]
    count = len(candidates)
    bests = [max(candidate.score for candidate in group) for group in chunk.candidates]
    return {
        "score": sum(c.score for c in candidates) / count,
        "best_score": sum(bests) / len(bests),
        "helpfulness": sum(c.helpfulness for c in candidates) / count,
        "safety": sum(c.safety for c in candidates) / count,
        **_monitored(chunk.candidates),
        "mean_tokens": sum(len(c.ids) for c in candidates) / count,
        "finished_share": sum(c.is_finished for c in candidates) / count,
        "num_responses": count,
    }


def _monitored(groups: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """Return the general model's mean over all responses, and over each prompt's best by score."""
    every = [c.general for group in groups for c in group if c.general is not None]
    bests = [max(group, key=lambda candidate: candidate.score).general for group in groups]
    best = [general for general in bests if general is not None]
    return {"general": fmean(every), "best_general": fmean(best)} if every else {}


def _candidate_summary(chunks: Sequence[Chunk]) -> dict[str, Any]:
    groups = [group for chunk in chunks for group in chunk.candidates]
    scores_PK = torch.tensor([[c.score for c in group] for group in groups], dtype=torch.float64)
    curve = max_median_curve(scores_PK)
    finished = [candidate.is_finished for group in groups for candidate in group]
    return {
        "mean_score": float(scores_PK.mean()),
        "median_score": curve[-1].median,
        "mean_best_score": curve[-1].max,
        **{f"mean_{name}": value for name, value in _monitored(groups).items()},
        "curve": [point._asdict() for point in curve],
        "num_samples": len(finished),
        "finished_share": sum(finished) / len(finished),
        "num_without_finished": sum(not any(c.is_finished for c in group) for group in groups),
    }


def _selection_summary(
    selected: Sequence[PoolSample], pool: Sequence[PoolSample]
) -> dict[str, Any]:
    earlier = {sample.iteration for sample in pool}
    return {
        "num_selected": len(selected),
        "selected_score": sum(sample.score for sample in selected) / len(selected),
        "share_from_pool": sum(s.iteration in earlier for s in selected) / len(selected),
        "num_pool": len(pool),
        "mean_tokens": sum(len(sample.ids) for sample in selected) / len(selected),
    }


def _summary_path(run_directory: RunDirectory) -> Path:
    return run_directory.checkpoints / "selection.json"


def _pool_path(run_directory: RunDirectory) -> Path:
    return run_directory.outputs / "pool.jsonl"
