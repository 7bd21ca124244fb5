"""The loop that pre-training, SFT and rejection sampling share: next-token prediction on rows.

Shapes: M response tokens of a micro-batch.
"""

import math
import time
from collections import deque
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from language.checkpoints import (
    combine,
    latest_checkpoint,
    pack_model,
    pack_optimizer,
    pack_rng,
    save_checkpoint,
    unpack_model,
    unpack_optimizer,
    unpack_rng,
)
from language.distributed import all_reduce_sum_, shard, sum_gradients_
from language.logprobs import response_losses
from language.optimizers import create_optimizer, create_schedule
from language.packing import split_by_tokens
from language.precision import MixedWeights, cast_parameters_, enable_activation_checkpointing_
from language.rows import TokenRow
from language.runs import RunContext, RunStopped
from records.configs import PretrainConfig, SFTConfig
from records.rundirs import RunDirectory

_RECENT_STEPS = 20
"""The loss a run reports at its end is the mean of so many last steps."""


def train_on_rows(
    model: LlamaForCausalLM,
    rows: Sequence[TokenRow],
    steps: Sequence[Sequence[int]],
    *,
    config: PretrainConfig | SFTConfig,
    run_directory: RunDirectory,
    context: RunContext,
    steps_before: int = 0,
) -> float:
    """Train `model` in place, one optimizer step for each element of `steps`; return the last loss.

    It comes in float32 and is trained in it, whatever type it computes in; it ends in that type.

    The loss of a step is the mean over the response tokens, end tokens included, of all its rows:
    how they are cut into micro-batches or spread over processes changes nothing but rounding.
    Metrics and checkpoints count on from `steps_before`, the steps of the run's earlier phase. A
    run that is started again goes on from its last checkpoint as if it had never stopped.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        FloatingPointError: The loss or its gradient is no longer finite.
    """
    total_steps = steps_before + len(steps)
    weights = MixedWeights(model, context.dtype)
    if config.checkpoint_activations:
        enable_activation_checkpointing_(weights.working)
    optimizer = create_optimizer(model, config.optimizer)
    schedule = create_schedule(optimizer, config.optimizer, len(steps))
    recent_losses: deque[float] = deque(maxlen=_RECENT_STEPS)

    # Where an earlier attempt stopped.
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    first_step = 0
    if checkpoint is not None:
        first_step = checkpoint.step - steps_before
        unpack_model(model, checkpoint)
        weights.refresh_()
        unpack_optimizer(optimizer, checkpoint)
        unpack_rng(checkpoint, generator=context.generator)
        schedule.load_state_dict(checkpoint.state["schedule"])
        recent_losses.extend(checkpoint.state["recent_losses"])
    if context.is_main:
        run_directory.drop_metrics_after(steps_before + first_step)

    for number, indices in enumerate(steps[first_step:], start=first_step + 1):
        step = steps_before + number
        started = time.perf_counter()

        # Gradient: the sum over this process's tokens, divided by the tokens of the whole step.
        # Sorted by length before they are dealt out, so that every process gets as much to do.
        step_rows = sorted((rows[i] for i in indices), key=lambda row: -row.num_tokens)
        num_tokens = sum(len(row.response_ids) for row in step_rows)
        own_rows = shard(step_rows, context.rank, context.world_size)
        loss_sum = torch.zeros((), device=context.device)
        lengths = [row.num_tokens for row in own_rows]
        for group in split_by_tokens(lengths, tokens=config.tokens_per_microbatch):
            losses_M = response_losses(weights.working, [own_rows[i] for i in group])
            loss = losses_M.sum() / num_tokens
            torch.autograd.backward(loss)
            loss_sum = loss_sum + loss.detach()
        sum_gradients_(model)
        grad_norm = torch.nn.utils.clip_grad_norm_(
            model.parameters(), config.optimizer.max_grad_norm
        ).item()
        mean_loss = all_reduce_sum_(loss_sum).item()
        if not math.isfinite(mean_loss) or not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"step {step}: loss {mean_loss}, gradient norm {grad_norm}; "
                "lower optimizer.learning_rate"
            )

        # Update.
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        weights.refresh_()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

        # Record.
        recent_losses.append(mean_loss)
        if number % config.log_every == 0 or number == len(steps):
            tokens = sum(row.num_tokens for row in step_rows)
            context.log(
                step,
                total_steps=total_steps,
                loss=mean_loss,
                tokens=tokens,
                response_tokens=num_tokens,
                grad_norm=grad_norm,
                learning_rate=learning_rate,
                tokens_per_second=round(tokens / (time.perf_counter() - started), 1),
            )
        must_stop = context.stop_requested
        is_due = number % config.checkpoint_every == 0 or number == len(steps)
        if (is_due or must_stop) and context.is_main:
            packed = combine(
                pack_model(model), pack_optimizer(optimizer), pack_rng(generator=context.generator)
            )
            state = {
                **packed.state,
                "schedule": schedule.state_dict(),
                "recent_losses": list(recent_losses),
            }
            save_checkpoint(
                run_directory.checkpoints, step=step, tensors=packed.tensors, state=state
            )
        if must_stop:
            raise RunStopped
    cast_parameters_(model, context.dtype)
    return sum(recent_losses) / len(recent_losses)
