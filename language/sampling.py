"""Drawing tokens from logits: one draw per row, by inverting the distribution function.

B rows, V vocabulary, M some of the rows, W some of those, U uniform numbers a row, L the likeliest
tokens, N blocks of S neighbouring tokens (the last may be shorter).

Each row has its own stream of uniform numbers, computed from (seed, response, step): what a row
draws does not depend on which rows share its batch, nor on how far other rows have got.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DRAWS = 4
"""Uniform numbers for one token: top-p may need several tries."""
_LIKELIEST = 128
"""Tokens looked at first when a nucleus is weighed."""
_BITS_OF_ONE = 0x3F800000
"""1 in float32, as an integer. Weights lie in [0, 1], where integers have the order of floats."""
_WORD = 2**64 - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draw(NamedTuple):
    """One sampled token a row, and its log-probability in three distributions.

    They are one tensor where they are equal for all rows, and cost nothing then.
    """

    ids_B: Tensor
    logprobs_B: Tensor
    """Of the whole distribution at the row's temperature: not renormalised by top-p."""
    sampling_logprobs_B: Tensor
    """Of exactly the distribution drawn from: tempered, cut to the nucleus; 0 for greedy rows."""
    untempered_logprobs_B: Tensor
    """Of the whole distribution at temperature 1."""


class Settings(NamedTuple):
    """How rows are drawn; None where a setting changes nothing for any row, and costs nothing."""

    temperature_B1: Tensor | None
    """Greedy rows have 1 here."""
    is_greedy_B: Tensor | None
    top_p_B: Tensor | None

    def of_rows(self, rows_M: Tensor) -> "Settings":
        """Return the settings of some rows."""
        return Settings(*(None if value is None else value[rows_M] for value in self))


def create_settings(
    temperatures: Sequence[float], top_ps: Sequence[float], *, device: torch.device | str = "cpu"
) -> Settings:
    """Return settings of one temperature (0: take the likeliest token) and one top-p per row."""
    divisors = [temperature or 1.0 for temperature in temperatures]
    greedy = [temperature == 0.0 for temperature in temperatures]
    return Settings(
        torch.tensor(divisors, device=device)[:, None] if set(divisors) != {1.0} else None,
        torch.tensor(greedy, device=device) if any(greedy) else None,
        torch.tensor(top_ps, device=device) if min(top_ps) < 1.0 else None,
    )


def uniform_numbers(
    seeds: Sequence[int],
    responses: Sequence[int],
    num_steps: int,
    *,
    first_steps: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Return numbers in [0, 1), `DRAWS` per row and step, shaped (rows, steps, DRAWS).

    SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014) with one
    stream for each (seed, response), read from the row's first step on (0 by default). 24 bits
    each, so that none rounds to 1 in float32.
    """
    key_B = np.array([seed & _WORD for seed in seeds], dtype=np.uint64)
    key_B = _mixed(key_B + _GOLDEN)
    key_B = _mixed(key_B ^ (np.array(responses, dtype=np.uint64) + _GOLDEN))
    first_B = np.array(first_steps or [0] * len(seeds), dtype=np.uint64) * np.uint64(DRAWS)
    place = first_B[:, None] + np.arange(1, DRAWS * num_steps + 1, dtype=np.uint64)
    words = _mixed(key_B[:, None] + (place * _GOLDEN).astype(np.uint64))
    numbers: NDArray[np.float32] = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return numbers.reshape(len(seeds), num_steps, DRAWS)


def draw_tokens(
    logits_BV: Tensor, uniforms_BU: Tensor, settings: Settings, *, is_static: bool = False
) -> Draw:
    """Return one token per row of float32 logits, from `DRAWS` uniform numbers a row.

    Top-p keeps the likeliest tokens: those than which likelier ones hold at most that share, as
    Llama 2's code does; of equally likely ones all or none. For a greedy row the temperature is
    taken as 1. Where it `is_static` the same kernels run whatever the numbers are, and nobody waits
    for a GPU, as a CUDA graph demands; else rows do no more than they need. The tokens are equal.
    """
    max_B1 = logits_BV.amax(dim=1, keepdim=True)
    below_BV = logits_BV - max_B1
    temperature_B1 = settings.temperature_B1
    # In place, as each pass over the vocabulary counts: below_BV is read again if tempered alone.
    weights_BV = (below_BV if temperature_B1 is None else below_BV / temperature_B1).exp_()
    ids_B1, total_B1 = _inverted(weights_BV, uniforms_BU[:, :1])
    nucleus_B1 = total_B1
    if settings.top_p_B is not None:
        cut = _cut_statically if is_static else _cut
        ids_B1, nucleus_B1 = cut(
            weights_BV, ids_B1, total_B1, uniforms_BU, settings.top_p_B[:, None]
        )
    if settings.is_greedy_B is not None:
        likeliest_B1 = logits_BV.argmax(dim=1, keepdim=True)
        ids_B1 = torch.where(settings.is_greedy_B[:, None], likeliest_B1, ids_B1)
    drawn_B1 = logits_BV.gather(1, ids_B1) - max_B1
    tempered_B1 = drawn_B1 if temperature_B1 is None else drawn_B1 / temperature_B1
    logprobs_B = (tempered_B1 - total_B1.log())[:, 0]
    sampling_B, untempered_B = logprobs_B, logprobs_B
    if settings.top_p_B is not None:
        sampling_B = (tempered_B1 - nucleus_B1.log()).clamp(max=0.0)[:, 0]
    if settings.is_greedy_B is not None:
        sampling_B = sampling_B.masked_fill(settings.is_greedy_B, 0.0)
    if temperature_B1 is not None:
        untempered_B = (drawn_B1 - below_BV.exp_().sum(dim=1, keepdim=True).log())[:, 0]
    return Draw(ids_B1[:, 0], logprobs_B, sampling_B, untempered_B)


def _inverted(weights_BV: Tensor, uniform_B1: Tensor) -> tuple[Tensor, Tensor]:
    """Return the token at share `uniform_B1` of each row's weight, and the row's whole weight.

    Two levels, blocks and then tokens of one block: adding up along rows of the whole vocabulary is
    several times slower. A token without weight is never drawn.
    """
    num_tokens = weights_BV.shape[1]
    size = _block_size(num_tokens)
    whole = num_tokens // size * size
    blocks_BN = weights_BV[:, :whole].unflatten(1, (-1, size)).sum(dim=2)
    if whole < num_tokens:
        blocks_BN = torch.cat([blocks_BN, weights_BV[:, whole:].sum(dim=1, keepdim=True)], dim=1)
    cumulative_BN = blocks_BN.cumsum(dim=1)
    total_B1 = cumulative_BN[:, -1:].contiguous()
    target_B1 = _below(uniform_B1 * total_B1, total_B1)
    block_B1 = torch.searchsorted(cumulative_BN, target_B1, right=True)
    before_B1 = cumulative_BN.gather(1, (block_B1 - 1).clamp(min=0)) * (block_B1 > 0)
    # A short last block is taken with tokens before it, which are then left out.
    first_B1 = (block_B1 * size).clamp(max=num_tokens - size)
    inner_BS = weights_BV.gather(1, first_B1 + torch.arange(size, device=weights_BV.device))
    if whole < num_tokens:
        is_other_BS = torch.arange(size, device=weights_BV.device) < block_B1 * size - first_B1
        inner_BS = inner_BS.masked_fill(is_other_BS, 0.0)
    inner_BS = inner_BS.cumsum(dim=1)
    rest_B1 = _below(target_B1 - before_B1, inner_BS[:, -1:])
    inner_B1 = torch.searchsorted(inner_BS, rest_B1, right=True)
    return first_B1 + inner_B1, total_B1


def _cut(
    weights_BV: Tensor, ids_B1: Tensor, total_B1: Tensor, uniforms_BU: Tensor, top_p_B1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return `ids_B1`, redrawn where they are outside the nucleus, and the nucleus's weight.

    A draw from the whole distribution that falls in the nucleus is a draw from the nucleus. Each
    draw misses with probability below 1 - top_p; rows that missed every time are the few that pay
    for a look for the nucleus's border.
    """
    top_B1 = top_p_B1 * total_B1
    nucleus_B1 = _nucleus_weights(weights_BV, total_B1, top_p_B1)
    rows_M = _missed(weights_BV, ids_B1, top_B1)
    for draw in range(1, DRAWS - 1):
        if len(rows_M) == 0:
            return ids_B1, nucleus_B1
        weights_MV = weights_BV[rows_M]
        ids_M1, _ = _inverted(weights_MV, uniforms_BU[rows_M, draw : draw + 1])
        ids_B1 = ids_B1.index_copy(0, rows_M, ids_M1)
        rows_M = rows_M[_missed(weights_MV, ids_M1, top_B1[rows_M])]
    if len(rows_M) == 0:
        return ids_B1, nucleus_B1
    weights_MV = weights_BV[rows_M]
    border_M1 = _borders(weights_MV, top_B1[rows_M])
    ids_M1, _ = _inverted(_at_least(weights_MV, border_M1), uniforms_BU[rows_M, -1:])
    return ids_B1.index_copy(0, rows_M, ids_M1), nucleus_B1


def _cut_statically(
    weights_BV: Tensor, ids_B1: Tensor, total_B1: Tensor, uniforms_BU: Tensor, top_p_B1: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what `_cut` returns, by the same draws, all of which are made for every row."""
    border_B1 = _borders(weights_BV, top_p_B1 * total_B1)
    inside_BV = _at_least(weights_BV, border_B1)
    drawn_B1, nucleus_B1 = _inverted(inside_BV, uniforms_BU[:, -1:])
    for draw in reversed(range(1, DRAWS - 1)):
        again_B1, _ = _inverted(weights_BV, uniforms_BU[:, draw : draw + 1])
        drawn_B1 = torch.where(weights_BV.gather(1, again_B1) >= border_B1, again_B1, drawn_B1)
    ids_B1 = torch.where(weights_BV.gather(1, ids_B1) >= border_B1, ids_B1, drawn_B1)
    return ids_B1, torch.where(top_p_B1 < 1.0, nucleus_B1, total_B1)


def _missed(weights_BV: Tensor, ids_B1: Tensor, top_B1: Tensor) -> Tensor:
    """Return the rows whose token is outside the nucleus of weight `top_B1`."""
    heavier_B1 = _heavier(weights_BV, weights_BV.gather(1, ids_B1))
    return (heavier_B1 > top_B1).nonzero()[:, 0]


def _borders(weights_BV: Tensor, top_B1: Tensor) -> Tensor:
    """Return the least weight of each row's nucleus: heavier tokens hold at most `top_B1`.

    Found by halving the interval of all floats, thirty times: a sum over the vocabulary each, which
    takes as long for any distribution, and less than sorting.
    """
    low_B1 = torch.zeros_like(top_B1, dtype=torch.int32)
    high_B1 = torch.full_like(low_B1, _BITS_OF_ONE)
    for _ in range(_BITS_OF_ONE.bit_length()):
        middle_B1 = (low_B1 + high_B1) >> 1
        is_enough_B1 = _heavier(weights_BV, middle_B1.view(torch.float32)) <= top_B1
        high_B1 = torch.where(is_enough_B1, middle_B1, high_B1)
        low_B1 = torch.where(is_enough_B1, low_B1, middle_B1 + 1)
    return high_B1.view(torch.float32)


def _heavier(weights_BV: Tensor, border_B1: Tensor) -> Tensor:
    """Return what tokens above a weight weigh together."""
    return torch.where(weights_BV > border_B1, weights_BV, 0.0).sum(dim=1, keepdim=True)


def _at_least(weights_BV: Tensor, border_B1: Tensor) -> Tensor:
    """Return the weights, 0 in place of those below the border."""
    return torch.where(weights_BV >= border_B1, weights_BV, 0.0)


def _nucleus_weights(weights_BV: Tensor, total_B1: Tensor, top_p_B1: Tensor) -> Tensor:
    """Return the weight of each row's nucleus; of the whole row where nothing is cut.

    The likeliest few tokens hold most nuclei: wider ones alone are looked for among all tokens.
    """
    rows_M = (top_p_B1 < 1.0).nonzero()[:, 0]
    weights_MV, top_M1 = weights_BV[rows_M], (top_p_B1 * total_B1)[rows_M]
    likeliest_ML = weights_MV.topk(min(_LIKELIEST, weights_MV.shape[1]), dim=1).values
    cumulative_ML = likeliest_ML.cumsum(dim=1)
    num_kept_M1 = (cumulative_ML - likeliest_ML <= top_M1).sum(dim=1, keepdim=True)
    border_M1 = likeliest_ML.gather(1, num_kept_M1 - 1)
    nucleus_M1_ = _at_least(likeliest_ML, border_M1).sum(dim=1, keepdim=True)
    # Others may be as likely as the last of them.
    wide_W = (likeliest_ML[:, -1:] >= border_M1).nonzero()[:, 0]
    if len(wide_W):
        weights_WV = weights_MV[wide_W]
        inside_WV = _at_least(weights_WV, _borders(weights_WV, top_M1[wide_W]))
        nucleus_M1_[wide_W] = inside_WV.sum(dim=1, keepdim=True)
    return total_B1.index_copy(0, rows_M, nucleus_M1_)


def _below(target: Tensor, total: Tensor) -> Tensor:
    """Return `target` kept in [0, total): rounding must not push a draw past the last token."""
    return torch.minimum(target.clamp(min=0.0), torch.nextafter(total, torch.zeros_like(total)))


def _block_size(num_tokens: int) -> int:
    """Return a divisor of `num_tokens` near its square root, or the root where there is none."""
    root = max(1, math.isqrt(num_tokens))
    for size in range(root, 2 * root + 1):
        if num_tokens % size == 0:
            return size
    return root


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's finaliser of `words`; products wrap at 2^64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
