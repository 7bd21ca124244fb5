"""Training a reward model: one loop over pairs, then the report on held-out pairs.

Shapes: `N` pairs.
"""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from language.adapters import add_adapters_, merge_adapters_
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
from language.distributed import shard, sum_gradients_
from language.models import save_model
from language.optimizers import create_optimizer, create_schedule
from language.packing import split_by_tokens
from language.precision import MixedWeights, enable_activation_checkpointing_
from language.runs import RunContext, RunStopped
from language.scalars import create_scalar_model
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.configs import RewardModelConfig
from records.rundirs import RunDirectory, RunSpec
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair, encode_pairs
from rewardmodels.losses import auxiliary_safety_loss, margins_of, ranking_loss
from rewardmodels.metrics import StepTotals
from rewardmodels.mixtures import (
    parts_as_json,
    select_preferences,
    snapshot_folders,
    write_selection,
)
from rewardmodels.reports import report_on
from rewardmodels.scoring import shared_digest


def train(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Train a reward model on a run's snapshots and write the output `reward_model`.

    One pass over the pairs by arXiv:2307.09288, section 3.2.2: ranking loss with margins, AdamW,
    cosine schedule with warm-up, clipped gradients. A step's gradient is the mean over its pairs,
    however they are split into micro-batches and over processes. A run that is started again goes
    on from its last checkpoint as if it had never stopped.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: There is no pair to train on, or `previous` reads other token ids.
        FloatingPointError: The loss or its gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, RewardModelConfig), f"{type(config).__name__} is another run's"
    inputs = {role: item.path for role, item in spec.inputs.items()}

    # The data: chosen, drawn and encoded by the seed alone, so every process and resume agrees.
    tokenizer = load_tokenizer(inputs["policy"])
    if "previous" in inputs:
        previous_digest = tokenizer_digest(load_tokenizer(inputs["previous"]))
        shared_digest({"policy": tokenizer_digest(tokenizer), "previous": previous_digest})
    # Trained in float32; run in the type that the config names.
    model = create_scalar_model(inputs["policy"], seed=config.seed, device=context.device)
    if config.lora_rank:
        add_adapters_(model, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
    weights = MixedWeights(model, context.dtype)
    if config.checkpoint_activations:
        enable_activation_checkpointing_(weights.working)
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    selection = select_preferences(snapshot_folders(inputs), config)
    train_pairs = encode_pairs(tokenizer, selection.train, max_tokens=max_tokens)
    test_pairs = encode_pairs(tokenizer, selection.test, max_tokens=max_tokens)
    if not train_pairs.pairs:
        skipped = dict(selection.skipped + train_pairs.skipped)
        raise ValueError(f"snapshot: no {config.scope} pair is left to train on; skipped {skipped}")
    batches = plan_batches(len(train_pairs.pairs), config, context.generator)

    # Where an earlier attempt stopped.
    optimizer = create_optimizer(model, config.optimizer)
    schedule = create_schedule(optimizer, config.optimizer, len(batches))
    checkpoint = latest_checkpoint(run_directory.checkpoints)
    first_step = 0
    if checkpoint is not None:
        first_step = checkpoint.step
        unpack_model(model, checkpoint)
        weights.refresh_()
        unpack_optimizer(optimizer, checkpoint)
        unpack_rng(checkpoint, generator=context.generator)
        schedule.load_state_dict(checkpoint.state["schedule"])
    if context.is_main:
        run_directory.drop_metrics_after(first_step)

    for step, batch in enumerate(batches[first_step:], start=first_step + 1):
        started = time.perf_counter()

        # Gradient: the sum over this process's pairs, divided by the pairs of the whole step.
        totals = StepTotals(context.device)
        # Sorted by length before they are dealt out, so that every process gets as much to do.
        step_pairs = sorted((train_pairs.pairs[i] for i in batch), key=lambda p: -p.num_tokens)
        own_pairs = shard(step_pairs, context.rank, context.world_size)
        lengths = [pair.num_tokens for pair in own_pairs]
        for group in split_by_tokens(lengths, tokens=config.tokens_per_microbatch):
            pairs = [own_pairs[i] for i in group]
            chosen_scores_N, rejected_scores_N = pair_scores(weights.working, pairs)
            losses_N = pair_losses(chosen_scores_N, rejected_scores_N, pairs, config)
            torch.autograd.backward(losses_N.sum() / len(batch))
            totals.add(losses_N, chosen_scores_N, rejected_scores_N, pairs)
        sum_gradients_(model)
        grad_norm = torch.nn.utils.clip_grad_norm_(
            model.parameters(), config.optimizer.max_grad_norm
        ).item()
        metrics = totals.metrics()
        if not math.isfinite(metrics["loss"]) or not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"step {step}: loss {metrics['loss']}, gradient norm {grad_norm}; "
                "lower optimizer.learning_rate"
            )

        # Update.
        learning_rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        weights.refresh_()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)

        # Record.
        if step % config.log_every == 0 or step == len(batches):
            pairs_per_second = metrics["pairs"] / (time.perf_counter() - started)
            context.log(
                step,
                total_steps=len(batches),
                **metrics,
                grad_norm=grad_norm,
                learning_rate=learning_rate,
                pairs_per_second=round(pairs_per_second, 1),
            )
        must_stop = context.stop_requested
        is_due = step % config.checkpoint_every == 0 or step == len(batches)
        if (is_due or must_stop) and context.is_main:
            packed = combine(
                pack_model(model), pack_optimizer(optimizer), pack_rng(generator=context.generator)
            )
            state = {**packed.state, "schedule": schedule.state_dict()}
            save_checkpoint(
                run_directory.checkpoints, step=step, tensors=packed.tensors, state=state
            )
        if must_stop:
            raise RunStopped

    if config.lora_rank:
        merge_adapters_(weights.working)
    summary = report_on(
        weights.working, test_pairs.pairs, config=config, previous=inputs.get("previous")
    )
    summary["num_train"] = len(train_pairs.pairs)
    summary["num_parameters"] = model.num_parameters()
    summary["mixture"] = parts_as_json(selection)
    summary["num_shortened"] = train_pairs.num_shortened + test_pairs.num_shortened
    summary["skipped"] = dict(selection.skipped + train_pairs.skipped + test_pairs.skipped)
    if context.is_main:
        output = run_directory.outputs / "reward_model"
        save_model(weights.working, tokenizer, output)
        write_selection(output / "training_pairs.parquet", selection)
        run_directory.write_result(summary, {"reward_model": output})


def plan_batches(
    num_pairs: int, config: RewardModelConfig, generator: torch.Generator
) -> list[list[int]]:
    """Return the indices of the pairs of every step: all pairs once an epoch, in random order.

    A fraction of an epoch is that fraction of its batches, at least one.
    """
    size = config.pairs_per_batch
    total_steps = max(1, round(config.num_epochs * math.ceil(num_pairs / size)))
    batches: list[list[int]] = []
    while len(batches) < total_steps:
        order = torch.randperm(num_pairs, generator=generator).tolist()
        batches += [order[start : start + size] for start in range(0, num_pairs, size)]
    return batches[:total_steps]


def pair_losses(
    chosen_scores_N: Tensor,
    rejected_scores_N: Tensor,
    pairs: Sequence[Pair],
    config: RewardModelConfig,
) -> Tensor:
    """Return losses_N: the ranking loss, and the weighted safety loss where it is turned on."""
    margins_N = margins_of([pair.rating for pair in pairs], config.margins)
    margins_N = margins_N.to(chosen_scores_N.device)
    losses_N = ranking_loss(chosen_scores_N, rejected_scores_N, margins_N)
    if config.safety_loss_weight:
        bins = [pair.safety_bin for pair in pairs]
        safety_losses_N = auxiliary_safety_loss(chosen_scores_N, rejected_scores_N, bins)
        losses_N = losses_N + config.safety_loss_weight * safety_losses_N
    return losses_N
