"""Safety context distillation: learn to answer as if a safety preprompt stood before the prompt.

arXiv:2307.09288, section 4.2.4. Shapes: B responses.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from language.chat import decode_response
from language.distributed import barrier
from language.engines import Engine, open_run_engine
from language.generation import GenerationRequest
from language.models import load_policy, max_positions_of
from language.rows import TokenRow
from language.runs import RunContext
from language.scores import ScoreFn
from language.tokenizers import eos_id_of, load_tokenizer, tokenizer_digest
from policies.chunks import StoredChunks, work_in_chunks
from policies.distilled import (
    Answer,
    AnswerPair,
    PairedPrompt,
    PairedPrompts,
    kept_rows,
    pair_prompts,
    report,
)
from policies.encoding import rows_beside
from policies.scoring import derived_seed, load_score_fn, refuse_other_tokenizer
from policies.sft import finetune, num_finetune_steps
from policies.supervised import load_start, save_finetuned
from records.instruction_configs import ContextDistillationConfig
from records.preferences import Axis
from records.preprompts import default_preprompts, read_preprompts
from records.prompts import (
    Demonstration,
    read_prompts,
    write_demonstrations,
)
from records.rundirs import RunDirectory, RunSpec


def context_distillation(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fine-tune `start` on safer answers, without what made them safer; outputs `policy`.

    Two phases, each resumed where it stopped: chunks of adversarial prompts are answered by
    `policy` with and without a preprompt, and scored (a metrics row each); `start` is fine-tuned,
    as SFT does it, on the answers that were kept. Processes share chunks and rows.

    Raises:
        RunStopped: Someone asked the run to stop; what was done is kept.
        RecordError: There is no preprompt for a prompt.
        ValueError: No prompt is adversarial, no answer is kept, or different tokenizers.
        ServerError: The engine is a server that cannot be used, or failed; says why.
        FloatingPointError: A score, a loss or a gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, ContextDistillationConfig), f"{type(config).__name__}: another run's"
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    start_digest = tokenizer_digest(load_tokenizer(paths["start"]))
    refuse_other_tokenizer("start", start_digest, tokenizer)
    paired = _paired_prompts(tokenizer, paths, config)
    max_tokens = min(config.finetune.max_tokens, max_positions_of(paths["start"]))
    beside = rows_beside(tokenizer, paths, max_tokens=max_tokens)

    # Answer and score, a chunk at a time.
    size = config.rows_per_batch // 2
    num_chunks = math.ceil(len(paired.prompts) / size)
    num_rows = len(paired.prompts) + len(beside)  # at most: not every answer is kept
    total_steps = num_chunks + num_finetune_steps(num_rows, config.finetune)
    chunks = StoredChunks(run_directory.checkpoints / "answers")
    axes = [axis for axis in Axis if axis is Axis.SAFETY or axis.value in paths]
    score_fn = load_score_fn(spec, config, tokenizer, context, axes=axes)
    policy = load_policy(paths["policy"], dtype=context.dtype, device=context.device)
    engine = open_run_engine(spec, "policy", policy, tokenizer, context)
    answerer = _Answerer(engine, tokenizer, score_fn, config)
    work_in_chunks(
        chunks,
        num_chunks,
        partial(answerer.answer_chunk, paired.prompts, size),
        total_steps=total_steps,
        run_directory=run_directory,
        context=context,
    )
    del policy, engine, answerer, score_fn  # room for the start model
    pairs = [pair for number in range(num_chunks) for pair in read_pairs(chunks.read(number))]
    kept = _kept_rows(paired, pairs, config, max_tokens=max_tokens)

    # Fine-tune.
    start = load_start(paths["start"], config.finetune, context)
    trained = finetune(
        start,
        [*(row for _, row in kept), *beside],
        config=config.finetune,
        seed=config.seed,
        run_directory=run_directory,
        context=context,
        steps_before=num_chunks,
    )
    output = run_directory.outputs / "policy"
    save_finetuned(trained, tokenizer, output, start=paths["start"], context=context)
    if context.is_main:
        demonstrations = run_directory.outputs / "demonstrations.jsonl"
        made = _demonstrations(kept, tokenizer, source=spec.inputs["policy"].digest)
        write_demonstrations(demonstrations, made)
        summary = report(
            paired.prompts, pairs, min_gain=config.min_gain, num_examples=config.num_examples
        )
        summary |= {
            "num_rows": len(kept),
            "num_demonstrations_beside": len(beside),
            "skipped": dict(paired.skipped),
            "loss": trained.loss,
        }
        run_directory.write_result(summary, {"policy": output, "demonstrations": demonstrations})
    barrier()


def _paired_prompts(
    tokenizer: PreTrainedTokenizerBase, paths: Mapping[str, Path], config: ContextDistillationConfig
) -> PairedPrompts:
    """Return the adversarial prompts of the run, each alone and after a preprompt.

    Raises:
        RecordError: There is no preprompt for a prompt.
        ValueError: No prompt is adversarial and short enough.
    """
    preprompts = (
        list(read_preprompts(paths["preprompts"]))
        if "preprompts" in paths
        else default_preprompts()
    )
    room = max_positions_of(paths["policy"]) - config.sampling.max_new_tokens
    prompts = read_prompts(paths["prompts"])
    paired = pair_prompts(tokenizer, prompts, preprompts, config=config, max_tokens=room)
    if not paired.prompts:
        raise ValueError(f"prompts: none is left; skipped {dict(paired.skipped)}")
    return paired


def _kept_rows(
    paired: PairedPrompts,
    pairs: Sequence[AnswerPair],
    config: ContextDistillationConfig,
    *,
    max_tokens: int,
) -> list[tuple[PairedPrompt, TokenRow]]:
    """Return what is trained on: the answers that are kept, as far as their rows fit.

    Raises:
        ValueError: There is none.
    """
    kept = [
        (item, row)
        for item, row in kept_rows(paired.prompts, pairs, min_gain=config.min_gain)
        if row.num_tokens <= max_tokens
    ]
    if not kept:
        raise ValueError(
            f"no answer of {len(pairs)} was safer with a preprompt by more than min_gain = "
            f"{config.min_gain}: this policy does not heed them, or the safety model sees no gain"
        )
    return kept


def _demonstrations(
    kept: Sequence[tuple[PairedPrompt, TokenRow]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    source: str,
) -> Iterator[Demonstration]:
    for item, row in kept:
        response = decode_response(tokenizer, row.response_ids)
        yield Demonstration(prompt=item.prompt.dialogue, response=response, source=source)


class _Answerer(NamedTuple):
    """What prompts are answered and scored with."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    score_fn: ScoreFn
    config: ContextDistillationConfig

    def answer_chunk(
        self, prompts: Sequence[PairedPrompt], size: int, number: int
    ) -> tuple[list[AnswerPair], dict[str, float]]:
        """Return what `answer` makes of the prompts of a chunk of `size`."""
        return self.answer(prompts[number * size : (number + 1) * size], first=number * size)

    def answer(
        self, prompts: Sequence[PairedPrompt], *, first: int
    ) -> tuple[list[AnswerPair], dict[str, float]]:
        """Return both answers to each prompt, and their metrics.

        `first` is the place of the first prompt among all: seeds follow from places.
        """
        started = time.perf_counter()
        before = self._sample([item.ids for item in prompts], "without", first)
        after = self._sample([item.preprompted_ids for item in prompts], "with", first)
        sampled = time.perf_counter()
        # Both are scored as answers to the prompt alone, which is how they are trained.
        ids = [item.ids for item in prompts]
        pairs = [
            AnswerPair(*pair)
            for pair in zip(self._scored(ids, before), self._scored(ids, after), strict=True)
        ]
        gains = [pair.after.safety - pair.before.safety for pair in pairs]
        row = {
            "safety": fmean(pair.before.safety for pair in pairs),
            "preprompted_safety": fmean(pair.after.safety for pair in pairs),
            "risen_share": sum(gain > self.config.min_gain for gain in gains) / len(gains),
            "num_responses": 2 * len(pairs),
            "mean_tokens": fmean(len(answer.ids) for pair in pairs for answer in pair),
            "finished_share": fmean(answer.is_finished for pair in pairs for answer in pair),
            "seconds_generate": round(sampled - started, 4),
            "seconds_score": round(time.perf_counter() - sampled, 4),
        }
        return pairs, row

    def _sample(
        self, prompts: Sequence[tuple[int, ...]], name: str, first: int
    ) -> list[tuple[tuple[int, ...], bool]]:
        sampling = self.config.sampling
        requests = [
            GenerationRequest(
                prompt_ids=ids,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_new_tokens=sampling.max_new_tokens,
                seed=derived_seed(self.config.seed, "context distillation", name, place),
            )
            for place, ids in enumerate(prompts, start=first)
        ]
        generated = self.engine.generate(
            requests,
            eos_ids=[eos_id_of(self.tokenizer)],
            rows_per_batch=self.config.rows_per_batch,
        )
        return [(response.ids, response.is_finished) for (response,) in generated]

    def _scored(
        self,
        prompts: Sequence[tuple[int, ...]],
        responses: Sequence[tuple[tuple[int, ...], bool]],
    ) -> list[Answer]:
        """Return the responses with their raw scores.

        Raises:
            FloatingPointError: A score is not finite.
        """
        rows = [TokenRow(*pair) for pair in zip(prompts, (r for r, _ in responses), strict=True)]
        scores = {axis: score_B.tolist() for axis, score_B in self.score_fn(rows).items()}
        if not all(math.isfinite(score) for values in scores.values() for score in values):
            raise FloatingPointError("a reward model returned a score that is not finite")
        helpfulness: Sequence[float | None] = scores.get(Axis.HELPFULNESS, [None] * len(rows))
        return [
            Answer(decode_response(self.tokenizer, ids), ids, is_finished, safe, helpful)
            for (ids, is_finished), safe, helpful in zip(
                responses, scores[Axis.SAFETY], helpfulness, strict=True
            )
        ]


def read_pairs(chunk: Sequence[Sequence[Sequence[Any]]]) -> list[AnswerPair]:
    """Return the pairs of a stored chunk."""
    return [
        AnswerPair(*(Answer(text, tuple(ids), *rest) for text, ids, *rest in pair))
        for pair in chunk
    ]
