"""Products of few rows with a weight that stays, in the layout that multiplies them quickest.

B rows; a weight is (out, in), as in a linear layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_OPERATORS = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
_LARGE = 2**17
"""A float32 weight of fewer numbers stays in the caches, where a plain product is the quickest."""


class Product(NamedTuple):
    """Multiplication by one weight."""

    of: Callable[[Tensor], Tensor]
    """Takes x (B, in) to x @ weight.t(), (B, out)."""
    added: Callable[[Tensor, Tensor], Tensor]
    """Takes hidden (B, out) and x (B, in) to hidden + x @ weight.t()."""


def in_place(weight: Tensor) -> Product:
    """Return the product with `weight` where and as it is."""
    return _by(weight.t())


def held(weight: Tensor) -> Product:
    """Return the product with a copy of `weight`, which must be on a CPU.

    A bfloat16 weight, or a large one, is laid out by oneDNN as it likes; a small one in float32 is
    transposed. Products of few rows then take down to half of the time
    (docs/decisions/0015-continuous-batching.md). A bfloat16 weight that oneDNN cannot lay out is
    not copied.
    """
    if is_packed(weight):
        return _packed(weight)
    return _by(weight.t().contiguous() if weight.dtype == torch.float32 else weight.t())


def is_packed(weight: Tensor) -> bool:
    """Return whether `held` has oneDNN lay the weight out."""
    is_bfloat16 = weight.dtype == torch.bfloat16
    return (is_bfloat16 or weight.numel() >= _LARGE) and can_pack(weight.dtype)


def can_pack(dtype: torch.dtype) -> bool:
    """Return whether this torch and this processor multiply by packed weights of the type."""
    operators = torch.ops.mkldnn
    if not all(hasattr(operators, name) for name in _OPERATORS):
        return False
    if dtype == torch.bfloat16:
        return bool(operators._is_mkldnn_bf16_supported())
    return dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _by(transposed: Tensor) -> Product:
    return Product(
        lambda x: torch.mm(x, transposed), lambda hidden, x: torch.addmm(hidden, x, transposed)
    )


def _packed(weight: Tensor) -> Product:
    """Return the product with oneDNN's own layout of a weight.

    torch's linear layer has the weight laid out anew each time, which for few rows is more work
    than the product. Laying it out once has no public name: these operators are what torch's
    compiler calls for weights that it was told stay as they are.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    linear = torch.ops.mkldnn._linear_pointwise
    plain, binary = linear.default, linear.binary
    return Product(
        lambda x: plain(x, packed, None, "none", [], ""),
        lambda hidden, x: binary(x, hidden, packed, None, "add"),
    )
