"""Training a reward model: pairs in, a scalar model out, and the report on held-out pairs.

Shapes: `N` pairs.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from language.adapters import add_adapters_, merge_adapters_
from language.kept_adapters import (
    ADAPTER_FOLDER,
    AdapterWeights,
    KeptAdapter,
    adapter_weights,
    save_adapter,
    weights_digest,
)
from language.runs import RunContext
from language.scalars import create_scalar_model
from language.sharding import Weights, save_output, weights_of
from language.tokenizers import load_tokenizer, tokenizer_digest
from language.training import train_in_steps
from records.reward_configs import RewardModelConfig
from records.rundirs import RunDirectory, RunSpec
from rewardmodels.batches import pair_scores
from rewardmodels.data import EncodedPairs, Pair, encode_pairs
from rewardmodels.losses import auxiliary_safety_loss, margins_of, ranking_loss
from rewardmodels.made import made_pairs
from rewardmodels.metrics import StepTotals
from rewardmodels.mixtures import (
    Selection,
    parts_as_json,
    select_preferences,
    snapshot_folders,
    write_selection,
)
from rewardmodels.reports import report_on
from rewardmodels.scoring import shared_digest


class _Data(NamedTuple):
    """The pairs of a run, chosen, drawn and encoded by its seed alone: all processes agree."""

    selection: Selection
    train: EncodedPairs
    made: list[Pair]
    """Pairs that nobody judged, which are learned from as well."""
    test: EncodedPairs

    @property
    def pairs(self) -> list[Pair]:
        """All that is learned from."""
        return [*self.train.pairs, *self.made]


class PairObjective:
    """The losses of pairs, their mean over all pairs of a step."""

    unit = "pairs"

    def __init__(self, config: RewardModelConfig, device: torch.device) -> None:
        self._config = config
        self._device = device

    def begin_step(self, items: Sequence[Pair]) -> "PairStep":
        """Return the loss of a step on these pairs."""
        return PairStep(len(items), self._config, self._device)


class PairStep:
    """The loss of one step, and the sums that its metrics are made of."""

    def __init__(self, num_pairs: int, config: RewardModelConfig, device: torch.device) -> None:
        self._num_pairs = num_pairs
        self._config = config
        self._totals = StepTotals(device)

    def loss(self, model: LlamaForSequenceClassification, items: Sequence[Pair]) -> Tensor:
        """Return the sum of these pairs' losses over the number of pairs of the step."""
        chosen_scores_N, rejected_scores_N = pair_scores(model, items)
        losses_N = pair_losses(chosen_scores_N, rejected_scores_N, items, self._config)
        self._totals.add(losses_N, chosen_scores_N, rejected_scores_N, items)
        return losses_N.sum() / self._num_pairs

    def metrics(self) -> dict[str, float | int]:
        """Return loss, accuracies and counts over all processes; a collective."""
        return self._totals.metrics()


def train(run_directory: RunDirectory, spec: RunSpec, context: RunContext) -> None:
    """Train a reward model on a run's snapshots and write the output `reward_model`.

    One pass over the pairs by arXiv:2307.09288, section 3.2.2: ranking loss with margins, AdamW,
    cosine schedule with warm-up, clipped gradients. A step's gradient is the mean over its pairs,
    however they are split into micro-batches and over processes. A run that is started again goes
    on from its last checkpoint as if it had never stopped. Adapters are merged into the weights of
    the output, and kept beside them in its folder `adapter`.

    Raises:
        RunStopped: Someone asked the run to stop; its checkpoint is saved.
        ValueError: There is no pair to train on, or `previous` reads other token ids.
        FloatingPointError: The loss or its gradient is no longer finite.
    """
    config = spec.config
    assert isinstance(config, RewardModelConfig), f"{type(config).__name__} is another run's"
    inputs = {role: item.path for role, item in spec.inputs.items()}
    tokenizer = _tokenizer_of(inputs)
    # What is trained is float32; it runs in the type that the config names, as frozen weights do.
    model = create_scalar_model(
        inputs["policy"],
        seed=config.seed,
        dtype=context.dtype if config.lora_rank else torch.float32,
        device=context.loading_device,
    )
    max_tokens = min(config.max_tokens, model.config.max_position_embeddings)
    data = _read_data(inputs, config, tokenizer, max_tokens)
    pairs = data.pairs
    batches = plan_batches(len(pairs), config, context.generator)
    num_parameters = model.num_parameters()
    weights = weights_for(model, config, context.dtype, context.device)
    train_in_steps(
        weights,
        pairs,
        batches,
        PairObjective(config, context.device),
        config=config,
        run_directory=run_directory,
        context=context,
    )
    adapter = _merge_adapters_(weights, config) if config.lora_rank else None
    summary = report_on(
        weights.working, data.test.pairs, config=config, previous=inputs.get("previous")
    )
    output = run_directory.outputs / "reward_model"
    save_output(weights.working, tokenizer, output)
    if context.is_main:
        summary |= {"num_parameters": num_parameters, **_summary_of(data)}
        write_selection(output / "training_pairs.parquet", data.selection)
        if adapter is not None:
            kept = KeptAdapter(adapter, weights_digest(inputs["policy"]))
            save_adapter(output / ADAPTER_FOLDER, kept)
        run_directory.write_result(summary, {"reward_model": output})


def _tokenizer_of(inputs: Mapping[str, Path]) -> PreTrainedTokenizerBase:
    """Return the policy's tokenizer, which a predecessor must share."""
    tokenizer = load_tokenizer(inputs["policy"])
    if "previous" in inputs:
        previous_digest = tokenizer_digest(load_tokenizer(inputs["previous"]))
        shared_digest({"policy": tokenizer_digest(tokenizer), "previous": previous_digest})
    return tokenizer


def _read_data(
    inputs: Mapping[str, Path],
    config: RewardModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> _Data:
    selection = select_preferences(snapshot_folders(inputs), config)
    train_pairs = encode_pairs(tokenizer, selection.train, max_tokens=max_tokens)
    test_pairs = encode_pairs(tokenizer, selection.test, max_tokens=max_tokens)
    if not train_pairs.pairs:
        skipped = dict(selection.skipped + train_pairs.skipped)
        raise ValueError(f"snapshot: no {config.scope} pair is left to train on; skipped {skipped}")
    share, seed = config.made_share, config.seed
    made = made_pairs(train_pairs.pairs, share=share, seed=seed, max_tokens=max_tokens)
    return _Data(selection, train_pairs, made, test_pairs)


def weights_for(
    model: LlamaForSequenceClassification,
    config: RewardModelConfig,
    dtype: torch.dtype,
    device: torch.device,
) -> Weights[LlamaForSequenceClassification]:
    """Return the weights that are trained: all of `model`, or adapters and head where asked for."""
    if config.lora_rank:
        add_adapters_(model, rank=config.lora_rank, alpha=config.lora_alpha, seed=config.seed)
    return weights_of(model, dtype, device, checkpoint_activations=config.checkpoint_activations)


def _merge_adapters_(
    weights: Weights[LlamaForSequenceClassification], config: RewardModelConfig
) -> AdapterWeights:
    """Make what was trained a plain model, and return what it has learned by itself; a collective.

    PPO may put it on the base again, beside others: it is a hundredth of the merged weights.
    """
    adapter = adapter_weights(weights.master, rank=config.lora_rank, alpha=config.lora_alpha)
    merge_adapters_(weights.working)
    return adapter


def _summary_of(data: _Data) -> dict[str, object]:
    """Return what went in, for the run's result."""
    selection, train_pairs, made, test_pairs = data
    return {
        "num_train": len(train_pairs.pairs),
        "num_made": len(made),
        "mixture": parts_as_json(selection),
        "num_shortened": train_pairs.num_shortened + test_pairs.num_shortened,
        "skipped": dict(selection.skipped + train_pairs.skipped + test_pairs.skipped),
    }


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
    device = chosen_scores_N.device
    margins_N = margins_of([pair.rating for pair in pairs], config.margins, device=device)
    losses_N = ranking_loss(chosen_scores_N, rejected_scores_N, margins_N)
    if config.safety_loss_weight:
        bins = [pair.safety_bin for pair in pairs]
        safety_losses_N = auxiliary_safety_loss(chosen_scores_N, rejected_scores_N, bins)
        losses_N = losses_N + config.safety_loss_weight * safety_losses_N
    return losses_N
