"""SFT: tokens per CPU second against TRL's SFTTrainer, one thread, two sizes.

The peer is the quickest of TRL's ways that keep attention apart between demonstrations: as it
comes, in batches of like length, and packed. Tokens are those of the demonstrations.
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
from benchmarks.reward_model_training import TRL, matmul_parameters
from benchmarks.texts import Texts, llama_shape, load_pairs, make_policy
from language.chat import encode_prompt, encode_response
from records.configs import RunKind, SFTConfig
from records.prompts import Demonstration, write_demonstrations
from records.rundirs import RunDirectory, RunInput, RunSpec

ROWS_PER_BATCH, MAX_TOKENS = 8, 1024
HERE = Path(__file__).parent


class Setting(NamedTuple):
    """How a size is trained."""

    num_rows: int
    dtype: str
    """Ours: the type that the layers compute in."""
    peer_dtype: str
    """TRL's quicker type at this size, where it is tuned."""


SETTINGS = {
    "nano": Setting(96, "float32", "float32"),
    "small": Setting(48, "bfloat16", "autocast"),
}


def run() -> Iterator[Result]:
    """Train both on the same demonstrations and model shape; yield a result for each size."""
    for size, setting in SETTINGS.items():
        yield _compare(size, setting)


def _compare(size: str, setting: Setting) -> Result:
    before = calibrate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(setting.num_rows)
        tokenizer = make_policy(folder / "policy", size, texts)
        response_share = _write_rows(folder / "rows.jsonl", texts, tokenizer)
        ours = _train(folder, texts, setting)
        peers = {
            mode: run_child(
                peer_python("trl", TRL),
                HERE / "peers" / "trl_sft.py",
                *("--demonstrations", str(folder / "rows.jsonl")),
                *("--tokenizer", str(folder / "policy")),
                *("--shape", json.dumps(llama_shape(folder / "policy"))),
                *("--rows-per-batch", str(ROWS_PER_BATCH)),
                *("--max-tokens", str(MAX_TOKENS)),
                *("--mode", mode),
                *("--dtype", setting.peer_dtype),
            )
            for mode in ("default", "grouped", "packed")
        }
        shape = json.loads((folder / "policy" / "config.json").read_text())
    rate = ours["tokens_per_cpu_second"]
    rates = {mode: round(peer["tokens_per_cpu_second"], 1) for mode, peer in peers.items()}
    best = max(rates, key=lambda mode: rates[mode])
    head = response_share * shape["hidden_size"] * shape["vocab_size"]
    flops = 6 * (matmul_parameters(shape) + head) * rate
    after = calibrate()
    floor = min(before[f"gflops_{setting.dtype}"], after[f"gflops_{setting.dtype}"])
    return Result(
        name="sft",
        unit="demonstration tokens per CPU second",
        ours=round(rate, 1),
        peer=rates[best],
        peer_version=f"TRL {peers[best]['version']} SFTTrainer, {best}",
        floor_share=round(flops / (floor * 1e9), 3),
        calibration={"before": before, "after": after},
        details={
            "model": size,
            "dtype": setting.dtype,
            "peers": rates,
            "peer_dtype": setting.peer_dtype,
            "source": texts.source,
            "rows": len(texts.preferences),
            "response_share": round(response_share, 3),
            "floor": "6 FLOP per matrix parameter and token (output layer: response tokens)",
            "peak_megabytes": round(ours["peak_megabytes"]),
            "peer_peak_megabytes": {m: round(p["peak_megabytes"]) for m, p in peers.items()},
        },
    )


def _write_rows(path: Path, texts: Texts, tokenizer: PreTrainedTokenizerBase) -> float:
    """Write the demonstrations for the peer; return the share of tokens that are a response's."""
    num_prompt = num_response = 0
    with path.open("w", encoding="utf-8") as file:
        for preference in texts.preferences:
            prompt_ids = encode_prompt(tokenizer, preference.prompt)
            row = {"prompt": tokenizer.decode(prompt_ids), "completion": f" {preference.chosen}"}
            file.write(json.dumps(row) + "\n")
            num_prompt += len(prompt_ids)
            num_response += len(encode_response(tokenizer, preference.chosen))
    return num_response / (num_prompt + num_response)


def _train(folder: Path, texts: Texts, setting: Setting) -> dict[str, Any]:
    """Train ours on a run directory as a worker would write it; return its figures."""
    demonstrations = [
        Demonstration(prompt=p.prompt, response=p.chosen, source="benchmark")
        for p in texts.preferences
    ]
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations)
    config = SFTConfig(
        num_threads=1,
        dtype=setting.dtype,
        num_epochs=1.0,
        batch_size=ROWS_PER_BATCH,
        max_tokens=MAX_TOKENS,
        checkpoint_every=10_000,
    )
    inputs = {
        "policy": RunInput(folder / "policy", ""),
        "demonstrations": RunInput(folder / "demonstrations.jsonl", ""),
    }
    spec = RunSpec(kind=RunKind.SFT, config=config, inputs=inputs, code_commit="benchmark")
    run_directory = RunDirectory.create(folder / "run", spec)
    script = HERE / "ours" / "training.py"
    return run_child(sys.executable, script, str(run_directory.root))
