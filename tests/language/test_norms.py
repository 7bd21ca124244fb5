"""The norm in few passes is transformers' norm, forwards, backwards and in a whole model."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from language.models import load_policy
from language.norms import FewPassRMSNorm, norm_of_rows, use_few_pass_norms_
from language.scalars import create_scalar_model
from tests.models import write_tiny_policy

EPSILON = 1e-5


def both(dtype: torch.dtype) -> tuple[LlamaRMSNorm, LlamaRMSNorm]:
    """Return transformers' norm with uneven weights, and ours with the same."""
    theirs = LlamaRMSNorm(48, eps=EPSILON)
    torch.nn.init.uniform_(theirs.weight, 0.2, 3.0, generator=torch.Generator().manual_seed(0))
    theirs = theirs.to(dtype)
    ours = deepcopy(theirs)
    use_few_pass_norms_(ours)
    assert isinstance(ours, FewPassRMSNorm)
    return theirs, ours


def inputs(dtype: torch.dtype, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, gradient = (torch.randn(2, 7, 48, generator=generator) for _ in range(2))
    return (scale * hidden).to(dtype), gradient.to(dtype)


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_values_and_gradients_are_those_of_transformers(scale: float) -> None:
    results = []
    for norm in both(torch.float32):
        hidden, gradient = inputs(torch.float32, scale)
        hidden.requires_grad_()
        output = norm(hidden)
        output.backward(gradient)
        assert norm.weight.grad is not None
        assert hidden.grad is not None
        results.append((output.detach(), norm.weight.grad, scale * hidden.grad))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e-4, 1e4])
def test_the_norm_of_rows_is_that_of_transformers(scale: float) -> None:
    theirs, _ = both(torch.float32)
    hidden, _ = inputs(torch.float32, scale)

    with torch.no_grad():
        torch.testing.assert_close(
            norm_of_rows(theirs)(hidden[0]), theirs(hidden[0]), atol=1e-5, rtol=1e-5
        )


def test_the_norm_of_bfloat16_rows_is_rounded_once() -> None:
    theirs, _ = both(torch.bfloat16)
    hidden, _ = inputs(torch.bfloat16)

    with torch.no_grad():
        exact = deepcopy(theirs).float()(hidden[0].float())
        ours = norm_of_rows(theirs)(hidden[0])

    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, atol=0.0, rtol=2**-8)


def test_the_gradient_written_out_is_the_one_of_finite_differences() -> None:
    """Central differences of transformers' norm in float64, at three places."""
    theirs, ours = both(torch.float32)
    hidden, gradient = inputs(torch.float32)
    own = hidden.clone().requires_grad_()
    ours(own).backward(gradient)
    assert own.grad is not None
    weight = theirs.weight.detach().double()

    def value(at: Tensor) -> float:
        variance = at.square().mean(dim=-1, keepdim=True)
        return float((at * torch.rsqrt(variance + EPSILON) * weight * gradient.double()).sum())

    for place in ((0, 0, 0), (1, 3, 20), (1, 6, 47)):
        step = torch.zeros(2, 7, 48, dtype=torch.float64)
        step[place] = 1e-4
        slope = (value(hidden.double() + step) - value(hidden.double() - step)) / 2e-4
        assert own.grad[place].item() == pytest.approx(slope, abs=1e-5)


def test_bfloat16_differs_from_transformers_by_a_last_bit_at_most() -> None:
    theirs, ours = both(torch.bfloat16)
    results = []
    for norm in (theirs, ours):
        hidden, gradient = inputs(torch.bfloat16)
        hidden.requires_grad_()
        output = norm(hidden)
        output.backward(gradient)
        assert hidden.grad is not None
        results.append((output.detach(), hidden.grad))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=2**-7, atol=0.0)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=2**-5, atol=2**-6)


def test_every_model_that_is_loaded_has_them(tmp_path: Path) -> None:
    folder = write_tiny_policy(tmp_path / "policy")
    for model in (load_policy(folder), create_scalar_model(folder, seed=0)):
        norms = [m for m in model.modules() if isinstance(m, LlamaRMSNorm)]
        assert len(norms) == 2 * model.config.num_hidden_layers + 1
        assert all(type(norm) is FewPassRMSNorm for norm in norms)
