"""Supervised fine-tuning: imitate demonstrations, the loss on responses only."""

import math
from collections.abc import Sequence

from transformers import LlamaForCausalLM

from language.rows import TokenRow
from language.runs import RunContext
from language.tokenizers import load_tokenizer
from policies.batches import steps_by_rows
from policies.encoding import encode_demonstrations
from policies.supervised import Trained, load_start, save_finetuned, train_on_rows
from records.policy_configs import SFTConfig
from records.prompts import read_demonstrations
from records.rundirs import RunDirectory, RunSpec


def sft(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Fine-tune `policy` on `demonstrations` and write the output `policy`.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: There is nothing to train on.
    """
    config = spec.config
    assert isinstance(config, SFTConfig), f"{type(config).__name__} is another run's"
    tokenizer = load_tokenizer(spec.inputs["policy"].path)
    model = load_start(spec.inputs["policy"].path, config, context)
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    demonstrations = read_demonstrations(spec.inputs["demonstrations"].path)
    encoded = encode_demonstrations(tokenizer, demonstrations, max_tokens=max_tokens)
    if not encoded.rows:
        raise ValueError(f"demonstrations: none is left; skipped {dict(encoded.skipped)}")
    trained = finetune(
        model,
        encoded.rows,
        config=config,
        seed=config.seed,
        run_directory=run_directory,
        context=context,
    )
    output = run_directory.outputs / "policy"
    save_finetuned(trained, tokenizer, output, start=spec.inputs["policy"].path, context=context)
    if context.is_main:
        summary = {
            "loss": trained.loss,
            "num_demonstrations": len(encoded.rows),
            "num_shortened": encoded.num_shortened,
            "skipped": dict(encoded.skipped),
        }
        run_directory.write_result(summary, {"policy": output})


def num_finetune_steps(num_rows: int, config: SFTConfig) -> int:
    """Return how many optimizer steps `finetune` takes on `num_rows` rows."""
    return math.ceil(max(1, round(config.num_epochs * num_rows)) / config.batch_size)


def finetune(
    model: LlamaForCausalLM,
    rows: Sequence[TokenRow],
    *,
    config: SFTConfig,
    seed: int,
    run_directory: RunDirectory,
    context: RunContext,
    steps_before: int = 0,
) -> Trained:
    """Train `model` on the responses of `rows`, in random batches; return what became of it.

    Rejection sampling fine-tunes by this function too (arXiv:2307.09288, section 3.2.3).
    """
    steps = steps_by_rows(
        len(rows), num_epochs=config.num_epochs, rows_per_step=config.batch_size, seed=seed
    )
    return train_on_rows(
        model,
        rows,
        steps,
        config=config,
        run_directory=run_directory,
        context=context,
        steps_before=steps_before,
    )
