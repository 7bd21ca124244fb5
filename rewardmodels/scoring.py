"""The score function of rewards: rows scored under one reward model for each axis.

Shapes: `B` rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from language.rows import TokenRow
from language.scalar_sets import ScalarSet
from language.scalars import HandOut, score_rows
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.preferences import Axis


class TokenizerMismatchError(ValueError):
    """Models that must read the same token ids have different tokenizers.

    Attributes:
        digests: Digest of the tokenizer, by the model's role.
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        listed = ", ".join(f"{role} {digest[:12]}" for role, digest in sorted(digests.items()))
        super().__init__(
            f"the tokenizers differ ({listed}); train the reward models from policies that share "
            "one tokenizer"
        )
        self.digests = dict(digests)


class RewardScorer:
    """Scores rows under the reward model of each axis; satisfies `language.scores.ScoreFn`."""

    def __init__(
        self,
        models: Mapping[Axis, HandOut],
        *,
        tokenizer_digest: str,
        rows_per_batch: int,
        held: ScalarSet | None = None,
    ) -> None:
        """Take what hands out the models, and the set they are `held` in, if any."""
        self.tokenizer_digest = tokenizer_digest
        self._models = dict(models)
        self._rows_per_batch = rows_per_batch
        self._held = held

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return scores_B of each axis, in the order of `rows`: raw, float32, on the CPU."""
        # One model may serve several axes: it reads the rows once.
        scores = {
            hand_out: score_rows(hand_out(), rows, rows_per_batch=self._rows_per_batch)
            for hand_out in set(self._models.values())
        }
        return {axis: scores[hand_out] for axis, hand_out in self._models.items()}

    def model_beside(self, role: str, folder: Path) -> HandOut | None:
        """Return what hands out one model more, on the layers of these where it may stand there."""
        return None if self._held is None else self._held.add(role, folder)


def load_score_fn(
    paths: Mapping[Axis, Path], *, device: torch.device, dtype: torch.dtype, rows_per_batch: int
) -> RewardScorer:
    """Return the score function of the reward models at `paths`, one for each axis.

    Those that were trained as adapters of one base share its layers, which says the log.

    Raises:
        TokenizerMismatchError: The reward models do not share one tokenizer.
        ValueError: `paths` is empty.
    """
    if not paths:
        raise ValueError("paths: a score function needs at least one reward model")
    tokenizers = {axis: load_tokenizer(path) for axis, path in paths.items()}
    digest = shared_digest(
        {axis.value: tokenizer_digest(tokenizer) for axis, tokenizer in tokenizers.items()}
    )
    held = ScalarSet(device=device, dtype=dtype)
    models = {axis: held.add(axis.value, path) for axis, path in paths.items()}
    return RewardScorer(models, tokenizer_digest=digest, rows_per_batch=rows_per_batch, held=held)


def shared_digest(digests: Mapping[str, str]) -> str:
    """Return the one digest that all roles have.

    Raises:
        TokenizerMismatchError: They differ.
    """
    if len(set(digests.values())) != 1:
        raise TokenizerMismatchError(digests)
    return next(iter(digests.values()))
