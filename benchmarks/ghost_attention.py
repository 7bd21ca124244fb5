"""Ghost Attention on the sandbox: obedience by turn with it and without, judged by the truth.

The world's instructions say how responses are to begin or to end. The policy was never shown one
that outlasts its turn; obedience is found by parsing the responses.
"""

import sys

from benchmarks.calibration import calibrate
from benchmarks.frame import Result
from benchmarks.instructed import (
    FINETUNING,
    FOLDER,
    demonstrations_path,
    finished,
    instructed_policy,
)
from records.constraints import write_constraints
from records.instruction_configs import GhostAttentionConfig, PersistenceConfig, TrainedTurns
from records.policy_configs import SFTConfig
from records.prompts import write_prompts
from records.run_configs import SamplingConfig
from simulation.corpus import sample_prompts
from simulation.instructions import sandbox_constraints

NUM_TRAINED, NUM_MEASURED, NUM_TURNS = 150, 48, 20
SAMPLING = SamplingConfig(temperature=0.7, max_new_tokens=40)
_SHOWN_TURNS = (1, 2, 4, 6, 8, 10, 15, 20)


def run() -> Result:
    """Fine-tune the SFT policy by Ghost Attention and hold 20 turns with both."""
    before = calibrate()
    policy = instructed_policy()
    paths = {name: FOLDER / f"{name}.jsonl" for name in ("constraints", "prompts", "heldout")}
    write_constraints(paths["constraints"], sandbox_constraints())
    write_prompts(paths["prompts"], sample_prompts(11, NUM_TRAINED, 0.0))
    write_prompts(paths["heldout"], sample_prompts(12, NUM_MEASURED, 0.0))
    config = GhostAttentionConfig(
        num_dialogues=NUM_TRAINED,
        min_turns=2,
        max_turns=8,
        max_constraints=2,
        trained_turns=TrainedTurns.EVERY,
        sampling=SAMPLING,
        rows_per_batch=150,
        num_threads=1,
        device="cpu",
        finetune=SFTConfig(num_epochs=2, batch_size=16, max_tokens=768, optimizer=FINETUNING),
    )
    tuned = finished(
        "ghost-attention",
        config,
        {
            "policy": policy,
            "start": policy,
            "prompts": paths["prompts"],
            "constraints": paths["constraints"],
            "demonstrations": demonstrations_path(),
        },
    )
    measure = PersistenceConfig(
        num_dialogues=NUM_MEASURED,
        num_turns=NUM_TURNS,
        max_constraints=2,
        short_share=0.5,
        sampling=SAMPLING,
        obedience_function="evaluation.sandbox:obeys_rule",
        num_threads=1,
        device="cpu",
    )
    inputs = {
        "policy": tuned.outputs / "policy",
        "baseline": policy,
        "prompts": paths["heldout"],
        "constraints": paths["constraints"],
    }
    result = finished("persistence", measure, inputs).read_result()
    assert result is not None, "a finished run has a result"
    summary = result["summary"]
    rows = [row for row in summary["obedience"] if row["turn"] in _SHOWN_TURNS]
    print("| turn | without | with Ghost Attention |\n| --- | --- | --- |", file=sys.stderr)
    for row in rows:
        cells = [_cell(row["baseline"]), _cell(row["policy"])]
        print(f"| {row['turn']} | {cells[0]} | {cells[1]} |", file=sys.stderr)
    return Result(
        name="ghost_attention",
        unit="share of turns 2 to 20 that obey turn 1; the peer is the policy without it",
        ours=round(summary["obedience_later_turns"], 4),
        peer=round(summary["baseline_obedience_later_turns"], 4),
        peer_version="the SFT policy it was made from",
        floor_share=None,
        calibration={"before": before, "after": calibrate()},
        details={"dialogues": NUM_MEASURED, "obedience": summary["obedience"]},
    )


def _cell(share: dict[str, float]) -> str:
    if share["value"] is None:
        return "-"
    value, low, high = (100 * share[name] for name in ("value", "low", "high"))
    return f"{value:.0f}% ({low:.0f} to {high:.0f}) of {share['n']}"
