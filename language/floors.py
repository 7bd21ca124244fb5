"""What a pass over a Llama needs at least, and what this machine gives: floors to measure against.

A floor is the products of the layers' matrices alone. Attention, norms, optimizers and the launch
of kernels count as nothing, so no work reaches it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

_SIZES = {"cpu": 512, "cuda": 4096}
"""Of the square matrices whose product is timed: large enough for the best rate, or near it."""
_COPIED_BYTES = 2**26
_REPEATS = 5


def pass_flops(
    hidden: int,
    intermediate: int,
    layers: int,
    *,
    tokens: float,
    read: float,
    key_value_share: float = 1.0,
) -> float:
    """Return the FLOP of the layers' products in a forward pass over `tokens`, attention left out.

    2 for each parameter and token; in the last layer all tokens need keys, values and queries, but
    the output projection and the feed-forward only those that a head `read`s. Of keys and values
    there are `key_value_share` times as many heads as of queries.
    """
    inward = (1.0 + 2.0 * key_value_share) * hidden**2
    outward = hidden**2 + 3 * hidden * intermediate
    return 2.0 * (layers * (inward + outward) * tokens - outward * (tokens - read))


def llama_flops(shape: Mapping[str, int], *, tokens: float, read: float) -> float:
    """Return `pass_flops` of a shape as `LlamaConfig` names it."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers")
    share = shape["num_key_value_heads"] / shape["num_attention_heads"]
    return pass_flops(
        *(shape[name] for name in names), tokens=tokens, read=read, key_value_share=share
    )


class Rates(NamedTuple):
    """What a process gets from the machine at best."""

    flops: float
    """FLOP a second, of products of large matrices."""
    num_bytes: float
    """Bytes a second between processor and memory, read or written."""


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Return what products in `dtype` and copies reach on `device` right now; takes about 0.1 s.

    The best of a few counts: on a shared machine the others are somebody else's.
    """
    size = _SIZES["cpu" if device.type == "cpu" else "cuda"]
    # Numbers of all sizes: a GPU that multiplies ones draws less power, and is quicker for it.
    left = torch.linspace(-1.0, 1.0, size * size, device=device).view(size, size).to(dtype)
    right = left.t().contiguous()
    source = torch.ones(_COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(
        2.0 * size**3 / _fewest_seconds(lambda: left @ right, device),
        2.0 * _COPIED_BYTES / _fewest_seconds(lambda: target.copy_(source), device),
    )


def _fewest_seconds(work: Callable[[], Any], device: torch.device) -> float:
    seconds = []
    for _ in range(_REPEATS):
        _wait_for(device)
        started = time.perf_counter()
        work()
        _wait_for(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
