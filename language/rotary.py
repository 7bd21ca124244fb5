"""Rotary positions: queries and keys turned by where their tokens are, in few passes over memory.

Shapes: E head size.
"""

from torch import Tensor


def turned(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `tensor` (..., E) turned by (cos, sin), which fit it by broadcasting.

    The first half of a vector and the second are the two coordinates of its pairs, as in Llama; so
    the two halves of cos are equal, and those of sin. With -sin it is turned back.
    """
    half = tensor.shape[-1] // 2
    result = tensor * cos
    result[..., :half].addcmul_(tensor[..., half:], sin[..., :half], value=-1.0)
    result[..., half:].addcmul_(tensor[..., :half], sin[..., half:])
    return result
