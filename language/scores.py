"""What a score function is: how policies and evaluations are handed rewards.

B rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from language.rows import TokenRow
from language.scalars import HandOut
from records.preferences import Axis


class ScoreFn(Protocol):
    """Scores rows on each axis."""

    tokenizer_digest: str
    """Digest of the tokenizer whose ids it reads; a policy with another one must be refused."""

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return score_B per axis: raw head outputs (before the sigmoid), float32, on the CPU."""
        ...


@runtime_checkable
class HoldsLayers(Protocol):
    """A score function on whose layers one more scalar model may stand."""

    def model_beside(self, role: str, folder: Path) -> HandOut | None:
        """Return what hands out the model of `folder`; None where it is not held here."""
        ...


class LoadScoreFn(Protocol):
    """Loads a score function from reward-model folders; configs name it `module:function`."""

    def __call__(
        self,
        paths: Mapping[Axis, Path],
        *,
        device: torch.device,
        dtype: torch.dtype,
        rows_per_batch: int,
    ) -> ScoreFn:
        """Return the score function of the models at `paths`."""
        ...


def gated_score(
    helpfulness_B: Tensor, safety_B: Tensor, is_safety_B: Tensor, threshold: float
) -> Tensor:
    """Return score_B = logit(R_c), the combined score of arXiv:2307.09288, section 3.2.3.

    R_c is the safety score where the prompt is tagged as one that may elicit an unsafe response, or
    where the safety score σ(s) is below `threshold`; else the helpfulness score. As both come as
    raw head outputs, logit(σ(s)) is s itself: no score is too extreme to be finite.
    """
    is_gated_B = is_safety_B | (safety_B.sigmoid() < threshold)
    return torch.where(is_gated_B, safety_B, helpfulness_B)
