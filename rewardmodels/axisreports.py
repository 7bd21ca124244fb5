"""The report on one axis: every figure of its held-out pairs, ready for JSON.

Shapes: `N` pairs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from records.preferences import Rating, SafetyBin
from records.reward_configs import RewardEvaluationConfig
from records.statistics import score_histogram
from rewardmodels.biases import length_bias
from rewardmodels.calibration import (
    as_json,
    expected_calibration_error,
    human_agreement,
    reliability,
    unsafe_detection,
)
from rewardmodels.losses import ranking_loss
from rewardmodels.metrics import Accuracy, accuracy_of
from rewardmodels.paired import compare_paired
from rewardmodels.scored import ScoredPair, credits_of

Scores = tuple[list[float], list[float]]
"""Scores of the chosen and of the rejected responses."""


def axis_report(pairs: Sequence[ScoredPair], config: RewardEvaluationConfig) -> dict[str, Any]:
    """Return every figure on `pairs` but the bias of position, which needs the model.

    Accuracies are `{"value", "low", "high", "n", "ties"}`, under `overall` and every group; `loss`
    is that of equation 2 without a margin. `previous` is None where no other model was scored.
    """
    own = _own(pairs)
    chosen_N, rejected_N = torch.tensor(own[0]), torch.tensor(own[1])
    bins = reliability(pairs, num_bins=config.num_reliability_bins)
    return {
        "num_pairs": len(pairs),
        "num_dialogues": len({pair.dialogue_id for pair in pairs}),
        "accuracy": _by_rating(pairs, own),
        "accuracy_by_safety_bin": _by_safety_bin(pairs, own),
        "accuracy_by_round": _grouped(pairs, own, lambda pair: pair.round_name, ()),
        "loss": ranking_loss(chosen_N, rejected_N, torch.zeros(len(pairs))).mean().item(),
        "margin": (chosen_N - rejected_N).mean().item(),
        "length_baseline": _against(pairs, _lengths(pairs), config),
        "previous": _against(pairs, _previous(pairs), config),
        "unsafe": as_json(unsafe_detection(pairs, threshold=config.safety_threshold)),
        "reliability": as_json(bins),
        "expected_calibration_error": expected_calibration_error(bins),
        "human_agreement": as_json(human_agreement(pairs)),
        "length_bias": as_json(length_bias(pairs)),
        "score_histogram": score_histogram({"chosen": own[0], "rejected": own[1]}),
    }


def _own(pairs: Sequence[ScoredPair]) -> Scores:
    return [pair.chosen_score for pair in pairs], [pair.rejected_score for pair in pairs]


def _lengths(pairs: Sequence[ScoredPair]) -> Scores:
    """Return the baseline that any reward model must beat: the longer response, in tokens, wins."""
    return [float(p.chosen_tokens) for p in pairs], [float(p.rejected_tokens) for p in pairs]


def _previous(pairs: Sequence[ScoredPair]) -> Scores | None:
    chosen = [p.previous_chosen_score for p in pairs if p.previous_chosen_score is not None]
    rejected = [p.previous_rejected_score for p in pairs if p.previous_rejected_score is not None]
    if not chosen:
        return None
    assert len(chosen) == len(rejected) == len(pairs), "the other model scored some pairs only"
    return chosen, rejected


def _against(
    pairs: Sequence[ScoredPair], other: Scores | None, config: RewardEvaluationConfig
) -> dict[str, Any] | None:
    """Return the other judge's accuracies on the same pairs, and what this model gains over it."""
    if other is None:
        return None
    paired = compare_paired(
        credits_of(*_own(pairs)),
        credits_of(*other),
        [pair.dialogue_id for pair in pairs],
        num_resamples=config.num_resamples,
        seed=config.seed,
    )
    return {"accuracy": _by_rating(pairs, other), "gain": as_json(paired)}


def _by_rating(pairs: Sequence[ScoredPair], scores: Scores) -> dict[str, Any]:
    groups = _grouped(pairs, scores, lambda pair: pair.rating or "unrated", [*Rating])
    return {"overall": _accuracy(scores, np.arange(len(pairs))), **groups}


def _by_safety_bin(pairs: Sequence[ScoredPair], scores: Scores) -> dict[str, Any]:
    return _grouped(pairs, scores, lambda pair: pair.safety_bin or "no_bin", [*SafetyBin])


def _grouped(
    pairs: Sequence[ScoredPair],
    scores: Scores,
    group_of: Callable[[ScoredPair], str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return the accuracy of every group: those of `names`, then what else there is."""
    groups = np.array([group_of(pair) for pair in pairs])
    every = [*map(str, names), *sorted(set(groups.tolist()) - set(map(str, names)))]
    return {name: _accuracy(scores, np.flatnonzero(groups == name)) for name in every}


def _accuracy(scores: Scores, indices: np.ndarray) -> dict[str, Any]:
    chosen_N, rejected_N = (torch.tensor(side, dtype=torch.float64)[indices] for side in scores)
    accuracy: Accuracy = accuracy_of(chosen_N, rejected_N)
    return accuracy._asdict()
