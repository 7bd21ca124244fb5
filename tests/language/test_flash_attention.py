"""Flash attention over packed rows: torch's kernel, which a CPU lacks, is written out in torch."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from language import flash_attention
from language.flash_attention import Spans, attend_by_flash
from language.packed_attention import GPUPlan, attend_by_segments, takes_flash
from language.packing import pack_rows, packed_hidden
from language.precision import cast_parameters_
from language.rows import TokenRow
from tests.models import tiny_policy

PROMPT = tuple(range(10, 30))
ROWS = [
    TokenRow(PROMPT, (1, 2, 3)),
    TokenRow((4, 5), (6, 7, 8, 9)),
    TokenRow(PROMPT, (5, 6, 7, 8, 9, 2)),
    TokenRow(PROMPT, (7,)),
    TokenRow((9, *PROMPT), (3, 3)),
    TokenRow((9, *PROMPT), (4, 4, 2)),
]
HEADS, SIZE = 2, 8


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plan be computed by what torch's kernel is documented to compute."""
    monkeypatch.setattr(flash_attention, "_forward", _forward)
    monkeypatch.setattr(flash_attention, "_backward", _backward)


@pytest.mark.usefixtures("kernel")
def test_the_plan_attends_as_segments_do_forwards_and_backwards() -> None:
    layout = pack_rows(ROWS).layout
    num_tokens = len(layout.dialogue_T)
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(num_tokens, HEADS, SIZE, generator=generator, requires_grad=True)
        for _ in range(3)
    ]
    angles_1TE = torch.rand(1, num_tokens, SIZE // 2, generator=generator).repeat(1, 1, 2)
    rotation = (angles_1TE.cos(), angles_1TE.sin())
    weights = torch.randn(num_tokens, HEADS, SIZE, generator=generator)

    ours = attend_by_flash(*inputs, GPUPlan(layout).flash, 0.3, rotation)
    heads = (tensor.transpose(0, 1)[None] for tensor in inputs)
    expected = attend_by_segments(*heads, layout, 0.3, rotation)[0].transpose(0, 1)

    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    ours_grads = torch.autograd.grad((ours * weights).sum(), inputs)
    expected_grads = torch.autograd.grad((expected * weights).sum(), inputs)
    for one, two in zip(ours_grads, expected_grads, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_rows_that_share_nothing_have_no_branches() -> None:
    plan = GPUPlan(pack_rows(ROWS[:2]).layout).flash
    assert plan.branches is None
    assert plan.segments.starts_S.tolist() == [0, 6, 29]
    assert plan.segments.longest == 23


def test_float32_and_odd_heads_are_not_for_the_kernel() -> None:
    assert takes_flash(torch.bfloat16, 128)
    assert not takes_flash(torch.float32, 128)
    assert not takes_flash(torch.bfloat16, 12)
    assert not takes_flash(torch.bfloat16, 512)


@pytest.mark.gpu
@pytest.mark.parametrize("is_flash", [True, False])
def test_a_gpu_attends_in_half_precision_as_a_cpu_does_in_single(
    is_flash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    if not is_flash:
        monkeypatch.setattr("language.packed_attention.DTYPES", ())
    results = {}
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        model = tiny_policy(hidden_size=64).to(device)
        cast_parameters_(model, dtype)
        packed = pack_rows(ROWS, device=device)
        hidden_ND = packed_hidden(model.model, packed)[packed.row_N]
        torch.autograd.backward(hidden_ND.float().square().mean())
        grad = model.model.layers[0].self_attn.k_proj.weight.grad
        assert grad is not None
        results[device] = (hidden_ND.detach().float().cpu(), grad.float().cpu())
    for on_gpu, on_cpu in zip(results["cuda"], results["cpu"], strict=True):
        assert (on_gpu - on_cpu).norm() < 0.03 * on_cpu.norm()


def _stretches(queries: Spans, keys: Spans) -> Iterator[tuple[slice, slice]]:
    bounds = (pairwise(spans.starts_S.tolist()) for spans in (queries, keys))
    for of_query, of_key in zip(*bounds, strict=True):
        yield slice(*of_query), slice(*of_key)


def _scores(query: Tensor, key: Tensor, scale: float, *, is_causal: bool) -> Tensor:
    """Return scores (H, queries, keys)."""
    scores = torch.einsum("qhe,khe->hqk", query, key) * scale
    if is_causal:
        hidden = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores


def _forward(
    query: Tensor, key: Tensor, value: Tensor, queries: Spans, keys: Spans, **options: Any
) -> tuple[Tensor, Tensor]:
    output, normaliser = torch.empty_like(query), query.new_empty(HEADS, len(query))
    for q, k in _stretches(queries, keys):
        scores = _scores(query[q], key[k], options["scale"], is_causal=options["is_causal"])
        output[q] = torch.einsum("hqk,khe->qhe", scores.softmax(dim=2), value[k])
        normaliser[:, q] = scores.logsumexp(dim=2)
    return output, normaliser


def _backward(
    gradient: Tensor, saved: tuple[Tensor, ...], queries: Spans, keys: Spans, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients from output and normaliser alone, as the kernel does."""
    query, key, value, output, normaliser = saved
    grads = (torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value))
    for q, k in _stretches(queries, keys):
        scores = _scores(query[q], key[k], options["scale"], is_causal=options["is_causal"])
        weights = (scores - normaliser[:, q, None]).exp()
        along = (gradient[q] * output[q]).sum(dim=2).t()[..., None]
        of_scores = torch.einsum("qhe,khe->hqk", gradient[q], value[k])
        of_scores = weights * (of_scores - along) * options["scale"]
        grads[0][q] = torch.einsum("hqk,khe->qhe", of_scores, key[k])
        grads[1][k] = torch.einsum("hqk,qhe->khe", of_scores, query[q])
        grads[2][k] = torch.einsum("hqk,qhe->khe", weights, gradient[q])
    return grads
