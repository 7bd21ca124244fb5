"""How often a reward model is right: exact counts by rating and safety bin, ties as one half.

Shapes: `N` pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from language.devices import tensor_on
from language.distributed import all_reduce_sum_
from records.preferences import Rating, SafetyBin
from records.statistics import wilson_proportion
from rewardmodels.data import Pair


class Accuracy(NamedTuple):
    """The share of pairs whose chosen response scores higher, a tie counting one half."""

    value: float | None
    """None when there were no pairs."""
    low: float
    """Lower end of the 95% Wilson interval."""
    high: float
    """Upper end of the 95% Wilson interval."""
    n: int
    """Number of pairs."""
    ties: int
    """Pairs whose two scores are equal."""


def accuracy_of(chosen_scores_N: Tensor, rejected_scores_N: Tensor) -> Accuracy:
    """Return the accuracy over all pairs, from counts.

    Raises:
        ValueError: A score is not finite.
    """
    if not torch.isfinite(chosen_scores_N).all() or not torch.isfinite(rejected_scores_N).all():
        raise ValueError("a score is NaN or infinite: the model has diverged")
    num_pairs = chosen_scores_N.numel()
    num_right = int((chosen_scores_N > rejected_scores_N).sum())
    num_ties = int((chosen_scores_N == rejected_scores_N).sum())
    return Accuracy(*wilson_proportion(num_right + num_ties / 2, num_pairs), ties=num_ties)


def accuracy_by_rating(
    chosen_scores_N: Tensor, rejected_scores_N: Tensor, pairs: Sequence[Pair]
) -> dict[str, Accuracy]:
    """Return the accuracy under `overall` and under every rating; `unrated` where there are any."""
    by_group = _accuracy_by_group(
        chosen_scores_N,
        rejected_scores_N,
        ["unrated" if pair.rating is None else pair.rating.value for pair in pairs],
        [rating.value for rating in Rating],
    )
    return {"overall": accuracy_of(chosen_scores_N, rejected_scores_N), **by_group}


def accuracy_by_safety_bin(
    chosen_scores_N: Tensor, rejected_scores_N: Tensor, pairs: Sequence[Pair]
) -> dict[str, Accuracy]:
    """Return the accuracy under every safety bin; `no_bin` where there are any without."""
    return _accuracy_by_group(
        chosen_scores_N,
        rejected_scores_N,
        ["no_bin" if pair.safety_bin is None else pair.safety_bin.value for pair in pairs],
        [safety_bin.value for safety_bin in SafetyBin],
    )


def length_scores(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the baseline that any reward model must beat: the longer response, in tokens, wins."""
    chosen_N = torch.tensor([float(len(pair.chosen.response_ids)) for pair in pairs])
    rejected_N = torch.tensor([float(len(pair.rejected.response_ids)) for pair in pairs])
    return chosen_N, rejected_N


class StepTotals:
    """Sums over the pairs of one optimizer step, kept exact over micro-batches and processes."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(5 + 2 * len(Rating), dtype=torch.float64, device=device)

    def add(
        self,
        losses_N: Tensor,
        chosen_scores_N: Tensor,
        rejected_scores_N: Tensor,
        pairs: Sequence[Pair],
    ) -> None:
        """Add the pairs of a micro-batch."""
        gaps_N = (chosen_scores_N - rejected_scores_N).detach().double()
        right_N = (gaps_N > 0).double() + (gaps_N == 0).double() / 2
        is_rating_RN = tensor_on(
            gaps_N.device, [[pair.rating is rating for pair in pairs] for rating in Rating]
        ).double()
        num_tokens = sum(pair.num_tokens for pair in pairs)
        head = [losses_N.detach().double().sum(), right_N.sum(), gaps_N.sum()]
        counts = tensor_on(gaps_N.device, [num_tokens, len(pairs)], dtype=torch.float64)
        self._sums += torch.cat(
            [torch.stack(head), counts, is_rating_RN @ right_N, is_rating_RN.sum(dim=1)]
        )

    def metrics(self) -> dict[str, float | int]:
        """Return the metrics of the step over all processes; a collective where there are several.

        `accuracy_<rating>` is there for the ratings that occur. As every pair is new to the model
        in a first epoch, these accuracies are as honest as held-out ones, only noisier.
        """
        sums = all_reduce_sum_(self._sums.clone()).tolist()
        loss, right, gap, num_tokens, num_pairs = sums[:5]
        metrics: dict[str, float | int] = {
            "loss": loss / num_pairs,
            "accuracy": right / num_pairs,
            "margin": gap / num_pairs,
            "tokens": int(num_tokens),
            "pairs": int(num_pairs),
        }
        by_rating = zip(Rating, sums[5 : 5 + len(Rating)], sums[5 + len(Rating) :], strict=True)
        for rating, rating_right, count in by_rating:
            if count:
                metrics[f"accuracy_{rating.value}"] = rating_right / count
        return metrics


def _accuracy_by_group(
    chosen_scores_N: Tensor,
    rejected_scores_N: Tensor,
    groups: Sequence[str],
    names: Sequence[str],
) -> dict[str, Accuracy]:
    accuracies = {}
    for name in [*names, *sorted(set(groups) - set(names))]:
        in_group_N = torch.tensor([group == name for group in groups], dtype=torch.bool)
        accuracies[name] = accuracy_of(chosen_scores_N[in_group_N], rejected_scores_N[in_group_N])
    return accuracies
