"""Scores of rows under one reward model or, as a score function, under one for each axis.

Shapes: `B` rows, `T` tokens in a row.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification

from language.rows import TokenRow, batches_by_length, pad_rows
from language.scalars import last_scalars, load_scalar_model, token_scalars
from language.tokenizers import load_tokenizer, pad_id_of, tokenizer_digest
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
        pad_id: int,
        rows_per_batch: int,
    ) -> None:
        self.tokenizer_digest = tokenizer_digest
        self._models = dict(models)
        self._pad_id = pad_id
        self._rows_per_batch = rows_per_batch

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return scores_B of each axis, in the order of `rows`: raw, float32, on the CPU."""
        return {
            axis: score_rows(model, rows, pad_id=self._pad_id, rows_per_batch=self._rows_per_batch)
            for axis, model in self._models.items()
        }


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
    models = {
        axis: load_scalar_model(path, dtype=dtype, device=device) for axis, path in paths.items()
    }
    pad_id = pad_id_of(next(iter(tokenizers.values())))
    return RewardScorer(
        models, tokenizer_digest=digest, pad_id=pad_id, rows_per_batch=rows_per_batch
    )


def shared_digest(digests: Mapping[str, str]) -> str:
    """Return the one digest that all roles have.

    Raises:
        TokenizerMismatchError: They differ.
    """
    if len(set(digests.values())) != 1:
        raise TokenizerMismatchError(digests)
    return next(iter(digests.values()))


@torch.inference_mode()
def score_rows(
    model: LlamaForSequenceClassification,
    rows: Sequence[TokenRow],
    *,
    pad_id: int,
    rows_per_batch: int,
) -> Tensor:
    """Return scores_B in the order of `rows`, float32 on the CPU: the head at each last token.

    Rows of like length are scored together; a row's score does not depend on the others beyond
    rounding.
    """
    scores_B = torch.empty(len(rows))
    lengths = [row.num_tokens for row in rows]
    for indices in batches_by_length(lengths, rows_per_batch=rows_per_batch):
        batch = pad_rows([rows[i] for i in indices], pad_id=pad_id, device=model.device)
        scalars_BT = token_scalars(model, batch.ids_BT, batch.attention_mask_BT)
        scores_B[indices] = last_scalars(scalars_BT, batch.attention_mask_BT).cpu()
    return scores_B
