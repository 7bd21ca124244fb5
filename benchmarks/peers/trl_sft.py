"""TRL's SFTTrainer on our demonstrations, for one epoch; runs in TRL's own environment.

`--mode default` is TRL as it comes: bfloat16 autocast, gradient checkpointing, random batches.
`grouped` and `packed` are tuned by hand, without checkpointing: batches of like length, or rows
packed by best fit, whose positions start anew with each so that attention keeps them apart.

Prints {"tokens_per_cpu_second", "cpu_seconds", "peak_megabytes", "version"}; a token is one of a
demonstration's, padding is none. The clock runs from the end of the second step (warm-up) to the
end of the last.
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
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

WARMUP_STEPS = 2


class CPUClock(TrainerCallback):
    """Notes the process's CPU seconds at the end of every optimizer step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note the time."""
        self.marks.append(time.process_time())


def main() -> None:
    """Train on the demonstrations of `--demonstrations` and print the throughput."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--shape", type=json.loads, required=True)
    parser.add_argument("--rows-per-batch", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=1024)
    parser.add_argument("--mode", choices=("default", "grouped", "packed"), required=True)
    parser.add_argument("--dtype", choices=("float32", "autocast"), default="autocast")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    shape = {**arguments.shape, "vocab_size": len(tokenizer)}
    model = LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=tokenizer.pad_token_id))
    rows = [json.loads(line) for line in arguments.demonstrations.read_text().splitlines()]
    options: dict[str, Any] = {"per_device_train_batch_size": arguments.rows_per_batch}
    if arguments.mode != "default":
        options |= {"gradient_checkpointing": False, "bf16": arguments.dtype == "autocast"}
    if arguments.mode == "grouped":
        options["train_sampling_strategy"] = "group_by_length"
    if arguments.mode == "packed":
        options |= {"packing": True, "packing_strategy": "bfd", "per_device_train_batch_size": 1}
    clock, counts = CPUClock(), []
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder,
            max_length=arguments.max_tokens,
            num_train_epochs=1,
            completion_only_loss=True,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **options,
        )
        trainer = SFTTrainer(
            model=model,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        collate = trainer.data_collator

        def counting(examples: list[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = collate(examples)
            mask = batch.get("attention_mask")
            counts.append(batch["input_ids"].numel() if mask is None else int(mask.sum()))
            return batch

        trainer.data_collator = counting
        trainer.train()
    num_tokens = sum(counts[WARMUP_STEPS : len(clock.marks)])
    cpu_seconds = clock.marks[-1] - clock.marks[WARMUP_STEPS - 1]
    figures = {
        "tokens_per_cpu_second": num_tokens / cpu_seconds,
        "cpu_seconds": cpu_seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": trl.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
