"""Whether the device computes what it should: packed rows against padded ones, sampling too.

Shapes: N pairs, B rows, T tokens, D hidden.
"""

import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from benchmarks.seven_b.machine import Machine
from benchmarks.seven_b.work import (
    EOS_ID,
    Shape,
    Size,
    draw_pairs,
    draw_prompts,
    random_policy,
    random_scalar_model,
)
from language import packed_attention
from language.generation import GenerationRequest, generate
from language.logprobs import response_losses
from language.precision import cast_parameters_
from language.rows import TokenRow, pad_rows
from language.scalars import head_of
from records.reward_configs import RewardModelConfig
from rewardmodels.batches import pair_scores
from rewardmodels.data import Pair
from rewardmodels.training import pair_losses

TARGET = 1e-5
_NUM_PAIRS, _MAX_RESPONSE = 6, 128
_CONFIG = RewardModelConfig()
_FLASH = "flash, segments merged"
_WRONG = 0.3
"""A relative error of gradients that bfloat16 does not explain."""

Scores = Callable[[LlamaForSequenceClassification, Sequence[Pair]], tuple[Tensor, Tensor]]


class Outcome(NamedTuple):
    """Scores and losses of pairs, and the gradients of the mean loss, all float32."""

    scores_2N: Tensor
    losses_N: Tensor
    gradients: list[Tensor]

    def compared_with(self, other: "Outcome") -> dict[str, float]:
        """Return the largest differences, those of gradients also as a share of the largest."""
        pairs = list(zip(self.gradients, other.gradients, strict=True))
        gradients = max(float((one - two).abs().max()) for one, two in pairs)
        largest = max(float(two.abs().max()) for _, two in pairs)
        return {
            "scores": float((self.scores_2N - other.scores_2N).abs().max()),
            "losses": float((self.losses_N - other.losses_N).abs().max()),
            "gradients": gradients,
            "gradients_relative": gradients / largest,
            "gradients_relative_norm": _norm(one - two for one, two in pairs)
            / _norm(two for _, two in pairs),
        }


def exact(machine: Machine, size: Size) -> Iterator[dict[str, Any]]:
    """Yield the largest differences of every path of attention, and those of sampling.

    float32 is compared with padded rows on the same device; bfloat16 with the float32 result.
    """
    torch.set_float32_matmul_precision("highest")
    name, shape = size.small[0]
    pairs = draw_pairs(_NUM_PAIRS, shape, max_response=_MAX_RESPONSE)
    model = random_scalar_model(shape, machine.device, torch.float32)
    padded = _outcome(model, pairs, _padded_scores)
    yield {
        "what": "packed rows that share prompts, against one padded row a response",
        "model": name,
        "dtype": "float32",
        "attention": "FlexAttention" if machine.is_gpu else "segments merged",
        "target": TARGET,
        **_compared(model, pairs, pair_scores, padded),
    }
    cast_parameters_(model, torch.bfloat16)
    for path, scores, how in _half_paths(machine):
        with how:
            yield {
                "what": "the same in bfloat16, against padded rows in float32",
                "model": name,
                "dtype": "bfloat16",
                "attention": path,
                **_compared(model, pairs, scores, padded),
            }
    for dtype in (torch.float32, torch.bfloat16):
        yield {"model": name, **_sampling(shape, machine.device, dtype)}


def _compared(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair], scores: Scores, padded: Outcome
) -> dict[str, Any]:
    """Return the differences, or why there are none: one path's failure hides no other path."""
    try:
        differences = _outcome(model, pairs, scores).compared_with(padded)
    except TimeoutError:
        raise
    except Exception as error:  # noqa: BLE001 - a path that does not run is a result
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:1000]}
    return {"max_differences": differences}


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _half_paths(
    machine: Machine,
) -> Iterator[tuple[str, Scores, AbstractContextManager[object]]]:
    """Yield each way to attend in bfloat16: its name, how pairs are scored, and what forces it."""
    yield "padded, SDPA", _padded_scores, nullcontext()
    if machine.is_gpu:
        yield _FLASH, pair_scores, nullcontext()
        yield "FlexAttention", pair_scores, without_flash()
    else:
        yield "segments merged", pair_scores, nullcontext()


def is_bad_flash(line: dict[str, Any]) -> bool:
    """Return whether a line of this stage says that flash attention fails or is far off."""
    if line.get("attention") != _FLASH:
        return False
    differences = line.get("max_differences", {"gradients_relative_norm": float("inf")})
    return not differences["gradients_relative_norm"] < _WRONG


def without_flash() -> AbstractContextManager[object]:
    """Let packed rows on a GPU go through FlexAttention in half precision too, within a block."""
    return mock.patch.object(packed_attention, "DTYPES", ())


def _outcome(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair], scores: Scores
) -> Outcome:
    chosen_N, rejected_N = scores(model, pairs)
    losses_N = pair_losses(chosen_N, rejected_N, pairs, _CONFIG)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(losses_N.mean(), parameters)
    scores_2N = torch.cat([chosen_N, rejected_N]).detach()
    return Outcome(scores_2N, losses_N.detach(), [grad.float() for grad in gradients])


def _padded_scores(
    model: LlamaForSequenceClassification, pairs: Sequence[Pair]
) -> tuple[Tensor, Tensor]:
    """Return the scores of both sides, each response in a padded row of its own."""
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    scores_2N = padded_scores(model, rows)
    return scores_2N[: len(pairs)], scores_2N[len(pairs) :]


def padded_scores(model: LlamaForSequenceClassification, rows: Sequence[TokenRow]) -> Tensor:
    """Return scores_B of rows that are padded to the longest, as most trainers have them."""
    batch = pad_rows(rows, pad_id=0, device=model.device)
    hidden_BTD = model.model(
        input_ids=batch.ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False
    ).last_hidden_state
    last_B = batch.attention_mask_BT.sum(dim=1) - 1
    return head_of(model, hidden_BTD[torch.arange(len(rows), device=last_B.device), last_B])


def _sampling(shape: Shape, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return how far sampling's log-probabilities are from those of a full pass, packed or not."""
    model = random_policy(shape, device, dtype)
    requests = [
        GenerationRequest(ids[:64], 1.0, 1.0, 24, seed, num_responses=2)
        for seed, ids in enumerate(draw_prompts(6, shape))
    ]
    generated = generate(model, requests, eos_ids=[EOS_ID])
    rows: list[TokenRow] = []
    sampled: list[float] = []
    for request, responses in zip(requests, generated, strict=True):
        for response in responses:
            rows.append(TokenRow(request.prompt_ids, response.ids))
            sampled.extend(response.logprobs)
    sampled_M = torch.tensor(sampled, device=device)
    with torch.no_grad():
        full_M = torch.cat([_full_logprobs(model, row) for row in rows])
        packed_M = -response_losses(model, rows)
    return {
        "what": "log-probabilities from sampling, against a full forward pass of each row alone",
        "dtype": str(dtype).removeprefix("torch."),
        "tokens": len(sampled),
        "target": TARGET,
        "max_differences": {
            "sampling": float((sampled_M - full_M).abs().max()),
            "packed pass": float((packed_M - full_M).abs().max()),
        },
    }


def _full_logprobs(model: LlamaForCausalLM, row: TokenRow) -> Tensor:
    """Return the log-probabilities of a row's response from transformers' own pass over it."""
    ids_1T = torch.tensor([[*row.prompt_ids, *row.response_ids]], device=model.device)
    logprobs_TV: Tensor = (
        model(input_ids=ids_1T, use_cache=False).logits[0].float().log_softmax(dim=-1)
    )
    start = len(row.prompt_ids)
    return logprobs_TV[start - 1 : -1].gather(1, ids_1T[0, start:, None])[:, 0]
