"""Best of K with transformers' own engines: K sampled responses a prompt, ragged ends.

`--engine generate` pads all prompts into one batch; `generate_batch` is continuous batching, given
each prompt K times. Prints {"tokens_per_cpu_second", "num_tokens", "cpu_seconds", "peak_megabytes",
"version"}; tokens are those up to and including the first end-of-sequence token.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    GenerationMixin,
)

_PAGE, _BATCH_TOKENS = 64, 4096


def main() -> None:
    """Sample for every prompt of `--prompts` (JSON: a list of token id lists)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--engine", choices=("generate", "generate_batch"), default="generate")
    parser.add_argument("--num-responses", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--eos-id", type=int, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    prompts = json.loads(arguments.prompts.read_text())
    options = {
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_new_tokens": arguments.max_new_tokens,
        "eos_token_id": arguments.eos_id,
        "pad_token_id": arguments.eos_id,
    }
    sample = _generate if arguments.engine == "generate" else _generate_batch
    # Continuous batching writes from a thread of its own, which inference mode does not reach.
    without_gradients = torch.inference_mode if arguments.engine == "generate" else torch.no_grad
    with without_gradients():
        sample(model, prompts[:1], 1, {**options, "max_new_tokens": 4})
        start = time.process_time()
        responses = sample(model, prompts, arguments.num_responses, options)
        cpu_seconds = time.process_time() - start
    eos_id = arguments.eos_id
    num_tokens = sum(ids.index(eos_id) + 1 if eos_id in ids else len(ids) for ids in responses)
    figures = {
        "tokens_per_cpu_second": num_tokens / cpu_seconds,
        "num_tokens": num_tokens,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": transformers.__version__,
    }
    print(json.dumps(figures))


def _generate(
    model: GenerationMixin, prompts: list[list[int]], num_responses: int, options: dict[str, Any]
) -> list[list[int]]:
    """Return responses of one padded batch."""
    width, pad = max(len(prompt) for prompt in prompts), options["pad_token_id"]
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    rows = model.generate(ids, attention_mask=mask, num_return_sequences=num_responses, **options)
    responses: list[list[int]] = rows[:, width:].tolist()
    return responses


def _generate_batch(
    model: GenerationMixin, prompts: list[list[int]], num_responses: int, options: dict[str, Any]
) -> list[list[int]]:
    """Return responses of continuous batching, with room in its cache for all rows at once.

    Left to itself it takes nine tenths of the machine's memory.
    """
    longest = max(map(len, prompts)) + int(options["max_new_tokens"])
    per_row = -(-longest // _PAGE)
    outputs = model.generate_batch(
        inputs=[prompt for prompt in prompts for _ in range(num_responses)],
        generation_config=GenerationConfig(**options),
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE,
            num_blocks=per_row * (len(prompts) * num_responses + 1),
            max_batch_tokens=_BATCH_TOKENS,
        ),
        progress_bar=False,
    )
    return [output.generated_tokens for output in outputs.values()]


if __name__ == "__main__":
    main()
