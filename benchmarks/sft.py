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
from benchmarks.reward_model_training import TRL
from benchmarks.texts import Texts, chosen_sizes, llama_shape, load_pairs, make_policy
from language.chat import encode_prompt, encode_response
from language.floors import llama_flops
from records.policy_configs import SFTConfig
from records.prompts import Demonstration, write_demonstrations
from records.run_configs import RunKind
from records.rundirs import RunDirectory, RunInput, RunSpec

ROWS_PER_BATCH, MAX_TOKENS = 8, 1024
HERE = Path(__file__).parent


class Setting(NamedTuple):
    """How a size is trained."""

    num_rows: int
    dtypes: tuple[str, ...]
    """Ours: the types that the layers compute in, a result for each."""
    peer_dtype: str
    """TRL's quicker type at this size, where it is tuned."""


SETTINGS = {
    "nano": Setting(96, ("float32",), "float32"),
    "small": Setting(96, ("float32", "bfloat16"), "autocast"),
}


class Work(NamedTuple):
    """What is trained on."""

    texts: Texts
    response_share: float
    """Share of the tokens that are a response's: those the output layer is computed for."""
    shape: dict[str, int]


def run() -> Iterator[Result]:
    """Train both on the same demonstrations and model shape; a result for each size and type.

    `CONCORD_BENCH_SIZE` names one size.
    """
    for size in chosen_sizes():
        yield from _compare(size, SETTINGS[size])


def _compare(size: str, setting: Setting) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(setting.num_rows)
        tokenizer = make_policy(folder / "policy", size, texts)
        response_share = _write_rows(folder / "rows.jsonl", texts, tokenizer)
        shape = json.loads((folder / "policy" / "config.json").read_text())
        work = Work(texts, response_share, shape)
        before = calibrate()
        peers = {
            mode: _train_peer(folder, mode, setting.peer_dtype)
            for mode in ("default", "grouped", "packed")
        }
        for dtype in setting.dtypes:
            ours = _train(folder, texts, dtype)
            after = calibrate()
            calibration = {"before": before, "after": after}
            yield _result(size, dtype, setting.peer_dtype, work, ours, peers, calibration)
            before = after


def _train_peer(folder: Path, mode: str, dtype: str) -> dict[str, Any]:
    return run_child(
        peer_python("trl", TRL),
        HERE / "peers" / "trl_sft.py",
        *("--demonstrations", str(folder / "rows.jsonl")),
        *("--tokenizer", str(folder / "policy")),
        *("--shape", json.dumps(llama_shape(folder / "policy"))),
        *("--rows-per-batch", str(ROWS_PER_BATCH)),
        *("--max-tokens", str(MAX_TOKENS)),
        *("--mode", mode),
        *("--dtype", dtype),
    )


def _result(
    size: str,
    dtype: str,
    peer_dtype: str,
    work: Work,
    ours: dict[str, Any],
    peers: dict[str, dict[str, Any]],
    calibration: dict[str, dict[str, float]],
) -> Result:
    rate = ours["tokens_per_cpu_second"]
    rates = {mode: round(peer["tokens_per_cpu_second"], 1) for mode, peer in peers.items()}
    best = max(rates, key=lambda mode: rates[mode])
    head = work.response_share * work.shape["hidden_size"] * work.shape["vocab_size"]
    layers = llama_flops(work.shape, tokens=1, read=work.response_share)
    flops = 3 * (layers + 2 * head) * rate
    floor = min(measured[f"gflops_{dtype}"] for measured in calibration.values())
    return Result(
        name="sft",
        unit="demonstration tokens per CPU second",
        ours=round(rate, 1),
        peer=rates[best],
        peer_version=f"TRL {peers[best]['version']} SFTTrainer, {best}",
        floor_share=round(flops / (floor * 1e9), 3),
        calibration=calibration,
        details={
            "model": size,
            "dtype": dtype,
            "peers": rates,
            "peer_dtype": peer_dtype,
            "source": work.texts.source,
            "rows": len(work.texts.preferences),
            "response_share": round(work.response_share, 3),
            "floor": "6 FLOP per matrix parameter and token (outputs of the last layer and of the "
            "head: response tokens)",
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


def _train(folder: Path, texts: Texts, dtype: str) -> dict[str, Any]:
    """Train ours on a run directory as a worker would write it; return its figures."""
    demonstrations = [
        Demonstration(prompt=p.prompt, response=p.chosen, source="benchmark")
        for p in texts.preferences
    ]
    write_demonstrations(folder / "demonstrations.jsonl", demonstrations)
    config = SFTConfig(
        num_threads=1,
        dtype=dtype,
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
    run_directory = RunDirectory.create(folder / f"run-{dtype}", spec)
    script = HERE / "ours" / "training.py"
    return run_child(sys.executable, script, str(run_directory.root))
