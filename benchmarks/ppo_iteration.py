"""A PPO iteration against TRL 1.12's PPOTrainer: CPU seconds of one thread by phase, two sizes.

Both have the same policy, reference, value and reward model and in every iteration the same
prompts, one epoch, one minibatch, and responses that end raggedly. As they draw different
responses, what is compared is tokens of prompts and responses per CPU second. Our bfloat16, which
keeps float32 weights for the optimizer, stands against the quicker of TRL's float32 and bfloat16,
which does not.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.best_of_k import end_often
from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.texts import Texts, chosen_sizes, load_pairs, make_policy
from language.chat import encode_prompt
from language.models import save_model
from language.scalars import create_scalar_model
from policies.phase_floors import Amount, Passes, phase_flops
from records.policy_configs import PPOConfig
from records.prompts import Prompt, write_prompts
from records.run_configs import RunKind, SamplingConfig
from records.rundirs import RunDirectory, RunInput, RunSpec

TRL_PPO = ["torch==2.13.0", "transformers==5.23.0", "trl==1.12.0", "datasets", "accelerate", "peft"]
"""The last TRL that has PPO."""
BATCH_SIZE, MAX_NEW_TOKENS, MAX_PROMPT_TOKENS = 16, 64, 256
NUM_PAIRS = 384
"""Whose prompts the batch is taken from, evenly by length."""
HERE = Path(__file__).parent


class Setting(NamedTuple):
    """How a size is measured."""

    num_iterations: int
    """The first two are warm-up: in the second, memory is still new."""
    peer_dtypes: dict[str, tuple[str, ...]]
    """For each type of ours TRL's types, of which the quicker is the peer."""


SETTINGS = {
    "nano": Setting(6, {"float32": ("float32",)}),
    "small": Setting(5, {"float32": ("float32",), "bfloat16": ("float32", "bfloat16")}),
}


class Work(NamedTuple):
    """What both run on."""

    folder: Path
    source: str
    prompt_lengths: list[int]
    shape: dict[str, int]


def run() -> Iterator[Result]:
    """Run both on the same models and prompts; yield a result for each size and type.

    `CONCORD_BENCH_SIZE` names one size.
    """
    for size in chosen_sizes():
        yield from _compare(size, SETTINGS[size])


def _compare(size: str, setting: Setting) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(NUM_PAIRS)
        lengths = _write_inputs(folder, size, texts)
        shape = json.loads((folder / "policy" / "config.json").read_text())
        work = Work(folder, texts.source, lengths, shape)
        before = calibrate()
        wanted = {peer for peers in setting.peer_dtypes.values() for peer in peers}
        peers = {peer: _run_peer(folder, peer, setting) for peer in sorted(wanted)}
        for dtype, peer_dtypes in setting.peer_dtypes.items():
            ours = _run_ours(folder, dtype, setting)
            after = calibrate()
            peer_dtype = max(peer_dtypes, key=lambda peer: _rate(peers[peer]))
            calibration = {"before": before, "after": after}
            yield _result(size, dtype, peer_dtype, work, ours, peers, calibration)
            before = after


def _run_peer(folder: Path, peer_dtype: str, setting: Setting) -> dict[str, Any]:
    return run_child(
        peer_python("trl-ppo", TRL_PPO),
        HERE / "peers" / "trl_ppo.py",
        *("--policy", str(folder / "policy")),
        *("--reward-model", str(folder / "reward_model")),
        *("--prompts", str(folder / "prompts.json")),
        *("--num-iterations", str(setting.num_iterations)),
        *("--max-new-tokens", str(MAX_NEW_TOKENS)),
        *("--dtype", peer_dtype),
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
    floor = min(measured[f"gflops_{dtype}"] for measured in calibration.values())
    shares = _floor_shares(ours, work.shape, floor)
    return Result(
        name="ppo_iteration",
        unit="tokens of prompts and responses per CPU second",
        ours=round(_rate(ours), 1),
        peer=round(_rate(peers[peer_dtype]), 1),
        peer_version=f"TRL {peers[peer_dtype]['version']} PPOTrainer, {peer_dtype}",
        floor_share=shares["all"],
        calibration=calibration,
        details={
            "model": size,
            "dtype": dtype,
            "peer_dtype": peer_dtype,
            "source": work.source,
            "mean_prompt_tokens": round(sum(work.prompt_lengths) / len(work.prompt_lengths), 1),
            "batch_size": BATCH_SIZE,
            "ours": _rounded(ours),
            "peers": {peer: _rounded(figures) for peer, figures in peers.items()},
            "floor": "2 FLOP per matrix parameter and token and pass, 4 backwards; outputs of the "
            "last layer and of the head where they are read; over the matmul rate",
            "floor_shares": shares,
        },
    )


def _write_inputs(folder: Path, size: str, texts: Texts) -> list[int]:
    """Write models, and a batch of prompts from the shortest to the longest; return the lengths."""
    tokenizer = make_policy(folder / "policy", size, texts)
    end_often(folder / "policy", tokenizer)
    save_model(create_scalar_model(folder / "policy", seed=1), tokenizer, folder / "reward_model")
    encoded = [(encode_prompt(tokenizer, p.prompt), p.prompt) for p in texts.preferences]
    short = sorted(
        (pair for pair in encoded if len(pair[0]) <= MAX_PROMPT_TOKENS),
        key=lambda pair: len(pair[0]),
    )
    assert len(short) >= BATCH_SIZE, f"{len(short)} prompts are short, {BATCH_SIZE} are needed"
    batch = [
        short[(2 * number + 1) * len(short) // (2 * BATCH_SIZE)] for number in range(BATCH_SIZE)
    ]
    prompts = [
        Prompt(prompt_id=str(number), dialogue=dialogue, is_safety=False)
        for number, (_, dialogue) in enumerate(batch)
    ]
    write_prompts(folder / "prompts.jsonl", prompts)
    write_prompts(folder / "heldout.jsonl", prompts[:1])
    (folder / "prompts.json").write_text(json.dumps([ids for ids, _ in batch]))
    return [len(ids) for ids, _ in batch]


def _run_ours(folder: Path, dtype: str, setting: Setting) -> dict[str, Any]:
    """Run ours on a run directory as a worker would write it; return its figures."""
    config = PPOConfig(
        num_threads=1,
        dtype=dtype,
        num_iterations=setting.num_iterations,
        batch_size=BATCH_SIZE,
        minibatch_size=BATCH_SIZE,
        sampling=SamplingConfig(max_new_tokens=MAX_NEW_TOKENS),
        eval_every=10_000,
        checkpoint_every=10_000,
    )
    files = {
        **dict.fromkeys(("policy", "reference"), "policy"),
        **dict.fromkeys(("helpfulness", "safety"), "reward_model"),
        "prompts": "prompts.jsonl",
        "heldout_prompts": "heldout.jsonl",
    }
    inputs = {role: RunInput(folder / file, file) for role, file in files.items()}
    spec = RunSpec(kind=RunKind.PPO, config=config, inputs=inputs, code_commit="benchmark")
    run_directory = RunDirectory.create(folder / f"run-{dtype}", spec)
    return run_child(sys.executable, HERE / "ours" / "ppo.py", str(run_directory.root))


def _rate(figures: dict[str, Any]) -> float:
    tokens: float = figures["num_prompt_tokens"] + figures["num_response_tokens"]
    return tokens / float(figures["cpu_seconds"])


def _floor_shares(
    figures: dict[str, Any], shape: dict[str, int], gflops: float
) -> dict[str, float]:
    """Return, by phase, the time that its products need at `gflops` as a share of the time taken.

    Both axes have one reward model, which reads the rows once.
    """
    responses = figures["num_response_tokens"]
    amount = Amount(figures["num_prompt_tokens"] + responses, responses, BATCH_SIZE)
    passes = Passes(shape, shape, [shape], is_base_frozen=False)
    flops = phase_flops(passes, amount, num_epochs=1, is_view_kept=True)
    seconds = {phase: flop / (gflops * 1e9) for phase, flop in flops.items()}
    shares = {phase: round(s / figures["phases"][phase], 3) for phase, s in seconds.items()}
    return {**shares, "all": round(sum(seconds.values()) / figures["cpu_seconds"], 3)}


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        "cpu_seconds": round(figures["cpu_seconds"], 3),
        "phases": {phase: round(s, 3) for phase, s in figures["phases"].items()},
        "prompt_tokens": round(figures["num_prompt_tokens"]),
        "response_tokens": round(figures["num_response_tokens"]),
        "peak_megabytes": round(figures["peak_megabytes"]),
    }
