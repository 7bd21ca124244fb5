"""Does turn n still obey turn 1: dialogues in which an instruction is given once.

arXiv:2307.09288, section 3.3 and appendix A.3.5.
"""

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from evaluation.obedience import Obeys
from evaluation.reports import spread
from evaluation.responses import seed_of_text
from language.chat import TagInjectionError, decode_response, encode_prompt
from language.conversations import Spoken, hold_conversations
from language.distributed import gather_objects, shard
from language.engines import Engine, open_run_engine
from language.generation import GenerationRequest
from language.models import load_policy
from language.runs import RunContext, RunStopped
from language.tokenizers import eos_id_of, load_tokenizer, tokenizer_digest
from records.constraints import (
    Constraint,
    Instruction,
    default_constraints,
    draw_instruction,
    read_constraints,
)
from records.errors import RecordError
from records.functions import load_function
from records.instruction_configs import PersistenceConfig
from records.prompts import Prompt, read_prompts
from records.rundirs import RunDirectory, RunSpec
from records.scripts import Script, instructed_once, lengthened, script_of
from records.servers import LOCAL
from records.statistics import wilson_proportion


class Trial(NamedTuple):
    """One dialogue: the instruction, and what the user says, the instruction in the first turn."""

    number: int
    instruction: Instruction
    script: Script


class Held(NamedTuple):
    """A dialogue as one policy held it."""

    responses: list[str]
    verdicts: list[dict[str, bool]]
    """At each turn, whether each constraint (by category) was kept to."""


def measure_persistence(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Hold the same dialogues with `policy` and `baseline`, and write obedience by turn.

    Several processes share the dialogues. There is nothing to resume: a run that is started again
    begins anew and comes to the same result.

    Raises:
        RunStopped: Someone asked the run to stop.
        RecordError: There is no usable prompt or constraint, or an engine for no baseline.
        ValueError: The tokenizers differ.
        ServerError: An engine is a server that cannot be used, or failed; says why.
    """
    config = spec.config
    assert isinstance(config, PersistenceConfig), f"{type(config).__name__} is another run's"
    paths = {role: item.path for role, item in spec.inputs.items()}
    obeys: Obeys = load_function("obedience_function", config.obedience_function)
    tokenizer = load_tokenizer(paths["policy"])
    names = ["policy", *(["baseline"] if "baseline" in paths else [])]
    if config.baseline_engine != LOCAL and "baseline" not in paths:
        message = f"{config.baseline_engine} has nothing to draw: the run has no baseline"
        raise RecordError("baseline_engine", message)
    digests = {tokenizer_digest(load_tokenizer(paths[name])) for name in names}
    if len(digests) != 1:
        raise ValueError("baseline: its tokenizer differs from the policy's; use one")
    constraints = (
        list(read_constraints(paths["constraints"]))
        if "constraints" in paths
        else [constraint for constraint in default_constraints() if constraint.question]
    )
    if context.is_main:
        run_directory.drop_metrics_after(0)
    trials = draw_trials(list(read_prompts(paths["prompts"])), constraints, config)
    own = shard(trials, context.rank, context.world_size)
    total_steps = len(names) * config.num_turns
    held: dict[str, list[Held]] = {}
    for place, name in enumerate(names):

        def on_turn(turn: int, before: int = place * config.num_turns) -> None:
            context.log(before + turn, total_steps=total_steps)
            # Alone only: several processes may be at different turns.
            if context.world_size == 1 and context.stop_requested:
                raise RunStopped

        engine = _open_engine(spec, name, tokenizer, context)
        mine = hold_trials(engine, tokenizer, own, config, obeys, on_turn=on_turn)
        del engine  # room for the next policy
        held[name] = _in_order(gather_objects(mine), len(trials))
        if context.stop_requested:
            raise RunStopped
    if context.is_main:
        summary = summarise(trials, held, num_examples=config.num_examples)
        run_directory.write_result(summary, {})


def _open_engine(
    spec: RunSpec, name: str, tokenizer: PreTrainedTokenizerBase, context: RunContext
) -> Engine:
    """Return what holds the dialogues with the policy that is the input `name`."""
    policy = load_policy(spec.inputs[name].path, dtype=context.dtype, device=context.device)
    field = "engine" if name == "policy" else f"{name}_engine"
    return open_run_engine(spec, name, policy, tokenizer, context, field=field)


def draw_trials(
    prompts: Sequence[Prompt], constraints: Sequence[Constraint], config: PersistenceConfig
) -> list[Trial]:
    """Return the dialogues to hold, each decided by the seed and its number alone.

    Raises:
        RecordError: There is no prompt that is no safety prompt, or no constraint.
    """
    scripts = [script_of(prompt) for prompt in prompts if not prompt.is_safety]
    if not scripts:
        raise RecordError("prompts", "the measure needs prompts that are no safety prompts")
    trials = []
    for number in range(config.num_dialogues):
        rng = random.Random(f"persistence:{config.seed}:{number}")
        script = lengthened(scripts[number % len(scripts)], scripts, config.num_turns, rng)
        instruction = draw_instruction(rng, constraints, max_constraints=config.max_constraints)
        is_short = rng.random() < config.short_share
        text = instruction.short if is_short else instruction.text
        trials.append(Trial(number, instruction, instructed_once(script, text, config.placement)))
    return trials


def hold_trials(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    trials: Sequence[Trial],
    config: PersistenceConfig,
    obeys: Obeys,
    *,
    on_turn: Any = None,  # noqa: ANN401 - as hold_conversations takes it
) -> list[Held]:
    """Return the dialogues as `engine` holds them, judged at every turn."""
    spoken = hold_conversations(
        engine,
        tokenizer,
        [trial.script for trial in trials],
        sampling=config.sampling,
        seed_of=lambda place, turn: seed_of_text(
            f"{config.seed}:persistence:{trials[place].number}:{turn}"
        ),
        rows_per_batch=config.rows_per_batch,
        on_turn=on_turn,
    )
    answers = _answers_aside(engine, tokenizer, trials, spoken, config)
    held = []
    for place, (trial, responses) in enumerate(zip(trials, spoken, strict=True)):
        verdicts = [
            {
                constraint.category: obeys(
                    constraint, answers.get((place, turn, constraint.question), response.text)
                )
                for constraint in trial.instruction.constraints
                if not constraint.question or (place, turn, constraint.question) in answers
            }
            for turn, response in enumerate(responses)
        ]
        held.append(Held([response.text for response in responses], verdicts))
    return held


def _answers_aside(
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    trials: Sequence[Trial],
    spoken: Sequence[Sequence[Spoken]],
    config: PersistenceConfig,
) -> dict[tuple[int, int, str], str]:
    """Return the answers to the constraints' questions, by dialogue, turn and question.

    Each is asked in place of the user's turn; the dialogue does not go on from it. At the first
    turn, where the instruction is given, it follows the instruction.
    """
    requests: dict[tuple[int, int, str], GenerationRequest] = {}
    room = engine.limits.max_positions - config.sampling.max_new_tokens
    for place, (trial, responses) in enumerate(zip(trials, spoken, strict=True)):
        texts = [response.text for response in responses]
        for question in (c.question for c in trial.instruction.constraints if c.question):
            for turn in range(len(responses)):
                ids = _question_ids(tokenizer, trial.script, texts[:turn], question)
                if ids is not None and len(ids) <= room:
                    requests[(place, turn, question)] = GenerationRequest(
                        prompt_ids=ids,
                        temperature=config.sampling.temperature,
                        top_p=config.sampling.top_p,
                        max_new_tokens=config.sampling.max_new_tokens,
                        seed=seed_of_text(f"{config.seed}:aside:{trial.number}:{turn}:{question}"),
                    )
    generated = engine.generate(
        list(requests.values()),
        eos_ids=[eos_id_of(tokenizer)],
        rows_per_batch=config.rows_per_batch,
    )
    return {
        key: decode_response(tokenizer, response.ids)
        for key, (response,) in zip(requests, generated, strict=True)
    }


def _question_ids(
    tokenizer: PreTrainedTokenizerBase, script: Script, responses: Sequence[str], question: str
) -> tuple[int, ...] | None:
    turn = len(responses)
    asked = question if turn else f"{script.turns[0]} {question}"
    turns = (*script.turns[:turn], asked)
    try:
        return tuple(
            encode_prompt(tokenizer, Script(turns=turns, system=script.system).prompt(responses))
        )
    except TagInjectionError:
        return None


def summarise(
    trials: Sequence[Trial], held: dict[str, list[Held]], *, num_examples: int
) -> dict[str, Any]:
    """Return obedience by turn and by category of each policy, ready for JSON.

    A turn is obedient where every constraint of the instruction is kept to. Shares are over the
    dialogues that reached the turn, which are independent, with Wilson's 95% interval.
    """
    num_turns = max(len(trial.script.turns) for trial in trials)
    turns: list[dict[str, Any]] = [
        {
            "turn": turn + 1,
            **{name: _obedience(dialogues, turn) for name, dialogues in held.items()},
        }
        for turn in range(num_turns)
    ]
    categories = sorted({c.category for trial in trials for c in trial.instruction.constraints})
    summary: dict[str, Any] = {
        "num_dialogues": len(trials),
        "num_turns": num_turns,
        "obedience": turns,
        "obedience_by_category": {
            category: {
                name: _kept(dialogues, category, first_turn=1) for name, dialogues in held.items()
            }
            for category in categories
        },
        "examples": [_example(trials, held, place) for place in spread(len(trials), num_examples)],
    }
    for name in held:
        prefix = "" if name == "policy" else f"{name}_"
        later = [row[name]["value"] for row in turns[1:] if row[name]["value"] is not None]
        summary[f"{prefix}obedience_first_turn"] = turns[0][name]["value"]
        summary[f"{prefix}obedience_later_turns"] = fmean(later) if later else None
        summary[f"{prefix}obedience_last_turn"] = turns[-1][name]["value"]
    return summary


def _obedience(dialogues: Sequence[Held], turn: int) -> dict[str, Any]:
    judged = [held.verdicts[turn] for held in dialogues if len(held.verdicts) > turn]
    whole = [all(verdict.values()) for verdict in judged if verdict]
    return wilson_proportion(sum(whole), len(whole))._asdict()


def _kept(dialogues: Sequence[Held], category: str, *, first_turn: int) -> dict[str, Any]:
    """Return the mean over dialogues of the share of later turns that keep to a category.

    One dialogue is one trial: its turns are not independent of each other.
    """
    shares = []
    for held in dialogues:
        verdicts = [v[category] for v in held.verdicts[first_turn:] if category in v]
        if verdicts:
            shares.append(sum(verdicts) / len(verdicts))
    return wilson_proportion(sum(shares), len(shares))._asdict()


def _example(trials: Sequence[Trial], held: dict[str, list[Held]], place: int) -> dict[str, Any]:
    return {
        "instruction": trials[place].instruction.text,
        "users": list(trials[place].script.turns),
        **{name: dialogues[place].responses for name, dialogues in held.items()},
    }


def _in_order(shards: Sequence[Sequence[Held]], count: int) -> list[Held]:
    """Return what the processes made in the order of the dialogues they were dealt from."""
    return [shards[index % len(shards)][index // len(shards)] for index in range(count)]
