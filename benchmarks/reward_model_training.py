"""Reward-model training: pairs per CPU second against TRL's RewardTrainer, one thread, two sizes.

TRL runs as it comes, and tuned by hand: without checkpointing, in batches of like length, and in
the type that is quicker for it at this size. The result's peer is the tuned one.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.texts import Texts, chosen_sizes, llama_shape, load_pairs, make_policy
from language.chat import encode_prompt, encode_response
from language.floors import llama_flops
from records.reward_configs import MarginTable, RewardModelConfig
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec
from records.snapshots import write_snapshot

TRL = ["torch==2.13.0", "transformers==5.23.0", "trl==1.16.0", "datasets", "accelerate", "peft"]
PAIRS_PER_BATCH, MAX_TOKENS = 8, 1024
HERE = Path(__file__).parent


class Setting(NamedTuple):
    """How a size is trained."""

    num_pairs: int
    dtypes: tuple[str, ...]
    """Ours: the types that the layers compute in, a result for each."""
    tuned_mode: str
    """TRL's quicker mode at this size."""


SETTINGS = {
    "nano": Setting(160, ("float32",), "float32"),
    "small": Setting(48, ("float32", "bfloat16"), "autocast"),
}


class Work(NamedTuple):
    """What is trained on, and how many tokens it is."""

    texts: Texts
    num_real: int
    """Tokens of all rows."""
    num_computed: int
    """The same with each pair's prompt but once."""
    shape: dict[str, int]

    @property
    def num_pairs(self) -> int:
        """Pairs of one epoch."""
        return len(self.texts.preferences)


def run() -> Iterator[Result]:
    """Train both on the same pairs, model shape and batch size; a result for each size and type.

    `CONCORD_BENCH_SIZE` names one size.
    """
    for size in chosen_sizes():
        yield from _compare(size, SETTINGS[size])


def _compare(size: str, setting: Setting) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(setting.num_pairs)
        tokenizer = make_policy(folder / "policy", size, texts)
        num_tokens = _write_pairs(folder / "pairs.jsonl", texts, tokenizer)
        shape = json.loads((folder / "policy" / "config.json").read_text())
        work = Work(texts, *num_tokens, shape)
        before = calibrate()
        peers = {mode: _train_peer(folder, mode) for mode in ("default", setting.tuned_mode)}
        for dtype in setting.dtypes:
            ours = _train(folder, texts, dtype)
            after = calibrate()
            calibration = {"before": before, "after": after}
            yield _result(size, dtype, setting.tuned_mode, work, ours, peers, calibration)
            before = after


def _train_peer(folder: Path, mode: str) -> dict[str, Any]:
    return run_child(
        peer_python("trl", TRL),
        HERE / "peers" / "trl_reward.py",
        *("--pairs", str(folder / "pairs.jsonl")),
        *("--tokenizer", str(folder / "policy")),
        *("--shape", json.dumps(llama_shape(folder / "policy"))),
        *("--pairs-per-batch", str(PAIRS_PER_BATCH)),
        *("--max-tokens", str(MAX_TOKENS)),
        *("--mode", mode),
    )


def _result(
    size: str,
    dtype: str,
    tuned_mode: str,
    work: Work,
    ours: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    calibration: dict[str, dict[str, float]],
) -> Result:
    rate = ours["pairs_per_cpu_second"]
    rates = {mode: peer["pairs_per_cpu_second"] for mode, peer in peers.items()}
    tokens = work.num_computed / work.num_pairs
    flops = 3 * llama_flops(work.shape, tokens=tokens, read=2) * rate
    floor = min(measured[f"gflops_{dtype}"] for measured in calibration.values())
    return Result(
        name="reward_model_training",
        unit="pairs per CPU second",
        ours=round(rate, 2),
        peer=round(rates[tuned_mode], 2),
        peer_version=f"TRL {peers['default']['version']} RewardTrainer, tuned",
        floor_share=round(flops / (floor * 1e9), 3),
        calibration=calibration,
        details={
            "model": size,
            "dtype": dtype,
            "peer_mode": tuned_mode,
            "peer_default": round(rates["default"], 2),
            "ratio_to_default": round(rate / rates["default"], 2),
            "source": work.texts.source,
            "pairs": work.num_pairs,
            "tokens_per_pair": round(work.num_real / work.num_pairs, 1),
            "computed_tokens_per_pair": round(work.num_computed / work.num_pairs, 1),
            "tokens_per_cpu_second": round(rate * work.num_real / work.num_pairs, 1),
            "floor": "6 FLOP per matrix parameter and token, prompts once, the last layer's output "
            "at last tokens alone, over the matmul rate",
            "peak_megabytes": round(ours["peak_megabytes"]),
            "peer_peak_megabytes": {m: round(p["peak_megabytes"]) for m, p in peers.items()},
        },
    )


def _write_pairs(path: Path, texts: Texts, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Write the pairs for the peer; return the tokens of all rows, and with prompts but once."""
    num_real = num_computed = 0
    with path.open("w", encoding="utf-8") as file:
        for preference in texts.preferences:
            prompt_ids = encode_prompt(tokenizer, preference.prompt)
            responses = {"chosen": preference.chosen, "rejected": preference.rejected}
            prompt = tokenizer.decode(prompt_ids)
            row = {side: f"{prompt} {text}" for side, text in responses.items()}
            file.write(json.dumps(row) + "\n")
            num_tokens = sum(len(encode_response(tokenizer, text)) for text in responses.values())
            num_real += 2 * len(prompt_ids) + num_tokens
            num_computed += len(prompt_ids) + num_tokens
    return num_real, num_computed


def _train(folder: Path, texts: Texts, dtype: str) -> dict[str, Any]:
    """Train ours on a run directory as a worker would write it; return its figures."""
    if not (folder / "snapshot").exists():
        everything = {p.dialogue_id: "train" for p in texts.preferences}
        write_snapshot(folder / "snapshot", texts.preferences, selection={}, splits=everything)
    axes = {p.axis for p in texts.preferences}
    config = RewardModelConfig(
        num_threads=1,
        dtype=dtype,
        pairs_per_batch=PAIRS_PER_BATCH,
        max_tokens=MAX_TOKENS,
        margin_table=MarginTable.NONE,
        other_axis_share=0.4 if len(axes) > 1 else 0.0,
        checkpoint_every=10_000,
    )
    inputs = {role: RunInput(folder / role, "") for role in ("policy", "snapshot")}
    spec = RunSpec(kind=RunKind.REWARD_MODEL, config=config, inputs=inputs, code_commit="benchmark")
    run_directory = RunDirectory.create(folder / f"run-{dtype}", spec)
    script = HERE / "ours" / "training.py"
    return run_child(sys.executable, script, str(run_directory.root))
