"""How responses are scored here: any score function, checked against the policy, then the gate.

Shapes: B rows.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from language.rows import TokenRow
from language.runs import RunContext
from language.scores import LoadScoreFn, ScoreFn, gated_score
from language.tokenizers import tokenizer_digest
from records.configs import PPOConfig, RejectionSamplingConfig
from records.functions import load_function
from records.preferences import Axis
from records.rundirs import RunSpec


class Scores(NamedTuple):
    """Raw scores (before the sigmoid), float32, on the CPU."""

    helpfulness_B: Tensor
    safety_B: Tensor
    gated_B: Tensor
    """logit(R_c): the safety score where the gate is shut, else the helpfulness score."""


def load_score_fn(
    spec: RunSpec,
    config: PPOConfig | RejectionSamplingConfig,
    tokenizer: PreTrainedTokenizerBase,
    context: RunContext,
) -> ScoreFn:
    """Return the run's score function.

    Raises:
        RecordError: The config names no such function.
        ValueError: It reads other token ids than the policy writes.
    """
    load: LoadScoreFn = load_function("score_function", config.score_function)
    paths = {axis: spec.inputs[axis.value].path for axis in Axis}
    if len(set(paths.values())) == 1:
        # One model for both axes: it is loaded and asked once.
        paths.pop(Axis.SAFETY)
    score_fn = load(
        paths,
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
    helpfulness_B = scores[Axis.HELPFULNESS]
    safety_B = scores.get(Axis.SAFETY, helpfulness_B)  # one model may serve both axes
    if not bool((helpfulness_B + safety_B).isfinite().all()):
        raise FloatingPointError("a reward model returned a score that is not finite")
    is_safety_B = torch.tensor(list(is_safety), dtype=torch.bool)
    gated_B = gated_score(helpfulness_B, safety_B, is_safety_B, threshold)
    return Scores(helpfulness_B, safety_B, gated_B)


def derived_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that `parts` decide: other parts, another stream of numbers."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
