"""TRL's RewardTrainer on our pairs, for one epoch; runs in TRL's own environment.

`--mode default` is TRL as it comes: bfloat16 autocast, gradient checkpointing, random batches.
`autocast` and `float32` are tuned by hand: no checkpointing, and batches grouped by length.

Prints {"pairs_per_cpu_second", "cpu_seconds", "peak_megabytes", "version"}. The clock runs from the
end of the second step (warm-up) to the end of the last.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import RewardConfig, RewardTrainer

WARMUP_STEPS = 2


class CPUClock(TrainerCallback):
    """Notes the process's CPU seconds at the end of every optimizer step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note the time."""
        self.marks.append(time.process_time())


def encode(tokenizer: PreTrainedTokenizerBase, row: dict[str, str]) -> dict[str, Any]:
    """Return the ids of a pair with the length that the grouped sampler asks for."""
    sides = {side: tokenizer(row[side])["input_ids"] for side in ("chosen", "rejected")}
    sides = {f"{side}_ids": [*ids, tokenizer.eos_token_id] for side, ids in sides.items()}
    return {**sides, "length": max(map(len, sides.values()))}


def main() -> None:
    """Train on the pairs of `--pairs` and print the throughput."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--shape", type=json.loads, required=True)
    parser.add_argument("--pairs-per-batch", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--mode", choices=("default", "autocast", "float32"), required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    shape = {**arguments.shape, "vocab_size": len(tokenizer), "num_labels": 1}
    model = LlamaForSequenceClassification(
        LlamaConfig(**shape, pad_token_id=tokenizer.pad_token_id)
    )
    dataset = Dataset.from_list(
        [json.loads(line) for line in arguments.pairs.read_text().splitlines()]
    )
    options: dict[str, Any] = {}
    if arguments.mode != "default":
        dataset = dataset.map(lambda row: encode(tokenizer, row))
        options = {
            "gradient_checkpointing": False,
            "bf16": arguments.mode == "autocast",
            "train_sampling_strategy": "group_by_length",
            "remove_unused_columns": False,
        }
    clock = CPUClock()
    with tempfile.TemporaryDirectory() as folder:
        settings = RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=arguments.pairs_per_batch,
            max_length=arguments.max_tokens,
            num_train_epochs=1,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        trainer = RewardTrainer(
            model=model,
            args=settings,
            train_dataset=dataset,
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.train()
    num_steps = len(clock.marks) - WARMUP_STEPS
    cpu_seconds = clock.marks[-1] - clock.marks[WARMUP_STEPS - 1]
    num_pairs = num_steps * arguments.pairs_per_batch
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "pairs_per_cpu_second": num_pairs / cpu_seconds,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": peak,
        "version": trl.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
