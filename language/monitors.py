"""The monitor: a general reward model that scores responses nobody optimises against it.

arXiv:2307.09288, section 3.4.1. Shapes: B rows.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from language.rows import TokenRow
from language.scalars import HandOut, load_scalar_model, score_rows
from language.scores import HoldsLayers, ScoreFn
from language.tokenizers import load_tokenizer, tokenizer_digest
from records.run_configs import GENERAL

Monitor = Callable[[Sequence[TokenRow]], Tensor]
"""Returns scores_B of rows, raw, float32, on the CPU."""


def load_monitor(
    inputs: Mapping[str, Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    device: torch.device,
    dtype: torch.dtype,
    rows_per_batch: int,
    beside: ScoreFn | None = None,
) -> Monitor | None:
    """Return the monitor of a run, its input `general`; None where it has none.

    It stands on the layers of `beside`, the run's score function, where these have the same base.

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
    shared = beside.model_beside(GENERAL, path) if isinstance(beside, HoldsLayers) else None
    if shared is not None:
        return RowScorer(shared, rows_per_batch=rows_per_batch)
    model = load_scalar_model(path, dtype=dtype, device=device)
    return RowScorer(lambda: model, rows_per_batch=rows_per_batch)


class RowScorer:
    """Scores rows under one reward model, which it is handed anew for every call."""

    def __init__(self, model: HandOut, *, rows_per_batch: int) -> None:
        """Take what returns the model, ready for a pass: it may share its layers with others."""
        self._model = model
        self._rows_per_batch = rows_per_batch

    def __call__(self, rows: Sequence[TokenRow]) -> Tensor:
        """Return scores_B in the order of `rows`.

        Raises:
            FloatingPointError: A score is not finite.
        """
        scores_B = score_rows(self._model(), rows, rows_per_batch=self._rows_per_batch)
        if not bool(scores_B.isfinite().all()):
            raise FloatingPointError("the general reward model returned a score that is not finite")
        return scores_B
