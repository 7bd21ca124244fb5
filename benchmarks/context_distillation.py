"""Safety context distillation on the sandbox: what was kept, and what the truth says of it.

Generic preprompts and those for a risk category are distilled by themselves (arXiv:2307.09288,
figure 28 has the same comparison).
"""

import math
import random
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

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
from policies.distilled import draw_preprompt, preprompted
from records.instruction_configs import ContextDistillationConfig, PrepromptChoice
from records.policy_configs import SFTConfig
from records.preferences import Axis, Preference
from records.preprompts import write_preprompts
from records.prompts import Prompt, write_prompts
from records.reward_configs import RewardModelConfig
from records.run_configs import SamplingConfig
from records.rundirs import RunDirectory
from records.snapshots import write_snapshot
from records.statistics import Proportion, wilson_proportion
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.grammar import CORPUS_QUALITY, write_response
from simulation.instructed import PREPROMPTS
from simulation.parsing import Says, read_response, understand
from simulation.prompts import describe, sample_prompt
from simulation.utilities import is_violation, safety

NUM_PAIRS, NUM_TRAINED, NUM_MEASURED = 1500, 600, 600
SAMPLING = SamplingConfig(temperature=0.8, max_new_tokens=40)
_CHOICES = (PrepromptChoice.GENERIC, PrepromptChoice.CATEGORY)
_ALONE = "alone"


def run() -> Result:
    """Distil the preprompts into the SFT policy; count true violations and false refusals."""
    before = calibrate()
    policy = instructed_policy()
    runs = _distilled(policy)
    categories = {name: summary_of(run)["categories"] for name, run in runs.items()}
    truth = {
        _ALONE: _truth(policy),
        **{f"{name} preprompt": _truth(policy, name) for name in _CHOICES},
        **{f"{name} distilled": _truth(run.outputs / "policy") for name, run in runs.items()},
    }
    _print(categories, truth)
    ours, peer = (
        round(1 - truth[name]["violations"]["value"], 4)
        for name in (f"{PrepromptChoice.CATEGORY} distilled", _ALONE)
    )
    return Result(
        name="context_distillation",
        unit="share of adversarial prompts answered without harm; the peer is the SFT policy",
        ours=ours,
        peer=peer,
        peer_version="the SFT policy it was made from",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={"categories": categories, "truth": truth},
    )


def _distilled(policy: Path) -> dict[PrepromptChoice, RunDirectory]:
    """Return a run for generic preprompts, and one for those of a category, on the same prompts."""
    write_preprompts(FOLDER / "preprompts.jsonl", PREPROMPTS)
    write_prompts(FOLDER / "adversarial.jsonl", _prompts("train", NUM_TRAINED, is_safety=True))
    inputs = {
        "policy": policy,
        "start": policy,
        "prompts": FOLDER / "adversarial.jsonl",
        "safety": _safety_model(policy),
        "preprompts": FOLDER / "preprompts.jsonl",
        "demonstrations": ordinary_demonstrations(),
    }
    tuning = SFTConfig(num_epochs=2, batch_size=24, max_tokens=512, optimizer=FINETUNING)
    runs = {}
    for choice in _CHOICES:
        config = ContextDistillationConfig(
            preprompts=choice, sampling=SAMPLING, num_threads=1, device="cpu", finetune=tuning
        )
        runs[choice] = finished(f"distillation-{choice}", config, inputs)
    return runs


def _prompts(split: str, count: int, *, is_safety: bool) -> list[Prompt]:
    rng = random.Random(f"distillation:{split}:{is_safety}")
    made = [sample_prompt(rng, is_safety=is_safety) for _ in range(count)]
    return [
        Prompt(
            prompt_id=f"{split}-{number}",
            dialogue=prompt.dialogue,
            is_safety=is_safety,
            risk_category=describe(prompt.dialogue).risk_category or "",
        )
        for number, prompt in enumerate(made)
    ]


def _safety_model(policy: Path) -> Path:
    """Return a safety reward model trained on simulated judgements."""
    snapshot = FOLDER / f"snapshot-{NUM_PAIRS}"
    if not snapshot.exists():
        write_snapshot(snapshot, _pairs(), selection={}, test_share=0.1)
    config = RewardModelConfig(
        axis=Axis.SAFETY,
        pairs_per_batch=16,
        max_tokens=256,
        safety_loss_weight=1.0,
        num_threads=1,
        device="cpu",
        optimizer=FINETUNING,
    )
    run = finished("safety", config, {"policy": policy, "snapshot": snapshot})
    return run.outputs / "reward_model"


def _pairs() -> list[Preference]:
    rng = random.Random("distillation pairs")
    annotator = SimulatedAnnotator(PERSONAS["careful"], seed=3)
    pairs: list[Preference] = []
    while len(pairs) < NUM_PAIRS:
        prompt = annotator.write_prompt(Axis.SAFETY).dialogue
        texts = [write_response(rng, understand(prompt), CORPUS_QUALITY) for _ in range(2)]
        verdict = annotator.judge(prompt, texts[0], texts[1], Axis.SAFETY)
        chosen, rejected = texts if verdict.prefers_left else texts[::-1]
        if chosen != rejected:
            pairs.append(
                Preference(
                    preference_id=f"p{len(pairs)}",
                    dialogue_id=f"d{len(pairs)}",
                    prompt=prompt,
                    chosen=chosen,
                    rejected=rejected,
                    axis=Axis.SAFETY,
                    rating=verdict.rating,
                    safety_bin=verdict.safety_bin,
                )
            )
    return pairs


def _truth(folder: Path, choice: PrepromptChoice | None = None) -> dict[str, Any]:
    """Return true safety and violations on adversarial prompts, false refusals on harmless ones.

    With a choice, a preprompt stands before each prompt, a generic one where it has no category.
    """
    adversarial = _prompts("test", NUM_MEASURED, is_safety=True)
    harmless = _prompts("test", NUM_MEASURED, is_safety=False)
    dialogues = [prompt.dialogue for prompt in adversarial]
    texts = _answers(folder, adversarial, choice)
    violations = sum(map(is_violation, dialogues, texts))
    refusals = sum(
        bool(read_response(text).saying(Says.REFUSAL))
        for text in _answers(folder, harmless, choice)
    )
    values = list(map(safety, dialogues, texts))
    half = 1.96 * stdev(values) / math.sqrt(len(values))
    return {
        "violations": wilson_proportion(violations, len(texts))._asdict(),
        "false_refusals": wilson_proportion(refusals, len(harmless))._asdict(),
        "safety": {"mean": fmean(values), "low": fmean(values) - half, "high": fmean(values) + half}
        | {"median": median(values)},
    }


def _answers(folder: Path, prompts: list[Prompt], choice: PrepromptChoice | None) -> list[str]:
    if choice is not None:
        rng = random.Random("preprompts before test prompts")
        prompts = [
            replace(
                prompt,
                dialogue=preprompted(
                    prompt.dialogue, draw_preprompt(rng, prompt, PREPROMPTS, choice)
                ),
            )
            for prompt in prompts
        ]
    return answers(folder, prompts, SAMPLING)


def _print(
    categories: Mapping[PrepromptChoice, Mapping[str, Any]], truth: Mapping[str, Mapping[str, Any]]
) -> None:
    """Print a table of what was kept and how scores moved, and one of what the truth says."""
    print(
        "| preprompts | category | kept | median of all | mean of all | mean of those kept |\n"
        + "| --- " * 6
        + "|",
        file=sys.stderr,
    )
    for choice, rows in categories.items():
        for name, row in rows.items():
            moved, kept = row["safety"]["all"], row["safety"]["kept"]
            cells = [
                cell(Proportion(**row["kept"])),
                f"{moved['median_before']:.3f} to {moved['median_after']:.3f}",
                f"{moved['mean_before']:.2f} to {moved['mean_after']:.2f}",
                f"{kept['mean_before']:.2f} to {kept['mean_after']:.2f}" if kept else "-",
            ]
            print("|", " | ".join([choice, name, *cells]), "|", file=sys.stderr)
    print("\n| policy | violations | true safety | false refusals |", file=sys.stderr)
    print("| --- " * 4 + "|", file=sys.stderr)
    for name, row in truth.items():
        violations, refusals = (
            cell(Proportion(**row[figure])) for figure in ("violations", "false_refusals")
        )
        mean = "{mean:.2f} ({low:.2f} to {high:.2f})".format(**row["safety"])
        print("|", " | ".join([name, violations, mean, refusals]), "|", file=sys.stderr)
