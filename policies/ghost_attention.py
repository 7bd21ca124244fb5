"""Ghost Attention: a policy that keeps to the first turn's instruction for a whole dialogue.

arXiv:2307.09288, section 3.3. Shapes: B responses of a turn of all dialogues.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from language.conversations import Candidates, Choose, Spoken, first_of_each, hold_conversations
from language.distributed import barrier
from language.engines import Engine, open_run_engine
from language.models import load_policy, max_positions_of
from language.rows import TokenRow
from language.runs import RunContext
from language.scores import ScoreFn
from language.tokenizers import load_tokenizer, tokenizer_digest
from policies.chunks import StoredChunks, work_in_chunks
from policies.encoding import rows_beside
from policies.instructed import (
    InstructedDialogue,
    TrainedRows,
    instructed_everywhere,
    plan_dialogues,
    trained_rows,
)
from policies.scoring import derived_seed, load_score_fn, refuse_other_tokenizer, score_rows
from policies.sft import finetune, num_finetune_steps
from policies.supervised import load_start, save_finetuned
from records.constraints import default_constraints, read_constraints
from records.errors import RecordError
from records.instruction_configs import GhostAttentionConfig
from records.preferences import Axis
from records.prompts import read_prompts, write_demonstrations
from records.rundirs import RunDirectory, RunSpec


def ghost_attention(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fine-tune `start` to keep to instructions; outputs `policy` and `demonstrations`.

    Two phases, each resumed where it stopped: chunks of dialogues are held with `policy`, the
    instruction before every user turn (a metrics row each); `start` is fine-tuned, as SFT does it,
    on rows that have the instruction on the first turn only. Processes share chunks and rows.

    Raises:
        RunStopped: Someone asked the run to stop; what was done is kept.
        RecordError: No usable prompt or constraint, or several responses and no reward models.
        ValueError: No row is left to train on, or different tokenizers.
        ServerError: The engine is a server that cannot be used, or failed; says why.
        FloatingPointError: A score, a loss or a gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, GhostAttentionConfig), f"{type(config).__name__} is another run's"
    paths = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = load_tokenizer(paths["policy"])
    start_digest = tokenizer_digest(load_tokenizer(paths["start"]))
    refuse_other_tokenizer("start", start_digest, tokenizer)
    constraints = (
        list(read_constraints(paths["constraints"]))
        if "constraints" in paths
        else default_constraints()
    )
    dialogues = plan_dialogues(list(read_prompts(paths["prompts"])), constraints, config)
    max_tokens = min(config.finetune.max_tokens, max_positions_of(paths["start"]))
    beside = rows_beside(tokenizer, paths, max_tokens=max_tokens)

    # Hold the dialogues, a chunk at a time.
    size = max(1, config.rows_per_batch // config.num_responses)
    num_chunks = math.ceil(len(dialogues) / size)
    num_rows = len(dialogues) + len(beside)  # as far as known: every dialogue gives a row or more
    total_steps = num_chunks + num_finetune_steps(num_rows, config.finetune)
    chunks = StoredChunks(run_directory.checkpoints / "dialogues")
    sampler = _load_sampler(spec, config, tokenizer, context)
    work_in_chunks(
        chunks,
        num_chunks,
        partial(sampler.hold_chunk, dialogues, size),
        total_steps=total_steps,
        run_directory=run_directory,
        context=context,
    )
    del sampler  # room for the start model
    spoken = [held for number in range(num_chunks) for held in read_spoken(chunks.read(number))]
    made = trained_rows(
        tokenizer,
        dialogues,
        spoken,
        config=config,
        max_tokens=max_tokens,
        source=spec.inputs["policy"].digest,
    )
    if not made.rows:
        raise ValueError(
            f"no row is left to train on; skipped {dict(made.skipped)}; allow longer responses "
            "(sampling.max_new_tokens) or fewer turns (max_turns)"
        )

    # Fine-tune.
    start = load_start(paths["start"], config.finetune, context)
    trained = finetune(
        start,
        [*(item.row for item in made.rows), *beside],
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
        write_demonstrations(demonstrations, (item.demonstration for item in made.rows))
        summary = {**_summary(dialogues, spoken, made), "loss": trained.loss}
        summary |= {"num_demonstrations_beside": len(beside), "num_constraints": len(constraints)}
        run_directory.write_result(summary, {"policy": output, "demonstrations": demonstrations})
    barrier()


class _Sampler(NamedTuple):
    """What dialogues are held with."""

    engine: Engine
    tokenizer: PreTrainedTokenizerBase
    score_fn: ScoreFn | None
    config: GhostAttentionConfig

    def hold_chunk(
        self, dialogues: Sequence[InstructedDialogue], size: int, number: int
    ) -> tuple[list[list[Spoken]], dict[str, float]]:
        """Return what `hold` makes of the dialogues of a chunk of `size`."""
        return self.hold(dialogues[number * size : (number + 1) * size], first=number * size)

    def hold(
        self, dialogues: Sequence[InstructedDialogue], *, first: int
    ) -> tuple[list[list[Spoken]], dict[str, float]]:
        """Return the responses to `dialogues`, the instruction in every turn, and their metrics.

        `first` is the place of the first dialogue among all: seeds follow from places.
        """
        started = time.perf_counter()
        scores: list[float] = []
        spoken = hold_conversations(
            self.engine,
            self.tokenizer,
            [instructed_everywhere(dialogue) for dialogue in dialogues],
            sampling=self.config.sampling,
            seed_of=lambda place, turn: derived_seed(
                self.config.seed, "ghost attention", first + place, turn
            ),
            num_responses=self.config.num_responses,
            choose=first_of_each if self.score_fn is None else self._best(self.score_fn, scores),
            rows_per_batch=self.config.rows_per_batch,
        )
        responses = [response for held in spoken for response in held]
        count = max(1, len(responses))
        row = {
            "num_responses": len(responses),
            "mean_turns": len(responses) / len(dialogues),
            "mean_tokens": sum(len(response.ids) for response in responses) / count,
            "finished_share": sum(response.is_finished for response in responses) / count,
            "seconds_generate": round(time.perf_counter() - started, 4),
        }
        return spoken, row | ({"best_score": sum(scores) / len(scores)} if scores else {})

    def _best(self, score_fn: ScoreFn, scores: list[float]) -> Choose:
        """Return the choice of the highest gated score among those that ended; notes it."""

        def choose(candidates: Sequence[Candidates]) -> list[int]:
            if not candidates:
                return []
            rows = [TokenRow(c.prompt_ids, r.ids) for c in candidates for r in c.responses]
            gated_B = score_rows(
                score_fn, rows, [False] * len(rows), threshold=self.config.safety_threshold
            ).gated_B
            chosen = []
            for item, values in zip(candidates, gated_B.view(len(candidates), -1), strict=True):
                # One that was cut is chosen only where none ended.
                ranked = [
                    (response.is_finished, score)
                    for response, score in zip(item.responses, values.tolist(), strict=True)
                ]
                chosen.append(max(range(len(ranked)), key=lambda k: ranked[k]))
                scores.append(ranked[chosen[-1]][1])
            return chosen

        return choose


def read_spoken(chunk: Sequence[Sequence[Sequence[Any]]]) -> list[list[Spoken]]:
    """Return the dialogues of a stored chunk."""
    return [[Spoken(text, tuple(ids), bool(done)) for text, ids, done in held] for held in chunk]


def _load_sampler(
    spec: RunSpec,
    config: GhostAttentionConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: RunContext,
) -> _Sampler:
    """Return what samples, with the score function of the reward models, where there are some.

    Raises:
        RecordError: One of two reward models is missing, or several responses lack both.
        ServerError: The engine is a server that cannot be used; says why.
    """
    given = [axis for axis in Axis if axis.value in spec.inputs]
    if len(given) == 1:
        raise RecordError("inputs", f"{given[0]} alone does not choose; give both reward models")
    if not given and config.num_responses > 1:
        message = f"{config.num_responses} responses per turn need reward models that choose"
        raise RecordError("num_responses", message)
    score_fn = load_score_fn(spec, config, tokenizer, context) if given else None
    policy = load_policy(spec.inputs["policy"].path, dtype=context.dtype, device=context.device)
    engine = open_run_engine(spec, "policy", policy, tokenizer, context)
    return _Sampler(engine, tokenizer, score_fn, config)


def _summary(
    dialogues: Sequence[InstructedDialogue], spoken: Sequence[Sequence[Spoken]], made: TrainedRows
) -> dict[str, Any]:
    responses = [response for held in spoken for response in held]
    is_short = [d.trained_instruction != d.instruction for d in dialogues]
    return {
        "num_dialogues": len(dialogues),
        "num_rows": len(made.rows),
        "mean_turns": len(responses) / len(dialogues),
        "finished_share": sum(response.is_finished for response in responses) / len(responses),
        "short_share": sum(is_short) / len(is_short),
        "skipped": dict(made.skipped),
    }
