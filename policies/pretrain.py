"""Pre-training: tokenizer and model from scratch on dialogues, the loss on every token."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedTokenizerBase

from language.models import create_policy
from language.rows import TokenRow
from language.runs import RunContext
from language.sharding import save_output
from language.tokenizers import load_tokenizer, train_tokenizer
from policies.batches import steps_by_tokens
from policies.encoding import encode_demonstrations, exchange_texts
from policies.supervised import train_on_rows
from records.policy_configs import PretrainConfig
from records.prompts import Demonstration, read_demonstrations
from records.rundirs import RunDirectory, RunSpec


def pretrain(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Train a tokenizer and a policy on `demonstrations` and write the output `policy`.

    Where the run has the input `tokenizer` that model's is taken: the policy then reads the token
    ids that others write, and shares nothing else with them.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: There is nothing to train on.
    """
    config = spec.config
    assert isinstance(config, PretrainConfig), f"{type(config).__name__} is another run's"
    demonstrations = list(read_demonstrations(spec.inputs["demonstrations"].path))
    tokenizer = _tokenizer(spec, demonstrations, config)
    max_tokens = min(config.max_tokens, config.shape.max_positions)
    encoded = encode_demonstrations(tokenizer, demonstrations, max_tokens=max_tokens)
    if not encoded.rows:
        raise ValueError(f"demonstrations: none is left; skipped {dict(encoded.skipped)}")
    rows = [whole_row(row) for row in encoded.rows]
    steps = steps_by_tokens(
        [row.num_tokens for row in rows],
        num_epochs=config.num_epochs,
        tokens_per_step=config.tokens_per_batch,
        seed=config.seed,
    )
    model = create_policy(config.shape, tokenizer, seed=config.seed)
    nn.Module.to(model, device=context.loading_device)
    trained = train_on_rows(
        model, rows, steps, config=config, run_directory=run_directory, context=context
    )
    output = run_directory.outputs / "policy"
    save_output(trained.model, tokenizer, output)
    if context.is_main:
        summary = {
            "loss": trained.loss,
            "num_demonstrations": len(rows),
            "num_tokens": sum(row.num_tokens for row in rows),
            "num_parameters": model.num_parameters(),
            "num_shortened": encoded.num_shortened,
            "skipped": dict(encoded.skipped),
        }
        run_directory.write_result(summary, {"policy": output})


def _tokenizer(
    spec: RunSpec, demonstrations: Sequence[Demonstration], config: PretrainConfig
) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the run's input `tokenizer`, or one trained on the demonstrations."""
    given = spec.inputs.get("tokenizer")
    if given is not None:
        return load_tokenizer(given.path)
    return train_tokenizer(
        (text for item in demonstrations for text in exchange_texts(item)),
        vocabulary_size=config.vocabulary_size,
    )


def whole_row(row: TokenRow) -> TokenRow:
    """Return the row whose every token has a loss but the first, which nothing predicts."""
    ids = (*row.prompt_ids, *row.response_ids)
    return TokenRow(ids[:1], ids[1:])
