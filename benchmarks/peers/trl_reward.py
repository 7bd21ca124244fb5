"""TRL's RewardTrainer on our pairs, for one epoch; runs in TRL's own environment.

Prints {"pairs_per_cpu_second", "cpu_seconds", "peak_megabytes", "version"}. The clock runs from the
end of the second step (warm-up) to the end of the last.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import torch
import trl
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification, TrainerCallback
from trl import RewardConfig, RewardTrainer

WARMUP_STEPS = 2


class CPUClock(TrainerCallback):
    """Notes the process's CPU seconds at the end of every optimizer step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note the time."""
        self.marks.append(time.process_time())


def main() -> None:
    """Train on the pairs of `--pairs` and print the throughput."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--shape", type=json.loads, required=True)
    parser.add_argument("--pairs-per-batch", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=1024)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    shape = {**arguments.shape, "vocab_size": len(tokenizer), "num_labels": 1}
    model = LlamaForSequenceClassification(
        LlamaConfig(**shape, pad_token_id=tokenizer.pad_token_id)
    )
    rows = [json.loads(line) for line in arguments.pairs.read_text().splitlines()]
    clock = CPUClock()
    with tempfile.TemporaryDirectory() as folder:
        settings = RewardConfig(
            output_dir=folder,
            per_device_train_batch_size=arguments.pairs_per_batch,
            max_length=arguments.max_tokens,
            num_train_epochs=1,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RewardTrainer(
            model=model,
            args=settings,
            train_dataset=Dataset.from_list(rows),
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
