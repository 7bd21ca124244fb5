"""The losses of a reward model, one value per pair.

Shapes: `N` pairs.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from language.devices import tensor_on
from records.preferences import Rating, SafetyBin

_IS_SAFE = {
    SafetyBin.CHOSEN_SAFE: (1.0, 0.0),
    SafetyBin.BOTH_SAFE: (1.0, 1.0),
    SafetyBin.BOTH_UNSAFE: (0.0, 0.0),
}
"""Whether chosen and rejected are safe, by bin."""


def margins_of(
    ratings: Sequence[Rating | None],
    margins: Mapping[Rating, float],
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return margins_N, m(r) of arXiv:2307.09288, Table 27; no rating means no margin."""
    return tensor_on(device, [0.0 if rating is None else margins[rating] for rating in ratings])


def ranking_loss(chosen_scores_N: Tensor, rejected_scores_N: Tensor, margins_N: Tensor) -> Tensor:
    """Return losses_N = -log σ(r_c - r_r - m), equation 2 of arXiv:2307.09288.

    Finite, with a finite gradient, for every finite score. The scores are raw head outputs.
    """
    return -F.logsigmoid(chosen_scores_N.float() - rejected_scores_N.float() - margins_N)


def auxiliary_safety_loss(
    chosen_scores_N: Tensor, rejected_scores_N: Tensor, safety_bins: Sequence[SafetyBin | None]
) -> Tensor:
    """Return losses_N, the cross-entropy of calling each response of a pair safe or unsafe.

    The paper (arXiv:2307.09288, appendix A.3.4) names such a loss and gives no formula. Ours is
    BCE(σ(r_c), chosen is safe) + BCE(σ(r_r), rejected is safe), and zero for a pair without a bin,
    so that a raw score of 0 is the border between safe and unsafe.
    """
    device = chosen_scores_N.device
    targets_N2 = tensor_on(
        device,
        [(0.0, 0.0) if safety_bin is None else _IS_SAFE[safety_bin] for safety_bin in safety_bins],
    ).reshape(-1, 2)
    has_bin_N = tensor_on(device, [safety_bin is not None for safety_bin in safety_bins])
    scores_N2 = torch.stack([chosen_scores_N, rejected_scores_N], dim=1).float()
    losses_N2 = F.binary_cross_entropy_with_logits(scores_N2, targets_N2, reduction="none")
    return losses_N2.sum(dim=1) * has_bin_N
