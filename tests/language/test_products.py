"""Products with weights that stay: the same numbers in every layout."""

import pytest
import torch
from torch.nn import functional as F

from language import products
from language.products import Product, can_pack, held, in_place

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


def a_weight(dtype: torch.dtype) -> torch.Tensor:
    """Return a weight (24, 40)."""
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(24, 40, generator=generator) / 40**0.5).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_both_products_are_those_of_a_linear_layer(dtype: torch.dtype) -> None:
    weight = a_weight(dtype)

    assert_multiplies(in_place(weight), weight)
    assert_multiplies(held(weight), weight)


def test_a_bfloat16_weight_that_cannot_be_packed_is_multiplied_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(products, "can_pack", lambda: False)
    weight = a_weight(torch.bfloat16)

    assert_multiplies(held(weight), weight)


def test_a_torch_without_the_operators_packs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())

    assert not can_pack()


def test_a_held_weight_is_a_copy_and_one_in_place_is_not() -> None:
    weight = a_weight(torch.float32)
    kept, followed = held(weight), in_place(weight)
    before, x = weight.clone(), torch.ones(2, 40)

    weight.zero_()

    torch.testing.assert_close(kept.of(x), F.linear(x, before))
    assert not followed.of(x).any()
