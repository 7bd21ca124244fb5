"""Scores of both responses of each pair, from one forward pass that reads their prompt once.

Shapes: `N` pairs.
"""

from collections.abc import Sequence

from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.scalars import row_scalars
from rewardmodels.data import Pair


def pair_scores(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair]
) -> tuple[Tensor, Tensor]:
    """Return chosen_scores_N and rejected_scores_N, raw float32.

    Equal to scoring each response by itself, up to rounding.
    """
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    scores_2N = row_scalars(model, rows)
    return scores_2N[: len(pairs)], scores_2N[len(pairs) :]
