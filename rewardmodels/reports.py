"""What a reward model is worth: its report on held-out pairs, beside baseline and predecessor.

Shapes: `N` pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.distributed import all_reduce_sum_, shard, world
from language.scalars import load_scalar_model
from records.configs import RewardModelConfig
from records.statistics import score_histogram
from rewardmodels.data import Pair
from rewardmodels.losses import margins_of, ranking_loss
from rewardmodels.metrics import (
    Accuracy,
    accuracy_by_rating,
    accuracy_by_safety_bin,
    length_scores,
)
from rewardmodels.scoring import score_rows


def report_on(
    model: LlamaForSequenceClassification,
    pairs: Sequence[Pair],
    *,
    config: RewardModelConfig,
    previous: Path | None,
) -> dict[str, Any]:
    """Return the report of `model` on held-out `pairs`, ready for JSON.

    `accuracy`, `previous_accuracy` (None without a predecessor) and `length_baseline` are on the
    same pairs, each `{"overall": {"value", "low", "high", "n", "ties"}, "<rating>": {...}}`; `loss`
    is the mean ranking loss with the margins of training, None without pairs. A collective where
    there are several processes: each scores its share.
    """
    tokens = config.tokens_per_microbatch
    chosen_N, rejected_N = score_pairs(model, pairs, tokens_per_microbatch=tokens)
    margins_N = margins_of([pair.rating for pair in pairs], config.margins)
    losses_N = ranking_loss(chosen_N, rejected_N, margins_N)
    previous_accuracy = None
    if previous is not None:
        predecessor = load_scalar_model(previous, dtype=model.dtype, device=model.device)
        scores = score_pairs(predecessor, pairs, tokens_per_microbatch=tokens)
        previous_accuracy = _as_json(accuracy_by_rating(*scores, pairs))
    return {
        "accuracy": _as_json(accuracy_by_rating(chosen_N, rejected_N, pairs)),
        "accuracy_by_safety_bin": _as_json(accuracy_by_safety_bin(chosen_N, rejected_N, pairs)),
        "previous_accuracy": previous_accuracy,
        "length_baseline": _as_json(accuracy_by_rating(*length_scores(pairs), pairs)),
        "loss": losses_N.mean().item() if pairs else None,
        "margin": (chosen_N - rejected_N).mean().item() if pairs else None,
        "num_test": len(pairs),
        "score_histogram": score_histogram(
            {"chosen": chosen_N.tolist(), "rejected": rejected_N.tolist()}
        ),
    }


def score_pairs(
    model: LlamaForSequenceClassification,
    pairs: Sequence[Pair],
    *,
    tokens_per_microbatch: int,
) -> tuple[Tensor, Tensor]:
    """Return chosen_scores_N and rejected_scores_N, shared out over the processes."""
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    longest = max((row.num_tokens for row in rows), default=1)
    indices = shard(range(len(rows)), *world())
    scores_B = torch.zeros(len(rows))
    scores_B[indices] = score_rows(
        model,
        [rows[i] for i in indices],
        rows_per_batch=max(1, tokens_per_microbatch // longest),
    )
    scores_B = all_reduce_sum_(scores_B.to(model.device)).cpu()
    return scores_B[: len(pairs)], scores_B[len(pairs) :]


def _as_json(accuracies: Mapping[str, Accuracy]) -> dict[str, dict[str, float | int | None]]:
    return {name: accuracy._asdict() for name, accuracy in accuracies.items()}
