"""Reward-model training: pairs per CPU second against TRL's RewardTrainer, float32, one thread."""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.texts import llama_shape, load_pairs, make_policy
from language.chat import encode_prompt, encode_response
from records.configs import MarginTable, RewardModelConfig, RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from records.snapshots import write_snapshot

TRL = ["torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "datasets", "accelerate", "peft"]
NUM_PAIRS, PAIRS_PER_BATCH, MAX_TOKENS = 256, 8, 1024
HERE = Path(__file__).parent


def run() -> Result:
    """Train both on the same pairs, model shape and batch size."""
    before = calibrate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(NUM_PAIRS)
        tokenizer = make_policy(folder / "policy", "nano", texts)
        everything = {p.dialogue_id: "train" for p in texts.preferences}
        write_snapshot(folder / "snapshot", texts.preferences, selection={}, splits=everything)
        axes = {p.axis for p in texts.preferences}
        config = RewardModelConfig(
            num_threads=1,
            pairs_per_batch=PAIRS_PER_BATCH,
            max_tokens=MAX_TOKENS,
            margin_table=MarginTable.NONE,
            other_axis_share=0.4 if len(axes) > 1 else 0.0,
            checkpoint_every=10_000,
        )
        inputs = {role: RunInput(folder / role, "") for role in ("policy", "snapshot")}
        spec = RunSpec(
            kind=RunKind.REWARD_MODEL, config=config, inputs=inputs, code_commit="benchmark"
        )
        run_directory = RunDirectory.create(folder / "run", spec)
        with (folder / "pairs.jsonl").open("w") as file:
            num_tokens = 0
            for p in texts.preferences:
                prompt = tokenizer.decode(encode_prompt(tokenizer, p.prompt))
                row = {"chosen": f"{prompt} {p.chosen}", "rejected": f"{prompt} {p.rejected}"}
                file.write(json.dumps(row) + "\n")
                num_tokens += 2 * len(encode_prompt(tokenizer, p.prompt))
                num_tokens += len(encode_response(tokenizer, p.chosen))
                num_tokens += len(encode_response(tokenizer, p.rejected))
        ours = run_child(
            sys.executable,
            HERE / "ours" / "reward_model.py",
            str(run_directory.root),
            str(PAIRS_PER_BATCH),
        )
        peer = run_child(
            peer_python("trl", TRL),
            HERE / "peers" / "trl_reward.py",
            *("--pairs", str(folder / "pairs.jsonl")),
            *("--tokenizer", str(folder / "policy")),
            *("--shape", json.dumps(llama_shape(folder / "policy"))),
            *("--pairs-per-batch", str(PAIRS_PER_BATCH)),
            *("--max-tokens", str(MAX_TOKENS)),
        )
        shape = json.loads((folder / "policy" / "config.json").read_text())
    tokens_per_pair = num_tokens / len(texts.preferences)
    rate = ours["pairs_per_cpu_second"]
    flops = 6 * matmul_parameters(shape) * tokens_per_pair * rate
    return Result(
        name="reward_model_training",
        unit="pairs per CPU second",
        ours=round(rate, 2),
        peer=round(peer["pairs_per_cpu_second"], 2),
        peer_version=f"TRL {peer['version']} RewardTrainer, float32, its default sampler",
        floor_share=round(flops / (before["gflops"] * 1e9), 3),
        calibration={"before": before, "after": calibrate()},
        details={
            "model": "nano",
            "source": texts.source,
            "pairs": len(texts.preferences),
            "tokens_per_pair": round(tokens_per_pair, 1),
            "floor": "6 FLOP per matrix parameter and real token, over the matmul rate",
            "peak_megabytes": round(ours["peak_megabytes"]),
            "peer_peak_megabytes": round(peer["peak_megabytes"]),
        },
    )


def matmul_parameters(shape: dict[str, int]) -> int:
    """Return the parameters of a Llama's layers that take part in a matrix product per token."""
    hidden = shape["hidden_size"]
    per_layer = 4 * hidden**2 + 3 * hidden * shape["intermediate_size"]
    return shape["num_hidden_layers"] * per_layer
