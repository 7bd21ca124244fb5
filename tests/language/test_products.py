"""Products with weights that stay: the same numbers in every layout."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from language import products
from language.products import Product, can_pack, held, in_place, is_packed

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


def assert_multiplies(product: Product, weight: torch.Tensor) -> None:
    """Assert that `product` multiplies by `weight`, for one row and for several."""
    generator = torch.Generator().manual_seed(2)
    for num_rows in (1, 3, 17):
        x = torch.randn(num_rows, weight.shape[1], generator=generator).to(weight.dtype)
        hidden = torch.randn(num_rows, weight.shape[0], generator=generator).to(weight.dtype)
        expected = F.linear(x.double(), weight.double())
        tolerance = TOLERANCES[weight.dtype]
        torch.testing.assert_close(product.of(x).double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            product.added(hidden, x).double(), hidden + expected, rtol=tolerance, atol=tolerance
        )
        assert product.of(x).dtype == product.added(hidden, x).dtype == weight.dtype


def a_weight(dtype: torch.dtype, num_outputs: int = 24, num_inputs: int = 40) -> torch.Tensor:
    """Return a weight (num_outputs, num_inputs)."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(num_outputs, num_inputs, generator=generator) / num_inputs**0.5
    return weight.to(dtype)


def large_weight(dtype: torch.dtype) -> torch.Tensor:
    """Return a weight that `held` packs in float32, too."""
    return a_weight(dtype, 520, 260)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("make", [a_weight, large_weight])
def test_both_products_are_those_of_a_linear_layer(
    make: Callable[[torch.dtype], torch.Tensor], dtype: torch.dtype
) -> None:
    weight = make(dtype)

    assert_multiplies(in_place(weight), weight)
    assert_multiplies(held(weight), weight)


def test_large_weights_are_packed_in_float32_and_small_ones_are_not() -> None:
    assert is_packed(large_weight(torch.float32)) == can_pack(torch.float32)
    assert not is_packed(a_weight(torch.float32))
    assert not is_packed(large_weight(torch.float32).double())


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_weight_that_cannot_be_packed_is_multiplied_by_torch(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "can_pack", lambda _: False)
    weight = large_weight(dtype)

    assert not is_packed(weight)
    assert_multiplies(held(weight), weight)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_torch_without_the_operators_packs_nothing(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())

    assert not can_pack(dtype)


@pytest.mark.parametrize("make", [a_weight, large_weight])
def test_a_held_weight_is_a_copy_and_one_in_place_is_not(
    make: Callable[[torch.dtype], torch.Tensor],
) -> None:
    weight = make(torch.float32)
    kept, followed = held(weight), in_place(weight)
    before, x = weight.clone(), torch.ones(2, weight.shape[1])

    weight.zero_()

    torch.testing.assert_close(kept.of(x), F.linear(x, before))
    assert not followed.of(x).any()
