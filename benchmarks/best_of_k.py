"""Best of K: useful tokens per CPU second against transformers, float32, one thread.

K of 1, 4, 8 and 16 at nano and 1, 4 and 16 at small; both of the peer's engines in the same run.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.texts import chosen_sizes, load_pairs, make_policy
from language.chat import fit_prompt
from language.floors import llama_flops
from language.models import load_policy, save_model
from language.tokenizers import eos_id_of

TRANSFORMERS = ["torch==2.13.0", "transformers==5.23.0", "psutil==7.2.2"]
MAX_NEW_TOKENS, MAX_PROMPT_TOKENS = 128, 256
MEAN_TOKENS = 32
NUM_PROMPTS = 64
NUM_PAIRS = 2000
"""Pairs the tokenizer is trained on: enough for the whole vocabulary."""
HERE = Path(__file__).parent


class Work(NamedTuple):
    """One measurement."""

    shape: str
    num_prompts: int
    num_responses: int


WORK = (
    Work("nano", NUM_PROMPTS, 1),
    Work("nano", 16, 4),
    Work("nano", 16, 8),
    Work("nano", 16, 16),
    Work("small", NUM_PROMPTS, 1),
    Work("small", 16, 4),
    Work("small", 16, 8),
    Work("small", 4, 16),
)
"""With one response each, many prompts: a few ragged ends differ too much between engines."""


def run() -> Iterator[Result]:
    """Sample K responses to the same prompts, with ends as ragged as in real work.

    `CONCORD_BENCH_SIZE` names one size.
    """
    texts = load_pairs(NUM_PAIRS)
    with tempfile.TemporaryDirectory() as name:
        for shape in chosen_sizes():
            folder = Path(name) / shape
            tokenizer = make_policy(folder, shape, texts)
            end_often(folder, tokenizer)
            every = NUM_PAIRS // NUM_PROMPTS
            found = [
                fit_prompt(tokenizer, p.prompt, MAX_PROMPT_TOKENS)
                for p in texts.preferences[::every]
            ]
            prompts = [list(ids) for ids in found if ids is not None]
            for work in WORK:
                if work.shape == shape:
                    yield _measure(folder, work, prompts[: work.num_prompts], texts.source)


def _measure(folder: Path, work: Work, prompts: list[list[int]], source: str) -> Result:
    before = calibrate()
    (folder / "prompts.json").write_text(json.dumps(prompts))
    arguments = (
        *("--model", str(folder)),
        *("--prompts", str(folder / "prompts.json")),
        *("--num-responses", str(work.num_responses)),
        *("--max-new-tokens", str(MAX_NEW_TOKENS)),
        *("--eos-id", str(_eos_id(folder))),
    )
    ours = run_child(sys.executable, HERE / "ours" / "generation.py", *arguments)
    python = peer_python("transformers", TRANSFORMERS)
    peers = {
        engine: run_child(python, HERE / "peers" / "hf_generate.py", "--engine", engine, *arguments)
        for engine in ("generate", "generate_batch")
    }
    rate, peer = ours["tokens_per_cpu_second"], peers["generate"]
    after, num_rows = calibrate(), len(prompts) * work.num_responses
    gflops = max(before["gflops"], after["gflops"])
    shape = json.loads((folder / "config.json").read_text())
    num_flops = _num_flops(shape, [len(prompt) for prompt in prompts], ours["num_tokens"])
    return Result(
        name="best_of_k",
        unit="useful tokens per CPU second",
        ours=round(rate, 1),
        peer=round(peer["tokens_per_cpu_second"], 1),
        peer_version=f"transformers {peer['version']} generate",
        floor_share=round(num_flops / (gflops * 1e9) / ours["cpu_seconds"], 3),
        calibration={"before": before, "after": after},
        details={
            "model": work.shape,
            "source": source,
            "prompts": len(prompts),
            "num_responses": work.num_responses,
            "mean_tokens": round(ours["num_tokens"] / num_rows, 1),
            "floor": "2 FLOP per matrix parameter and token, prompts once, over the matmul rate",
            "peak_megabytes": round(ours["peak_megabytes"]),
            "peers": {
                engine: {
                    "tokens_per_cpu_second": round(figures["tokens_per_cpu_second"], 1),
                    "ratio": round(rate / figures["tokens_per_cpu_second"], 2),
                    "mean_tokens": round(figures["num_tokens"] / num_rows, 1),
                    "peak_megabytes": round(figures["peak_megabytes"]),
                }
                for engine, figures in peers.items()
            },
        },
    )


def _num_flops(shape: dict[str, Any], prompt_lengths: list[int], num_tokens: int) -> float:
    """Return what the layers and the head must compute at least, attention left out."""
    num_positions, num_read = sum(prompt_lengths) + num_tokens, num_tokens + len(prompt_lengths)
    head: float = 2.0 * shape["hidden_size"] * shape["vocab_size"]
    return llama_flops(shape, tokens=num_positions, read=num_read) + head * num_read


def _eos_id(folder: Path) -> int:
    eos_id: int = json.loads((folder / "config.json").read_text())["eos_token_id"]
    return eos_id


def end_often(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a random model end after about `MEAN_TOKENS` tokens, whatever it reads.

    A large constant in the first component of every embedding survives all layers, and the final
    norm turns it into sqrt(D). The head then gives the end token the logit whose probability among
    otherwise even ones is 1 / MEAN_TOKENS.
    """
    model = load_policy(folder)
    end_often_(model, eos_id_of(tokenizer), MEAN_TOKENS)
    save_model(model, tokenizer, folder)


@torch.no_grad()
def end_often_(model: LlamaForCausalLM, eos_id: int, mean_tokens: int) -> None:
    """Make `model` end after about `mean_tokens` tokens, as `end_often` says."""
    odds = model.config.vocab_size / (mean_tokens - 1)
    model.model.embed_tokens.weight[:, 0] = 100.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[eos_id, 0] = math.log(odds) / model.config.hidden_size**0.5
