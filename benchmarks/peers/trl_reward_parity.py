"""TRL's RewardTrainer for one epoch on our export, from our weights; runs in TRL's own environment.

Prints {"fixed_loss", "chosen", "rejected", "version"}: the loss of the first held-out pairs before
training, under the margins given in turn, and the scores of all held-out pairs after it.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import torch
import trl
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer, LlamaForSequenceClassification
from trl import RewardConfig, RewardTrainer


def main() -> None:
    """Measure the loss of the fixed batch, train, and score the held-out pairs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--pairs-per-batch", type=int, required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--num-fixed", type=int, required=True)
    parser.add_argument("--margins", type=float, nargs="+", required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tokenizer.chat_template = (arguments.data / "chat_template.jinja").read_text()
    model = LlamaForSequenceClassification.from_pretrained(arguments.model, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        files = {split: str(arguments.data / f"{split}.parquet") for split in ("train", "test")}
        data = load_dataset("parquet", data_files=files, cache_dir=folder)
        num_steps = -(-len(data["train"]) // arguments.pairs_per_batch)
        settings = RewardConfig(
            output_dir=folder,
            seed=arguments.seed,
            per_device_train_batch_size=arguments.pairs_per_batch,
            per_device_eval_batch_size=arguments.num_fixed,
            max_length=arguments.max_tokens,
            num_train_epochs=1,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": 0.1},
            warmup_steps=max(5, round(0.03 * num_steps)),
            weight_decay=0.1,
            adam_beta1=0.9,
            adam_beta2=0.95,
            adam_epsilon=1e-8,
            max_grad_norm=1.0,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            eval_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RewardTrainer(
            model=model,
            args=settings,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=tokenizer,
        )
        fixed_loss = _fixed_loss(trainer, arguments.num_fixed, arguments.margins)
        trainer.train()
        chosen, rejected = _scores(trainer)
    figures = {
        "fixed_loss": fixed_loss,
        "chosen": chosen,
        "rejected": rejected,
        "version": trl.__version__,
    }
    print(json.dumps(figures))


def _fixed_loss(trainer: RewardTrainer, num_fixed: int, margins: list[float]) -> float:
    """Return the trainer's own loss of its first held-out pairs."""
    rows = [dict(trainer.eval_dataset[i]) for i in range(num_fixed)]
    for index, row in enumerate(rows):
        row["margin"] = margins[index % len(margins)]
    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, trainer.data_collator(rows)).item()


def _scores(trainer: RewardTrainer) -> tuple[list[float], list[float]]:
    """Return the scores of all held-out pairs, one response at a time, as trained."""
    trainer.model.eval()
    rows: Dataset = trainer.eval_dataset
    with torch.no_grad():
        sides = [
            [
                trainer.model(input_ids=torch.tensor([ids])).logits[0, 0].item()
                for ids in rows[column]
            ]
            for column in ("chosen_ids", "rejected_ids")
        ]
    return sides[0], sides[1]


if __name__ == "__main__":
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    main()
