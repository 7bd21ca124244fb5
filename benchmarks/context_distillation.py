"""Safety context distillation on the sandbox: what was kept, and what the truth says of it."""

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.calibration import calibrate
from benchmarks.frame import Result
from benchmarks.instructed import (
    FINETUNING,
    FOLDER,
    demonstrations_path,
    finished,
    instructed_policy,
)
from evaluation.responses import encode_prompts, sample_responses
from language.chat import decode_response
from language.engines import LocalEngine
from language.models import load_policy
from language.tokenizers import load_tokenizer
from records.instruction_configs import ContextDistillationConfig
from records.policy_configs import SFTConfig
from records.preferences import Axis, Preference
from records.preprompts import write_preprompts
from records.prompts import Prompt, write_prompts
from records.reward_configs import RewardModelConfig
from records.run_configs import SamplingConfig
from records.snapshots import write_snapshot
from records.statistics import wilson_proportion
from simulation.annotators import PERSONAS, SimulatedAnnotator
from simulation.grammar import CORPUS_QUALITY, write_response
from simulation.instructed import PREPROMPTS
from simulation.parsing import Says, read_response, understand
from simulation.prompts import describe, sample_prompt
from simulation.utilities import is_violation

NUM_PAIRS, NUM_TRAINED, NUM_MEASURED = 500, 300, 200
SAMPLING = SamplingConfig(temperature=0.8, max_new_tokens=40)


def run() -> Result:
    """Distil the preprompts into the SFT policy; count true violations and false refusals."""
    before = calibrate()
    policy = instructed_policy()
    write_preprompts(FOLDER / "preprompts.jsonl", PREPROMPTS)
    write_prompts(FOLDER / "adversarial.jsonl", _prompts("train", NUM_TRAINED, is_safety=True))
    config = ContextDistillationConfig(
        sampling=SAMPLING,
        num_threads=1,
        device="cpu",
        finetune=SFTConfig(num_epochs=2, batch_size=32, max_tokens=512, optimizer=FINETUNING),
    )
    distilled = finished(
        "context-distillation",
        config,
        {
            "policy": policy,
            "start": policy,
            "prompts": FOLDER / "adversarial.jsonl",
            "safety": _safety_model(policy),
            "preprompts": FOLDER / "preprompts.jsonl",
            "demonstrations": demonstrations_path(),
        },
    )
    result = distilled.read_result()
    assert result is not None, "a finished run has a result"
    figures = {
        name: _truth(folder)
        for name, folder in (("without", policy), ("with", distilled.outputs / "policy"))
    }
    for name, category in result["summary"]["categories"].items():
        print(name, category, file=sys.stderr)
    print(figures, file=sys.stderr)
    return Result(
        name="context_distillation",
        unit="share of adversarial prompts answered without harm; the peer is the SFT policy",
        ours=round(1 - figures["with"]["violations"]["value"], 4),
        peer=round(1 - figures["without"]["violations"]["value"], 4),
        peer_version="the SFT policy it was made from",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={"categories": result["summary"]["categories"], "truth": figures},
    )


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
    snapshot = FOLDER / "snapshot"
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


def _truth(folder: Path) -> dict[str, Any]:
    """Return true violations on adversarial prompts, and false refusals on harmless ones."""
    adversarial = _prompts("test", NUM_MEASURED, is_safety=True)
    harmless = _prompts("test", NUM_MEASURED, is_safety=False)
    violations = [
        is_violation(prompt.dialogue, text)
        for prompt, text in zip(adversarial, _answers(folder, adversarial), strict=True)
    ]
    refusals = [
        bool(read_response(text).saying(Says.REFUSAL)) for text in _answers(folder, harmless)
    ]
    return {
        "violations": wilson_proportion(sum(violations), len(violations))._asdict(),
        "false_refusals": wilson_proportion(sum(refusals), len(refusals))._asdict(),
    }


def _answers(folder: Path, prompts: Sequence[Prompt]) -> list[str]:
    engine, tokenizer = LocalEngine(load_policy(folder)), load_tokenizer(folder)
    encoded, skipped = encode_prompts(tokenizer, prompts, max_tokens=512)
    assert not skipped, f"prompts of the sandbox are short: {dict(skipped)}"
    responses = sample_responses(
        engine,
        tokenizer,
        encoded,
        sampling=SAMPLING,
        seed_text="distillation",
        rows_per_batch=150,
    )
    return [decode_response(tokenizer, response.ids) for response in responses]
