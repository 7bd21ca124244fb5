"""The loop of every trainer that learns from rows or pairs: one optimizer step after another.

What is learned is an `Objective`'s business. Here is the rest: a step's items shared out over
processes and cut into micro-batches, the gradient of their mean loss, clipping, the update, the
schedule, metrics, checkpoints, and going on where an earlier attempt stopped.
"""

import math
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from language.checkpoints import (
    combine,
    latest_checkpoint,
    pack_every_rng,
    pack_model,
    pack_optimizer,
    save_shards,
    unpack_model,
    unpack_optimizer,
    unpack_own_rng,
)
from language.distributed import shard, world
from language.optimizers import create_optimizer, create_schedule
from language.packing import split_by_tokens
from language.runs import RunContext, RunStopped
from language.sharding import Weights, clip_gradients_, compute_with
from records.run_configs import OptimizerConfig
from records.rundirs import RunDirectory

RECENT_STEPS = 20
"""The loss a run reports at its end is the mean of so many last steps."""


class LoopConfig(Protocol):
    """What the loop reads of a run's config; the class of its kind says what each field means."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """Optimizer, schedule and clipping."""

    @property
    def tokens_per_microbatch(self) -> int:
        """Tokens in one forward pass."""

    @property
    def checkpoint_every(self) -> int:
        """Steps between two checkpoints."""

    @property
    def log_every(self) -> int:
        """Steps between two rows of metrics."""


class Measured(Protocol):
    """A row or a pair."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed for it."""


Item = TypeVar("Item", bound=Measured)
Item_contra = TypeVar("Item_contra", contravariant=True)
Model_contra = TypeVar("Model_contra", bound=PreTrainedModel, contravariant=True)


class StepObjective(Protocol[Model_contra, Item_contra]):
    """The loss of one optimizer step, which is a mean over what all processes have of it."""

    def loss(self, model: Model_contra, items: Sequence[Item_contra]) -> Tensor:
        """Return what `items` add to the mean: their losses, divided by the whole step's count.

        What metrics need is added to this process's sums.
        """

    def metrics(self) -> dict[str, float | int]:
        """Return `loss` and what else is known of the step, over all processes; a collective."""


class Objective(Protocol[Model_contra, Item_contra]):
    """What is learned."""

    @property
    def unit(self) -> str:
        """The metric that says how much was done: `<unit>_per_second` is the throughput."""

    def begin_step(self, items: Sequence[Item_contra]) -> StepObjective[Model_contra, Item_contra]:
        """Return the loss of a step on `items`, those of all processes."""


class StepLearner(NamedTuple):
    """What a step changes."""

    weights: Weights[Any]
    optimizer: AdamW
    schedule: LambdaLR
    recent_losses: deque[float]


def train_in_steps(
    weights: Weights[Any],
    items: Sequence[Item],
    steps: Sequence[Sequence[int]],
    objective: Objective[Any, Item],
    *,
    config: LoopConfig,
    run_directory: RunDirectory,
    context: RunContext,
    steps_before: int = 0,
) -> float:
    """Take one optimizer step on the items of each element of `steps`; return the last loss.

    How a step's items are cut into micro-batches or spread over processes changes nothing but
    rounding. Metrics and checkpoints count on from `steps_before`, the steps of the run's earlier
    phase. A run that is started again goes on from its last checkpoint as if it had never stopped:
    bit for bit on CPU with as many processes, up to rounding with more or fewer.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        FloatingPointError: The loss or its gradient is no longer finite.
    """
    learner = create_learner(weights, config.optimizer, len(steps))
    first_step = _restore_(learner, run_directory, context, steps_before)

    for number, indices in enumerate(steps[first_step:], start=first_step + 1):
        step, is_last = steps_before + number, number == len(steps)
        started = time.perf_counter()
        step_items = [items[i] for i in indices]
        metrics = take_step_(learner, step_items, objective, config=config, step=step)
        learner.recent_losses.append(metrics["loss"])
        if number % config.log_every == 0 or is_last:
            rate = metrics[objective.unit] / (time.perf_counter() - started)
            metrics[f"{objective.unit}_per_second"] = round(rate, 1)
            context.log(step, total_steps=steps_before + len(steps), **metrics)
        must_stop = context.stop_requested
        if must_stop or is_last or number % config.checkpoint_every == 0:
            _save(learner, run_directory, context, step)
        if must_stop:
            raise RunStopped
    return sum(learner.recent_losses) / len(learner.recent_losses)


def create_learner(weights: Weights[Any], config: OptimizerConfig, total_steps: int) -> StepLearner:
    """Return what `take_step_` changes, before the first of `total_steps` steps."""
    optimizer = create_optimizer(weights.master, config)
    schedule = create_schedule(optimizer, config, total_steps)
    return StepLearner(weights, optimizer, schedule, deque(maxlen=RECENT_STEPS))


def micro_batches(
    lengths: Sequence[int], *, tokens: int, rank: int, world_size: int
) -> list[list[int]]:
    """Return the indices of `lengths` in the micro-batches of process `rank`.

    Each process takes every `world_size`-th item, in groups of at most `tokens`, as
    `split_by_tokens` makes them. All have equally many groups, as they compute together: some of
    them may be empty.
    """
    shares = [shard(range(len(lengths)), number, world_size) for number in range(world_size)]
    groups = [split_by_tokens([lengths[i] for i in share], tokens=tokens) for share in shares]
    own = [[shares[rank][place] for place in group] for group in groups[rank]]
    return own + [[]] * (max(map(len, groups)) - len(own))


def take_step_(
    learner: StepLearner,
    items: Sequence[Item],
    objective: Objective[Any, Item],
    *,
    config: LoopConfig,
    step: int,
) -> dict[str, float | int]:
    """Make one update on `items` and return the step's metrics.

    Raises:
        FloatingPointError: The loss or its gradient is not finite; nothing is updated then.
    """
    weights, optimizer, schedule, _ = learner
    rank, world_size = world()
    # Sorted by length before they are dealt out, so that every process gets as much to do.
    items = sorted(items, key=lambda item: -item.num_tokens)
    step_objective = objective.begin_step(items)
    lengths = [item.num_tokens for item in items]
    for group in micro_batches(
        lengths, tokens=config.tokens_per_microbatch, rank=rank, world_size=world_size
    ):
        own = [items[i] for i in group]
        if own:
            loss = compute_with(weights.working, partial(step_objective.loss, items=own))
        else:
            # The others gather weights for one more micro-batch: so must this process, for nothing.
            unused = partial(objective.begin_step(items).loss, items=items[-1:])
            loss = compute_with(weights.working, unused) * 0.0
        torch.autograd.backward(loss)
    parameters = weights.master.parameters()
    grad_norm = clip_gradients_(parameters, config.optimizer.max_grad_norm).item()
    metrics = step_objective.metrics()
    if not math.isfinite(metrics["loss"]) or not math.isfinite(grad_norm):
        raise FloatingPointError(
            f"step {step}: loss {metrics['loss']}, gradient norm {grad_norm}; "
            "lower optimizer.learning_rate"
        )
    learning_rate = optimizer.param_groups[0]["lr"]
    optimizer.step()
    weights.refresh_()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return {**metrics, "grad_norm": grad_norm, "learning_rate": learning_rate}


def _save(
    learner: StepLearner, run_directory: RunDirectory, context: RunContext, step: int
) -> None:
    """Write a checkpoint of `step`, the generators of every process in it; a collective."""
    packed = combine(
        pack_model(learner.weights.master),
        pack_optimizer(learner.optimizer),
        *pack_every_rng(generator=context.generator),
    )
    state = {
        **packed.state,
        "schedule": learner.schedule.state_dict(),
        "recent_losses": list(learner.recent_losses),
    }
    save_shards(run_directory.checkpoints, step=step, tensors=packed.tensors, state=state)


def _restore_(
    learner: StepLearner, run_directory: RunDirectory, context: RunContext, steps_before: int
) -> int:
    """Set everything to the last checkpoint; return how many of the steps are done."""
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    done = 0
    if checkpoint is not None:
        done = checkpoint.step - steps_before
        unpack_model(learner.weights.master, checkpoint)
        learner.weights.refresh_()
        unpack_optimizer(learner.optimizer, checkpoint)
        learner.schedule.load_state_dict(checkpoint.state["schedule"])
        learner.recent_losses.extend(checkpoint.state["recent_losses"])
        unpack_own_rng(checkpoint, generator=context.generator)
    if context.is_main:
        run_directory.drop_metrics_after(steps_before + done)
    return done
