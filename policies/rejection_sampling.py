"""Rejection sampling: draw K responses a prompt, keep the best, fine-tune on it.

arXiv:2307.09288, section 3.2.3. Shapes: P prompts, K responses per prompt.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from language.distributed import barrier
from language.models import max_positions_of
from language.runs import RunContext
from language.scores import ScoreFn
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.candidates import (
    Chunk,
    Sampler,
    monitored,
    open_sampler,
    prompts_per_chunk,
    read_chunk,
)
from policies.chunks import StoredChunks, work_in_chunks
from policies.curves import max_median_curve
from policies.encoding import EncodedPrompts, encode_prompts
from policies.pool import PoolSample, next_pool, read_pool, write_pool
from policies.scoring import refuse_other_tokenizer
from policies.selection import (
    Rescored,
    num_prompts_of,
    read_selected_rows,
    rescore_pool,
    samples_of_chunks,
    select_best,
    write_selected,
)
from policies.sft import finetune, num_finetune_steps
from policies.supervised import load_start, save_finetuned
from policies.temperature_sweep import num_sweep_chunks, sweep_temperatures
from records.files import write_json_atomically
from records.policy_configs import RejectionSamplingConfig
from records.prompts import read_prompts
from records.rundirs import RunDirectory, RunSpec


def rejection_sampling(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fine-tune `start` on the best of K responses and the pool.

    Outputs `policy`, `pool`, and `demonstrations`: what it was fine-tuned on.

    Four phases, each resumed where it stopped: where the config names several temperatures, they
    are tried on some of the prompts and the best is taken; chunks of prompts are sampled from
    `policy` and scored (a metrics row each, as for the sweep); the best response per prompt is
    selected, with the pool re-scored; `start` is fine-tuned on the selection as SFT does it.
    Processes share chunks and rows. `start` may be of another size than `policy`: what a large
    policy's samples teach a small one is distillation.

    Raises:
        RunStopped: Someone asked the run to stop; what was done is kept.
        ValueError: No prompts, no response that ended, or different tokenizers.
        ServerError: The engine is a server that cannot be used, or failed; says why.
        FloatingPointError: A score, a loss or a gradient is no longer finite.
    """
    job = _read_job(run_directory, spec)
    sampler = open_sampler(spec, job.config, job.tokenizer, context)
    chosen = sweep_temperatures(
        sampler,
        job.encoded.prompts,
        total_steps=job.total_steps,
        run_directory=run_directory,
        context=context,
    )
    _sample(job, sampler, chosen["temperature"], context)
    if context.is_main and not job.selected_path.exists():
        _select(job, sampler.score_fn, chosen)
    barrier()
    del sampler  # room for the start model
    _finetune(job, context)


class _Job(NamedTuple):
    """What every phase needs to know."""

    run_directory: RunDirectory
    spec: RunSpec
    config: RejectionSamplingConfig
    tokenizer: PreTrainedTokenizerBase
    encoded: EncodedPrompts
    pool: Sequence[PoolSample]
    positions: int
    """Longest row in tokens that both policies can hold."""

    @property
    def room(self) -> int:
        """Longest prompt in tokens."""
        return self.positions - self.config.sampling.max_new_tokens

    @property
    def num_sweep_chunks(self) -> int:
        """Steps of the sweep."""
        return num_sweep_chunks(self.config, len(self.encoded.prompts))

    @property
    def num_chunks(self) -> int:
        """Steps in which the prompts are sampled."""
        return math.ceil(len(self.encoded.prompts) / prompts_per_chunk(self.config))

    @property
    def total_steps(self) -> int:
        """Steps of all phases; fewer where prompts find no response to be fine-tuned on."""
        num_rows = num_prompts_of(self.encoded.prompts, self.pool)
        num_finetune = num_finetune_steps(num_rows, self.config.finetune)
        return self.num_sweep_chunks + self.num_chunks + num_finetune

    @property
    def candidates(self) -> StoredChunks:
        """The chunks that were sampled."""
        return StoredChunks(self.run_directory.checkpoints / "candidates")

    @property
    def selected_path(self) -> Path:
        """The selection, whose presence says that summary and pool are there too."""
        return self.run_directory.outputs / "demonstrations.jsonl"

    @property
    def summary_path(self) -> Path:
        """What the selection adds to the result."""
        return self.run_directory.checkpoints / "selection.json"

    @property
    def pool_path(self) -> Path:
        """The pool for later iterations."""
        return self.run_directory.outputs / "pool.jsonl"


def _read_job(run_directory: RunDirectory, spec: RunSpec) -> _Job:
    """Return what the run is about.

    Raises:
        ValueError: No prompt fits both policies, or `start` has another tokenizer.
    """
    config = spec.config
    assert isinstance(config, RejectionSamplingConfig), f"{type(config).__name__} is another run's"
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    digest = tokenizer_digest(load_tokenizer(paths["start"]))
    refuse_other_tokenizer("start", digest, tokenizer)
    # What is sampled from one must fit the positions of the other, which may be smaller.
    positions = min(max_positions_of(paths[role]) for role in ("policy", "start"))
    room = positions - config.sampling.max_new_tokens
    encoded = encode_prompts(tokenizer, read_prompts(paths["prompts"]), max_tokens=room)
    if not encoded.prompts:
        raise ValueError(f"prompts: none is left; skipped {dict(encoded.skipped)}")
    pool = list(read_pool(paths["pool"])) if "pool" in paths else []
    return _Job(run_directory, spec, config, tokenizer, encoded, pool, positions)


def _sample(job: _Job, sampler: Sampler, temperature: float, context: RunContext) -> None:
    """Sample and score the prompts, a chunk at a time."""
    work_in_chunks(
        job.candidates,
        job.num_chunks,
        partial(sampler.sample_chunk, job.encoded.prompts, temperature),
        total_steps=job.total_steps,
        run_directory=job.run_directory,
        context=context,
        steps_before=job.num_sweep_chunks,
    )


def _select(job: _Job, score_fn: ScoreFn, chosen: Mapping[str, Any]) -> None:
    """Write the pool, the summary and, last, the selection, whose presence says that all are there.

    Raises:
        ValueError: No response ended by itself, and the pool is empty.
    """
    config, encoded = job.config, job.encoded
    chunks = [read_chunk(job.candidates.read(number)) for number in range(job.num_chunks)]
    new = samples_of_chunks(
        encoded.prompts,
        chunks,
        job.tokenizer,
        source=job.spec.inputs["policy"].digest,
        iteration=1 + max((sample.iteration for sample in job.pool), default=0),
    )
    old = rescore_pool(
        job.pool,
        score_fn,
        job.tokenizer,
        max_tokens=job.room,
        max_row_tokens=job.positions,
        threshold=config.safety_threshold,
    )
    selected = select_best(new, old.samples)
    if not selected:
        raise ValueError(
            f"no response ended within max_new_tokens = {config.sampling.max_new_tokens}; "
            "allow longer ones or lower the temperature"
        )
    write_pool(job.pool_path, next_pool([*new, *old.samples], config.pool_size))
    summary = {
        **chosen,
        **_candidate_summary(chunks),
        **_selection_summary(selected, old),
        **_prompt_summary(encoded),
    }
    write_json_atomically(job.summary_path, summary)
    write_selected(job.selected_path, selected, job.tokenizer, job.room)


def _finetune(job: _Job, context: RunContext) -> None:
    """Fine-tune `start` on the selection, which all processes read, and write the result."""
    start_path = job.spec.inputs["start"].path
    trained = finetune(
        load_start(start_path, job.config.finetune, context),
        read_selected_rows(job.selected_path),
        config=job.config.finetune,
        seed=job.config.seed,
        run_directory=job.run_directory,
        context=context,
        steps_before=job.num_sweep_chunks + job.num_chunks,
    )
    output = job.run_directory.outputs / "policy"
    save_finetuned(trained, job.tokenizer, output, start=start_path, context=context)
    if context.is_main:
        summary = json.loads(job.summary_path.read_text(encoding="utf-8"))
        outputs = {
            "policy": output,
            "pool": job.pool_path,
            "demonstrations": job.selected_path,
        }
        job.run_directory.write_result({**summary, "loss": trained.loss}, outputs)


def _candidate_summary(chunks: Sequence[Chunk]) -> dict[str, Any]:
    groups = [group for chunk in chunks for group in chunk.candidates]
    scores_PK = torch.tensor([[c.score for c in group] for group in groups], dtype=torch.float64)
    curve = max_median_curve(scores_PK)
    finished = [candidate.is_finished for group in groups for candidate in group]
    return {
        "mean_score": float(scores_PK.mean()),
        "median_score": curve[-1].median,
        "mean_best_score": curve[-1].max,
        **{f"mean_{name}": value for name, value in monitored(groups).items()},
        "curve": [point._asdict() for point in curve],
        "num_samples": len(finished),
        "finished_share": sum(finished) / len(finished),
        "num_without_finished": sum(not any(c.is_finished for c in group) for group in groups),
    }


def _selection_summary(selected: Sequence[PoolSample], pool: Rescored) -> dict[str, Any]:
    earlier = {sample.iteration for sample in pool.samples}
    return {
        "num_selected": len(selected),
        "selected_score": sum(sample.score for sample in selected) / len(selected),
        "share_from_pool": sum(s.iteration in earlier for s in selected) / len(selected),
        "num_pool": len(pool.samples),
        "skipped_from_pool": dict(pool.skipped),
        "mean_tokens": sum(len(sample.ids) for sample in selected) / len(selected),
    }


def _prompt_summary(encoded: EncodedPrompts) -> dict[str, Any]:
    return {
        "num_prompts": len(encoded.prompts),
        "num_shortened": encoded.num_shortened,
        "skipped": dict(encoded.skipped),
    }
