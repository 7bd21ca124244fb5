"""Best of K with transformers' own `generate`: K sampled responses a prompt, ragged ends.

Prints {"tokens_per_cpu_second", "num_tokens", "cpu_seconds", "peak_megabytes", "version"}; tokens
are those up to and including the first end-of-sequence token.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM


def main() -> None:
    """Sample for every prompt of `--prompts` (JSON: a list of token id lists)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--num-responses", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--eos-id", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    prompts = json.loads(arguments.prompts.read_text())
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[arguments.eos_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    options = {
        "attention_mask": mask,
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "num_return_sequences": arguments.num_responses,
        "max_new_tokens": arguments.max_new_tokens,
        "eos_token_id": arguments.eos_id,
        "pad_token_id": arguments.eos_id,
    }
    with torch.inference_mode():
        model.generate(ids[:1], **{**options, "attention_mask": mask[:1], "max_new_tokens": 4})
        start = time.process_time()
        rows = model.generate(ids, **options)[:, width:]
        cpu_seconds = time.process_time() - start
    is_end = rows == arguments.eos_id
    lengths = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, rows.shape[1])
    num_tokens = int(lengths.sum())
    figures = {
        "tokens_per_cpu_second": num_tokens / cpu_seconds,
        "num_tokens": num_tokens,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": transformers.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
