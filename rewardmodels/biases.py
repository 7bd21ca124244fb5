"""What a score should not depend on: the length of a response, and where it stood.

Shapes: `N` pairs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from records.statistics import Proportion, wilson_proportion
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair
from rewardmodels.scored import ScoredPair, credits_of

_PAIRS_AT_ONCE = 8


class LengthBias(NamedTuple):
    """How far length decides, for people and for the model; lengths are in tokens."""

    num_unequal: int
    human_prefers_longer: Proportion
    model_prefers_longer: Proportion
    accuracy_longer_chosen: Proportion
    """On pairs whose chosen response is the longer one."""
    accuracy_shorter_chosen: Proportion
    correlation: float | None
    """Σ ds·dl / sqrt(Σ ds² · Σ dl²) of the differences in score and in length: the same from
    whichever side a pair is read; None where either never differs."""


class PositionBias(NamedTuple):
    """Pairs scored side by side, in both orders."""

    num_pairs: int
    num_flipped: int
    """Pairs whose preferred response depends on the order."""
    first_preferred: Proportion
    """How often the response that was read first scores higher, over both orders: 1/2 is fair."""
    max_difference: float
    """Largest difference of one response's two scores."""


def length_bias(pairs: Sequence[ScoredPair]) -> LengthBias:
    """Return what the longer response has going for it."""
    unequal = [pair for pair in pairs if pair.chosen_tokens != pair.rejected_tokens]
    longer = [pair for pair in unequal if pair.chosen_tokens > pair.rejected_tokens]
    shorter = [pair for pair in unequal if pair.chosen_tokens < pair.rejected_tokens]
    right_longer, right_shorter = _num_right(longer), _num_right(shorter)
    # Where the shorter one was chosen, being wrong is preferring the longer one.
    prefers_longer = right_longer + len(shorter) - right_shorter
    score_gaps = [pair.difference for pair in pairs]
    length_gaps = [float(pair.chosen_tokens - pair.rejected_tokens) for pair in pairs]
    scale = math.sqrt(sum(x * x for x in score_gaps)) * math.sqrt(sum(x * x for x in length_gaps))
    product = sum(x * y for x, y in zip(score_gaps, length_gaps, strict=True))
    return LengthBias(
        num_unequal=len(unequal),
        human_prefers_longer=wilson_proportion(len(longer), len(unequal)),
        model_prefers_longer=wilson_proportion(prefers_longer, len(unequal)),
        accuracy_longer_chosen=wilson_proportion(right_longer, len(longer)),
        accuracy_shorter_chosen=wilson_proportion(right_shorter, len(shorter)),
        correlation=product / scale if scale else None,
    )


@torch.inference_mode()
def position_bias(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair]
) -> PositionBias | None:
    """Return how scores change when the two responses of a pair swap places; None without pairs.

    Responses are scored together, behind one copy of their prompt, as in training. A leak of one
    response into the other, or a position that restarts in the wrong place, shows here.
    """
    if not pairs:
        return None
    swapped = [Pair(pair.rejected, pair.chosen, *pair[2:]) for pair in pairs]
    chosen_first_N, rejected_second_N = _scores(model, pairs)
    rejected_first_N, chosen_second_N = _scores(model, swapped)
    return summarise_positions(
        (chosen_first_N, rejected_second_N), (chosen_second_N, rejected_first_N)
    )


def summarise_positions(
    chosen_first: tuple[Tensor, Tensor], rejected_first: tuple[Tensor, Tensor]
) -> PositionBias:
    """Return the summary of scores in both orders, each (chosen_scores_N, rejected_scores_N)."""
    gaps_N, swapped_gaps_N = (
        chosen_first[0] - chosen_first[1],
        rejected_first[0] - rejected_first[1],
    )
    num_pairs = gaps_N.numel()
    first = ((gaps_N.sign() + 1) / 2).sum() + ((1 - swapped_gaps_N.sign()) / 2).sum()
    changes = [(a - b).abs().max() for a, b in zip(chosen_first, rejected_first, strict=True)]
    return PositionBias(
        num_pairs=num_pairs,
        num_flipped=int((gaps_N.sign() != swapped_gaps_N.sign()).sum()),
        first_preferred=wilson_proportion(first.item(), 2 * num_pairs),
        max_difference=max(change.item() for change in changes),
    )


def _num_right(pairs: Sequence[ScoredPair]) -> float:
    return float(
        credits_of([p.chosen_score for p in pairs], [p.rejected_score for p in pairs]).sum()
    )


def _scores(model: LlamaForSequenceClassification, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor]:
    """Return the scores of first and second responses, a few pairs at a time."""
    parts = [
        pair_scores(model, pairs[start : start + _PAIRS_AT_ONCE])
        for start in range(0, len(pairs), _PAIRS_AT_ONCE)
    ]
    firsts, seconds = zip(*parts, strict=True)
    return torch.cat(firsts).cpu(), torch.cat(seconds).cpu()
