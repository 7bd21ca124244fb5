"""Best of K: useful tokens per CPU second against transformers' `generate`, float32, one thread."""

import json
import math
import sys
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from benchmarks.calibration import calibrate
from benchmarks.frame import Result, peer_python, run_child
from benchmarks.reward_model_training import matmul_parameters
from benchmarks.texts import load_pairs, make_policy
from language.chat import fit_prompt
from language.models import load_policy, save_model
from language.tokenizers import eos_id_of

TRANSFORMERS = ["torch==2.13.0", "transformers==5.23.0"]
NUM_PROMPTS, NUM_RESPONSES, MAX_NEW_TOKENS, MAX_PROMPT_TOKENS = 16, 8, 128, 256
MEAN_TOKENS = 32
HERE = Path(__file__).parent


def run() -> Result:
    """Sample K responses to the same prompts, with ends as ragged as in real work."""
    before = calibrate()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = load_pairs(NUM_PROMPTS)
        tokenizer = make_policy(folder / "policy", "nano", texts)
        eos_id = eos_id_of(tokenizer)
        end_often(folder / "policy", tokenizer)
        found = [fit_prompt(tokenizer, p.prompt, MAX_PROMPT_TOKENS) for p in texts.preferences]
        prompts = [list(ids) for ids in found if ids is not None]
        (folder / "prompts.json").write_text(json.dumps(prompts))
        arguments = (
            *("--model", str(folder / "policy")),
            *("--prompts", str(folder / "prompts.json")),
            *("--num-responses", str(NUM_RESPONSES)),
            *("--max-new-tokens", str(MAX_NEW_TOKENS)),
            *("--eos-id", str(eos_id)),
        )
        ours = run_child(sys.executable, HERE / "ours" / "generation.py", *arguments)
        python = peer_python("transformers", TRANSFORMERS)
        peer = run_child(python, HERE / "peers" / "hf_generate.py", *arguments)
        shape = json.loads((folder / "policy" / "config.json").read_text())
    rate = ours["tokens_per_cpu_second"]
    parameters = matmul_parameters(shape) + shape["hidden_size"] * shape["vocab_size"]
    return Result(
        name="best_of_k",
        unit="useful tokens per CPU second",
        ours=round(rate, 1),
        peer=round(peer["tokens_per_cpu_second"], 1),
        peer_version=f"transformers {peer['version']} generate",
        floor_share=round(2 * parameters * rate / (before["gflops"] * 1e9), 3),
        calibration={"before": before, "after": calibrate()},
        details={
            "model": "nano",
            "source": texts.source,
            "prompts": len(prompts),
            "num_responses": NUM_RESPONSES,
            "mean_tokens": round(ours["num_tokens"] / (len(prompts) * NUM_RESPONSES), 1),
            "peer_mean_tokens": round(peer["num_tokens"] / (len(prompts) * NUM_RESPONSES), 1),
            "floor": "2 FLOP per matrix parameter and sampled token, over the matmul rate",
            "peak_megabytes": round(ours["peak_megabytes"]),
            "peer_peak_megabytes": round(peer["peak_megabytes"]),
        },
    )


def end_often(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a random model end after about `MEAN_TOKENS` tokens, whatever it reads.

    A large constant in the first component of every embedding survives all layers, and the final
    norm turns it into sqrt(D). The head then gives the end token the logit whose probability among
    otherwise even ones is 1 / MEAN_TOKENS.
    """
    model = load_policy(folder)
    odds = model.config.vocab_size / (MEAN_TOKENS - 1)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 10.0
        model.lm_head.weight[:, 0] = 0.0
        model.lm_head.weight[eos_id_of(tokenizer), 0] = (
            math.log(odds) / model.config.hidden_size**0.5
        )
    save_model(model, tokenizer, folder)
