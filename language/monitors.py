"""The monitor: a general reward model that scores responses nobody optimises against it.

arXiv:2307.09288, section 3.4.1. Shapes: B rows.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerBase

from language.rows import TokenRow, batches_by_length
from language.scalars import load_scalar_model, row_scalars
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.configs import GENERAL

Monitor = Callable[[Sequence[TokenRow]], Tensor]
"""Returns scores_B of rows, raw, float32, on the CPU."""


def load_monitor(
    inputs: Mapping[str, Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device,
    dtype: torch.dtype,
    rows_per_batch: int,
) -> Monitor | None:
    """Return the monitor of a run, its input `general`; None where it has none.

    Raises:
        ValueError: It reads other token ids than `tokenizer`, the policy's, writes.
    """
    path = inputs.get(GENERAL)
    if path is None:
        return None
    own, other = tokenizer_digest(tokenizer), tokenizer_digest(load_tokenizer(path))
    if own != other:
        raise ValueError(
            f"{GENERAL}: its tokenizer {other[:12]} is not the policy's {own[:12]}; train it from "
            "a policy with this tokenizer, or do without a monitor"
        )
    model = load_scalar_model(path, dtype=dtype, device=device)
    return _RowScorer(model, rows_per_batch)


class _RowScorer:
    """Scores rows under one reward model."""

    def __init__(self, model: LlamaForSequenceClassification, rows_per_batch: int) -> None:
        self._model = model
        self._rows_per_batch = rows_per_batch

    @torch.inference_mode()
    def __call__(self, rows: Sequence[TokenRow]) -> Tensor:
        """Return scores_B in the order of `rows`.

        Raises:
            FloatingPointError: A score is not finite.
        """
        scores_B = torch.empty(len(rows))
        lengths = [row.num_tokens for row in rows]
        for indices in batches_by_length(lengths, rows_per_batch=self._rows_per_batch):
            scores_B[indices] = row_scalars(self._model, [rows[i] for i in indices]).cpu()
        if not bool(scores_B.isfinite().all()):
            raise FloatingPointError("the general reward model returned a score that is not finite")
        return scores_B
