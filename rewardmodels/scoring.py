"""The score function of rewards: rows scored under one reward model for each axis.

Shapes: `B` rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.rows import TokenRow
from language.scalars import load_scalar_model, score_rows
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
        models: Mapping[Axis, LlamaForSequenceClassification],
        *,
        tokenizer_digest: str,
        rows_per_batch: int,
    ) -> None:
        self.tokenizer_digest = tokenizer_digest
        self._models = dict(models)
        self._rows_per_batch = rows_per_batch

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return scores_B of each axis, in the order of `rows`: raw, float32, on the CPU."""
        # One model may serve several axes: it reads the rows once.
        scores = {
            model: score_rows(model, rows, rows_per_batch=self._rows_per_batch)
            for model in set(self._models.values())
        }
        return {axis: scores[model] for axis, model in self._models.items()}


def load_score_fn(
    paths: Mapping[Axis, Path], *, device: torch.device, dtype: torch.dtype, rows_per_batch: int
) -> RewardScorer:
    """Return the score function of the reward models at `paths`, one for each axis.

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
    loaded = {
        path: load_scalar_model(path, dtype=dtype, device=device) for path in set(paths.values())
    }
    models = {axis: loaded[path] for axis, path in paths.items()}
    return RewardScorer(models, tokenizer_digest=digest, rows_per_batch=rows_per_batch)


def shared_digest(digests: Mapping[str, str]) -> str:
    """Return the one digest that all roles have.

    Raises:
        TokenizerMismatchError: They differ.
    """
    if len(set(digests.values())) != 1:
        raise TokenizerMismatchError(digests)
    return next(iter(digests.values()))
