"""TRL's PPOTrainer on our models and prompts; runs in the environment of TRL 1.12.0, its last.

Four models, no padding between equal lengths, one epoch and one minibatch: the settings of ours; in
float32, or all of it in bfloat16, weights and moments too (its setting for autocast changes nothing
on a CPU). Prints {"cpu_seconds", "phases", "num_prompt_tokens", "num_response_tokens",
"peak_megabytes", "version"}: means over all iterations but the first two (warm-up).
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

WARMUP_ITERATIONS = 2


class Ledger(TrainerCallback):
    """Books CPU seconds and tokens to the iteration that is running."""

    def __init__(self) -> None:
        self.iterations: list[dict[str, float]] = []
        self.open: dict[str, float] = {}
        self.since = time.process_time()

    def add(self, name: str, amount: float) -> None:
        """Book `amount` to `name`."""
        self.open[name] = self.open.get(name, 0.0) + amount

    def timed(self, function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        """Return `function`, its CPU seconds booked to the name that its arguments give."""

        def booked(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - TRL's own
            start = time.process_time()
            result = function(*arguments, **options)
            self.add(name(*arguments), time.process_time() - start)
            return result

        return booked

    def on_step_end(self, *_: object, **__: object) -> None:
        """Close an iteration."""
        now = time.process_time()
        self.iterations.append({**self.open, "cpu_seconds": now - self.since})
        self.open, self.since = {}, now


def watch(ledger: Ledger, value_model: object, pad_id: int, eos_id: int) -> None:
    """Have TRL's own functions booked: sampling, forward passes, and passes of scalar models."""
    generate = ledger.timed(ppo_trainer.batch_generation, lambda *_: "generate")

    def counted(model: object, queries: torch.Tensor, *rest: object) -> Any:  # noqa: ANN401
        result = generate(model, queries, *rest)
        responses = result[0][:, queries.shape[1] :]
        is_end = responses == eos_id
        ends = torch.where(is_end.any(1), is_end.int().argmax(1) + 1, responses.shape[1])
        ledger.add("prompt_tokens", float((queries != pad_id).sum()))
        ledger.add("response_tokens", float(ends.sum()))
        return result

    ppo_trainer.batch_generation = counted
    ppo_trainer.forward = ledger.timed(
        ppo_trainer.forward,
        lambda *_: "train_forward" if torch.is_grad_enabled() else "reference",
    )
    ppo_trainer.get_reward = ledger.timed(
        ppo_trainer.get_reward,
        lambda model, *_: "values" if model is value_model else "score",
    )


def settings(arguments: argparse.Namespace, folder: str, batch_size: int) -> PPOConfig:
    """Return TRL's settings for the same work."""
    return PPOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=1,
        local_rollout_forward_batch_size=batch_size,
        response_length=arguments.max_new_tokens,
        total_episodes=batch_size * arguments.num_iterations,
        temperature=1.0,
        stop_token="eos",  # noqa: S106 - a word of TRL
        num_sample_generations=0,
        learning_rate=1e-6,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main() -> None:
    """Run PPO, each iteration on all of `--prompts` (JSON: a list of token id lists)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--policy", required=True)
    parser.add_argument("--reward-model", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--num-iterations", type=int, required=True)
    parser.add_argument("--max-new-tokens", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(arguments.policy, padding_side="left")
    dtype = getattr(torch, arguments.dtype)
    scalar_models = [
        LlamaForSequenceClassification.from_pretrained(
            arguments.reward_model, num_labels=1, dtype=dtype
        )
        for _ in range(2)
    ]
    policy, reference = (
        LlamaForCausalLM.from_pretrained(arguments.policy, dtype=dtype) for _ in range(2)
    )
    prompts = json.loads(arguments.prompts.read_text())
    ledger = Ledger()
    watch(ledger, scalar_models[0], tokenizer.pad_token_id, tokenizer.eos_token_id)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=settings(arguments, folder, len(prompts)),
            processing_class=tokenizer,
            model=policy,
            ref_model=reference,
            value_model=scalar_models[0],
            reward_model=scalar_models[1],
            train_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts]),
            callbacks=[ledger],
        )
        trainer.log = lambda *_, **__: None
        ledger.since = time.process_time()
        trainer.train()
    kept = ledger.iterations[WARMUP_ITERATIONS:]
    mean = {name: sum(i.get(name, 0.0) for i in kept) / len(kept) for name in kept[0]}
    names = ("generate", "score", "reference", "values", "train_forward")
    phases = {name: mean[name] for name in names}
    phases["backward_and_rest"] = mean["cpu_seconds"] - sum(phases.values())
    figures = {
        "cpu_seconds": mean["cpu_seconds"],
        "phases": phases,
        "num_prompt_tokens": mean["prompt_tokens"],
        "num_response_tokens": mean["response_tokens"],
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "version": trl.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
