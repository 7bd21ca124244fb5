"""How responses are scored here: any score function, checked against the policy, then the gate.

Shapes: B rows.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from language.distributed import share_out
from language.monitors import Monitor
from language.rows import TokenRow
from language.runs import RunContext
from language.scores import LoadScoreFn, ScoreFn, gated_score
from language.tokenizers import tokenizer_digest
from records.functions import load_function
from records.preferences import Axis
from records.rundirs import RunSpec


class Scores(NamedTuple):
    """Raw scores (before the sigmoid), float32, on the CPU."""

    helpfulness_B: Tensor
    safety_B: Tensor
    gated_B: Tensor
    """logit(R_c): the safety score where the gate is shut, else the helpfulness score."""


class ScoredConfig(Protocol):
    """What is read of a run's config; `records.policy_configs` says what each field means."""

    @property
    def score_function(self) -> str:
        """Names the loader."""

    @property
    def rows_per_batch(self) -> int:
        """Responses scored at once."""


class SharedScorer:
    """A score function of several processes: each scores its share of the rows, all get all."""

    def __init__(self, score_fn: ScoreFn) -> None:
        self.tokenizer_digest = score_fn.tokenizer_digest
        self._score_fn = score_fn

    def __call__(self, rows: Sequence[TokenRow]) -> dict[Axis, Tensor]:
        """Return scores_B of each axis, in the order of `rows`; a collective."""
        columns = zip(*share_out(rows, self._score), strict=True)
        return {axis: torch.tensor(column) for axis, column in zip(Axis, columns, strict=True)}

    def _score(self, rows: Sequence[TokenRow]) -> list[tuple[float, ...]]:
        scores = self._score_fn(rows)
        return list(zip(*(scores[axis].tolist() for axis in Axis), strict=True))


def shared_monitor(monitor: Monitor) -> Monitor:
    """Return the monitor of several processes, as `SharedScorer` is a score function's."""

    def score(rows: Sequence[TokenRow]) -> Tensor:
        return torch.tensor(share_out(rows, lambda own: monitor(own).tolist()))

    return score


def load_score_fn(
    spec: RunSpec,
    config: ScoredConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: RunContext,
    *,
    axes: Sequence[Axis] = tuple(Axis),
) -> ScoreFn:
    """Return the run's score function, which scores `axes`.

    Raises:
        RecordError: The config names no such function.
        ValueError: It reads other token ids than the policy writes.
    """
    load: LoadScoreFn = load_function("score_function", config.score_function)
    score_fn = load(
        {axis: spec.inputs[axis.value].path for axis in axes},
        device=context.device,
        dtype=context.dtype,
        rows_per_batch=config.rows_per_batch,
    )
    refuse_other_tokenizer("reward models", score_fn.tokenizer_digest, tokenizer)
    return score_fn


def refuse_other_tokenizer(owner: str, digest: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where `owner`'s tokenizer is not the policy's.

    Raises:
        ValueError: The digests differ; it says what to do.
    """
    if digest != tokenizer_digest(tokenizer):
        raise ValueError(
            f"{owner}: their tokenizer {digest[:12]} is not the policy's "
            f"{tokenizer_digest(tokenizer)[:12]}; train them from a policy with this tokenizer"
        )


@torch.no_grad()
def score_rows(
    score_fn: ScoreFn, rows: Sequence[TokenRow], is_safety: Sequence[bool], *, threshold: float
) -> Scores:
    """Return the scores of `rows`; `is_safety` tags the rows of prompts that may elicit harm.

    Raises:
        FloatingPointError: A score is not finite.
    """
    scores = score_fn(rows)
    helpfulness_B, safety_B = scores[Axis.HELPFULNESS], scores[Axis.SAFETY]
    if not bool((helpfulness_B + safety_B).isfinite().all()):
        raise FloatingPointError("a reward model returned a score that is not finite")
    is_safety_B = torch.tensor(list(is_safety), dtype=torch.bool)
    gated_B = gated_score(helpfulness_B, safety_B, is_safety_B, threshold)
    return Scores(helpfulness_B, safety_B, gated_B)


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that `parts` decide: other parts, another stream of numbers."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
