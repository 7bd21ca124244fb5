"""Ghost Attention on the sandbox: obedience by turn with it and without, judged by the truth.

The world's instructions say how responses are to begin or to end. The policy was never shown one
that outlasts its turn; obedience is found by parsing the responses.
"""

import sys
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.ablation_figures import cell
from benchmarks.calibration import calibrate
from benchmarks.finished import summary_of
from benchmarks.frame import Result
from benchmarks.instructed import (
    FINETUNING,
    FOLDER,
    answers,
    finished,
    instructed_policy,
    ordinary_demonstrations,
)
from evaluation.persistence import Trial, draw_trials, hold_trials, summarise
from evaluation.sandbox import obeys_rule
from evaluation.winrates import win_rate
from language.engines import LocalEngine
from language.models import load_policy
from language.tokenizers import load_tokenizer
from records.constraints import read_constraints, write_constraints
from records.instruction_configs import GhostAttentionConfig, PersistenceConfig, TrainedTurns
from records.policy_configs import SFTConfig
from records.prompts import read_prompts, write_prompts
from records.run_configs import SamplingConfig
from records.scripts import Script
from records.statistics import Proportion, wilson_proportion
from simulation.corpus import sample_prompts
from simulation.instructions import sandbox_constraints, split_instructions
from simulation.parsing import Says, read_response
from simulation.utilities import true_preference, true_utility

NUM_MEASURED, NUM_TURNS = 200, 20
NUM_ORDINARY = 1000
"""Prompts on which quality is compared, where nobody instructs."""
SAMPLING = SamplingConfig(temperature=0.7, max_new_tokens=40)
_SHOWN_TURNS = (1, 2, 4, 6, 8, 10, 15, 20)
_PATHS = {name: FOLDER / f"{name}.jsonl" for name in ("constraints", "prompts", "heldout")}
_MEASURE = PersistenceConfig(
    num_dialogues=NUM_MEASURED,
    num_turns=NUM_TURNS,
    max_constraints=2,
    short_share=0.5,
    sampling=SAMPLING,
    obedience_function="evaluation.sandbox:obeys_rule",
    num_threads=1,
    device="cpu",
)


class Arm(NamedTuple):
    """What one policy is fine-tuned on."""

    name: str
    num_dialogues: int
    max_turns: int
    trained_turns: TrainedTurns


_ARMS = (
    Arm("8", 400, 8, TrainedTurns.EVERY),
    Arm("20-last", 400, 20, TrainedTurns.LAST),
    Arm("20", 200, 20, TrainedTurns.EVERY),
)
"""Every response of dialogues shorter than those measured; the last response of dialogues as long,
which is the paper's way; every response of half as many of them, which is what is reported."""


def run() -> Result:
    """Fine-tune the SFT policy by Ghost Attention and hold 20 turns with both."""
    before = calibrate()
    policy = instructed_policy()
    write_constraints(_PATHS["constraints"], sandbox_constraints())
    write_prompts(
        _PATHS["prompts"], sample_prompts(11, max(arm.num_dialogues for arm in _ARMS), 0.0)
    )
    write_prompts(_PATHS["heldout"], sample_prompts(12, NUM_MEASURED, 0.0))
    tuned = {arm: _tuned(policy, arm) for arm in _ARMS}
    measured = {arm: _measured(arm, policy, own) for arm, own in tuned.items()}
    best = measured[_ARMS[-1]]
    columns = {
        "told every turn": _told_every_turn(policy)["obedience"],
        "without": [{**row, "policy": row["baseline"]} for row in best["obedience"]],
        **{f"with, {arm.name}": own["obedience"] for arm, own in measured.items()},
    }
    rows = [
        {"turn": turn + 1} | {name: column[turn]["policy"] for name, column in columns.items()}
        for turn in range(NUM_TURNS)
    ]
    quality = _quality(policy, tuned[_ARMS[-1]])
    _print(rows, quality)
    return Result(
        name="ghost_attention",
        unit="share of turns 2 to 20 that obey turn 1; the peer is the policy without it",
        ours=round(best["obedience_later_turns"], 4),
        peer=round(best["baseline_obedience_later_turns"], 4),
        peer_version="the SFT policy it was made from",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={"dialogues": NUM_MEASURED, "obedience": rows, "ordinary_prompts": quality},
    )


def _tuned(policy: Path, arm: Arm) -> Path:
    """Return the policy after Ghost Attention."""
    config = GhostAttentionConfig(
        num_dialogues=arm.num_dialogues,
        min_turns=2,
        max_turns=arm.max_turns,
        max_constraints=2,
        trained_turns=arm.trained_turns,
        sampling=SAMPLING,
        rows_per_batch=150,
        num_threads=1,
        device="cpu",
        finetune=SFTConfig(num_epochs=2, batch_size=16, max_tokens=768, optimizer=FINETUNING),
    )
    inputs = {
        "policy": policy,
        "start": policy,
        "prompts": _PATHS["prompts"],
        "constraints": _PATHS["constraints"],
        "demonstrations": ordinary_demonstrations(),
    }
    return finished(f"ghost-attention-{arm.name}", config, inputs).outputs / "policy"


def _measured(arm: Arm, policy: Path, tuned: Path) -> dict[str, Any]:
    """Return obedience by turn of a policy so tuned and, once, of the one it was made from."""
    inputs = {
        "policy": tuned,
        **({"baseline": policy} if arm is _ARMS[-1] else {}),
        "prompts": _PATHS["heldout"],
        "constraints": _PATHS["constraints"],
    }
    return summary_of(finished(f"persistence-{arm.name}", _MEASURE, inputs))


def _told_every_turn(policy: Path) -> dict[str, Any]:
    """Return the measure of the same dialogues, the instruction in every turn: what is taught."""
    constraints = list(read_constraints(_PATHS["constraints"]))
    trials = draw_trials(list(read_prompts(_PATHS["heldout"])), constraints, _MEASURE)
    told = [_told_again(trial) for trial in trials]
    engine = LocalEngine(load_policy(policy))
    held = hold_trials(engine, load_tokenizer(policy), told, _MEASURE, obeys_rule)
    return summarise(told, {"policy": held}, num_examples=0)


def _told_again(trial: Trial) -> Trial:
    """Return the dialogue with the first turn's instruction in every turn."""
    first, *rest = trial.script.turns
    _, request = split_instructions(first)
    instruction = first.removesuffix(request)
    turns = (first, *(f"{instruction}{text}" for text in rest))
    return trial._replace(script=Script(turns=turns, system=trial.script.system))


def _quality(policy: Path, tuned: Path) -> dict[str, Any]:
    """Return what Ghost Attention cost where nobody instructs: true utility, wins, fluency."""
    prompts = list(sample_prompts(13, NUM_ORDINARY, 0.0))
    texts = {
        name: answers(folder, prompts, SAMPLING)
        for name, folder in (("without", policy), ("with", tuned))
    }
    dialogues = [prompt.dialogue for prompt in prompts]
    both = zip(dialogues, texts["with"], texts["without"], strict=True)
    return {
        "wins": win_rate([true_preference(*item) for item in both])._asdict(),
        "utility": {name: fmean(map(true_utility, dialogues, own)) for name, own in texts.items()},
        "fluent": {
            name: wilson_proportion(sum(map(_is_fluent, own)), len(own))._asdict()
            for name, own in texts.items()
        },
    }


def _is_fluent(response: str) -> bool:
    """Return whether a response ends, and each of its sentences is one of this world."""
    reading = read_response(response)
    return reading.is_finished and bool(reading.sentences) and not reading.saying(Says.UNKNOWN)


def _print(rows: list[dict[str, Any]], quality: dict[str, Any]) -> None:
    print("|", " | ".join(rows[0]), "|", file=sys.stderr)
    print("| --- " * len(rows[0]) + "|", file=sys.stderr)
    for row in rows:
        if row["turn"] in _SHOWN_TURNS:
            turn, *shares = row.values()
            cells = [cell(Proportion(**share)) for share in shares]
            print("|", " | ".join([str(turn), *cells]), "|", file=sys.stderr)
    print(quality, file=sys.stderr)
