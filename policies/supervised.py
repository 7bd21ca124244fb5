"""What pre-training, SFT and rejection sampling share: next-token prediction on rows.

Shapes: M response tokens of a micro-batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from language.adapters import add_adapters_, merge_adapters_
from language.distributed import all_reduce_sum_
from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    KeptAdapter,
    adapter_weights,
    save_adapter,
    weights_digest,
)
from language.logprobs import response_losses
from language.models import load_policy
from language.rows import TokenRow
from language.runs import RunContext
from language.sharding import ShardedModel, save_output, weights_of
from language.training import train_in_steps
from records.policy_configs import PretrainConfig, SFTConfig
from records.rundirs import RunDirectory


class Trained(NamedTuple):
    """A policy in the type it computes in, whole or cut over the processes, and its last loss."""

    model: LlamaForCausalLM | ShardedModel[LlamaForCausalLM]
    loss: float
    adapter: AdapterWeights | None = None
    """What was trained where adapters were; they are merged into the model."""


class RowObjective:
    """The losses of rows, their mean over all response tokens of a step, end tokens included."""

    unit = "tokens"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin_step(self, items: Sequence[TokenRow]) -> "RowStep":
        """Return the loss of a step on these rows."""
        return RowStep(items, self._device)


class RowStep:
    """The loss of one step, and the sum that its metrics are made of."""

    def __init__(self, rows: Sequence[TokenRow], device: torch.device) -> None:
        self._num_tokens = sum(row.num_tokens for row in rows)
        self._num_response_tokens = sum(len(row.response_ids) for row in rows)
        self._loss_sum = torch.zeros((), device=device)

    def loss(self, model: LlamaForCausalLM, items: Sequence[TokenRow]) -> Tensor:
        """Return the sum of these rows' losses over the response tokens of the step."""
        losses_M = response_losses(model, items)
        loss = losses_M.sum() / self._num_response_tokens
        self._loss_sum = self._loss_sum + loss.detach()
        return loss

    def metrics(self) -> dict[str, float | int]:
        """Return loss and counts over all processes; a collective."""
        return {
            "loss": all_reduce_sum_(self._loss_sum.clone()).item(),
            "tokens": self._num_tokens,
            "response_tokens": self._num_response_tokens,
        }


def load_start(path: Path, config: SFTConfig, context: RunContext) -> LlamaForCausalLM:
    """Return the policy to be fine-tuned: in float32, or as it computes where adapters are."""
    dtype = context.dtype if config.lora_rank else torch.float32
    return load_policy(path, dtype=dtype, device=context.loading_device)


def train_on_rows(
    model: LlamaForCausalLM,
    rows: Sequence[TokenRow],
    steps: Sequence[Sequence[int]],
    *,
    config: PretrainConfig | SFTConfig,
    run_directory: RunDirectory,
    context: RunContext,
    steps_before: int = 0,
) -> Trained:
    """Train `model`, one optimizer step for each element of `steps`, and return what became of it.

    It comes from the context's `loading_device`. What is trained is float32 whatever type it
    computes in: the model comes so, or in that type where adapters are trained. What the loop
    guarantees is said at `language.training.train_in_steps`.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        FloatingPointError: The loss or its gradient is no longer finite.
    """
    rank, alpha = (config.lora_rank, config.lora_alpha) if isinstance(config, SFTConfig) else (0, 1)
    if rank:
        add_adapters_(model, rank=rank, alpha=alpha, seed=config.seed)
    weights = weights_of(
        model,
        context.dtype,
        context.device,
        checkpoint_activations=config.checkpoint_activations,
    )
    loss = train_in_steps(
        weights,
        rows,
        steps,
        RowObjective(context.device),
        config=config,
        run_directory=run_directory,
        context=context,
        steps_before=steps_before,
    )
    if not rank:
        return Trained(weights.working, loss)
    adapter = adapter_weights(weights.master, rank=rank, alpha=alpha)
    merge_adapters_(weights.working)
    return Trained(weights.working, loss, adapter)


def save_finetuned(
    trained: Trained,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    start: Path,
    context: RunContext,
) -> None:
    """Write a policy fine-tuned from `start`, and beside it the adapter it was trained by, if any.

    A collective, as `save_output` is.
    """
    save_output(trained.model, tokenizer, folder)
    if trained.adapter is not None and context.is_main:
        save_adapter(folder / ADAPTER_FOLDER, KeptAdapter(trained.adapter, weights_digest(start)))
