"""What a reward model is worth: its report on held-out pairs, beside baseline and predecessor.

Shapes: `N` pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from language.distributed import share_out, world
from language.scalars import Scorer, load_scalar_model, score_rows
from language.sharding import ShardedModel
from records.reward_configs import RewardModelConfig
from records.statistics import score_histogram
from rewardmodels.data import Pair
from rewardmodels.losses import margins_of, ranking_loss
from rewardmodels.metrics import (
    Accuracy,
    accuracy_by_rating,
    accuracy_by_safety_bin,
    length_scores,
)


def report_on(
    model: Scorer,
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
        predecessor = _load_like(model, previous)
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
    model: Scorer, pairs: Sequence[Pair], *, tokens_per_microbatch: int
) -> tuple[Tensor, Tensor]:
    """Return chosen_scores_N and rejected_scores_N, in the order of `pairs`.

    Where there are several processes this is a collective: each scores its share of the pairs.
    """
    longest = max((row.num_tokens for pair in pairs for row in pair[:2]), default=1)
    rows_per_batch = max(1, tokens_per_microbatch // longest)

    def score(own: Sequence[Pair]) -> list[list[float]]:
        rows = [pair.chosen for pair in own] + [pair.rejected for pair in own]
        scores_B = score_rows(model, rows, rows_per_batch=rows_per_batch)
        return scores_B.view(2, len(own)).T.tolist()

    scores_2N = torch.tensor(share_out(pairs, score)).view(len(pairs), 2).T.contiguous()
    return scores_2N[0], scores_2N[1]


def _load_like(model: Scorer, path: Path) -> Scorer:
    """Return the reward model at `path`, cut over the processes where `model` is."""
    if not isinstance(model, ShardedModel):
        return load_scalar_model(path, dtype=model.dtype, device=model.device)
    device = "cpu" if world()[0] == 0 else "meta"
    loaded = load_scalar_model(path, dtype=model.dtype, device=device)
    return ShardedModel(loaded, model.dtype, model.device)


def _as_json(accuracies: Mapping[str, Accuracy]) -> dict[str, dict[str, float | int | None]]:
    return {name: accuracy._asdict() for name, accuracy in accuracies.items()}
