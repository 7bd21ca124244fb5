"""Our best of K: the same prompts, model and settings as the peer's `generate`.

Prints {"tokens_per_cpu_second", "num_tokens", "cpu_seconds", "peak_megabytes"}.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch

from language.generation import GenerationRequest, generate
from language.models import load_policy


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
    model = load_policy(arguments.model)
    requests = [
        GenerationRequest(
            prompt_ids=tuple(prompt),
            temperature=1.0,
            top_p=1.0,
            max_new_tokens=arguments.max_new_tokens,
            seed=seed,
            num_responses=arguments.num_responses,
        )
        for seed, prompt in enumerate(json.loads(arguments.prompts.read_text()))
    ]
    warmup = [requests[0]._replace(max_new_tokens=4)]
    generate(model, warmup, eos_ids=[arguments.eos_id])
    start = time.process_time()
    generated = generate(model, requests, eos_ids=[arguments.eos_id])
    cpu_seconds = time.process_time() - start
    num_tokens = sum(len(response.ids) for group in generated for response in group)
    figures = {
        "tokens_per_cpu_second": num_tokens / cpu_seconds,
        "num_tokens": num_tokens,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
