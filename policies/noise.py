"""A score function that knows nothing: Gaussian noise, for the control experiment.

Whatever PPO or rejection sampling gains against it is not due to preferences. B rows.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from language.rows import TokenRow
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.preferences import Axis


class NoiseScoreFn:
    """Draws each score from N(0, 1), seeded by the row's tokens and the axis.

    Equal rows get equal scores, in any batch, order or attempt, so that runs resume exactly.
    """

    def __init__(self, digest: str) -> None:
        self.tokenizer_digest = digest

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return score_B per axis, on the CPU."""
        return {axis: torch.tensor([_noise(axis, row) for row in rows]) for axis in Axis}


def load_score_fn(
    paths: Mapping[Axis, Path],
    *,
    device: torch.device,
    dtype: torch.dtype,
    rows_per_batch: int,
) -> NoiseScoreFn:
    """Return noise that passes for the reward models at `paths`: it claims their tokenizer.

    Raises:
        ValueError: The models at `paths` have different tokenizers.
    """
    del device, dtype, rows_per_batch  # every loader is called with them; noise needs none
    digests = {tokenizer_digest(load_tokenizer(path)) for path in paths.values()}
    if len(digests) != 1:
        raise ValueError(f"paths: {len(digests)} different tokenizers, expected one")
    return NoiseScoreFn(digests.pop())


def _noise(axis: Axis, row: TokenRow) -> float:
    return random.Random(f"{axis.value}:{row.prompt_ids}:{row.response_ids}").gauss(0.0, 1.0)
