"""Products of few rows with a weight that stays, in the layout that multiplies them quickest.

B rows; a weight is (out, in), as in a linear layer.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


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

    In float32 the copy is transposed, in bfloat16 oneDNN lays it out as it likes. Products of few
    rows then take down to half of the time (docs/decisions/0015-continuous-batching.md). Without
    oneDNN a bfloat16 weight is not copied.
    """
    if weight.dtype == torch.bfloat16 and can_pack():
        return _packed(weight)
    return _by(weight.t().contiguous() if weight.dtype == torch.float32 else weight.t())


def can_pack() -> bool:
    """Return whether this torch and this processor multiply by packed bfloat16 weights."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    operators = torch.ops.mkldnn
    return all(hasattr(operators, n) for n in names) and operators._is_mkldnn_bf16_supported()


def _by(transposed: Tensor) -> Product:
    return Product(
        lambda x: torch.mm(x, transposed), lambda hidden, x: torch.addmm(hidden, x, transposed)
    )


def _packed(weight: Tensor) -> Product:
    """Return the product with oneDNN's own layout of a bfloat16 weight.

    torch's linear layer has oneDNN lay the weight out anew each time, which for few rows is more
    work than the product. Laying it out once has no public name: these operators are what torch's
    compiler calls for weights that it was told stay as they are.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    linear = torch.ops.mkldnn._linear_pointwise
    plain, binary = linear.default, linear.binary
    return Product(
        lambda x: plain(x, packed, None, "none", [], ""),
        lambda hidden, x: binary(x, hidden, packed, None, "add"),
    )
