"""The projections of a layer as functions of few rows: joined where they read the same input.

B rows, H query heads, J key heads, E head size, D hidden, F feed-forward.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP

from language.adapters import LowRank, Projection, projection_of
from language.products import Product, held, in_place, is_packed

_FUSED_WEIGHTS = 2**22
"""Projections of at most this many weights are copied for the length of a call: joined into one,
and on a CPU in the layout that is multiplied quickest."""
_SEVERAL_ROWS, _MANY_ROWS = 4, 32
"""With fewer a float32 weight of a CPU, packed or transposed, is used where it is: the copy costs
more than it gains."""
_FUSED_WEIGHTS_ON_A_GPU = 2**26
"""There a launch costs more than the copy: 3.2 GB for the queries, keys and values of 7B."""
_ROOMY_BYTES = 40 * 2**30
"""A GPU with less memory has no room for such copies."""


def paired(head: Tensor) -> Tensor:
    """Return the components of a head (first dimension) so that those that turn together meet."""
    neighbours: Tensor = head.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)
    return neighbours


def queries_keys_values(attention: LlamaAttention, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return a function to queries, keys and values (B, (H + 2 J) * E), queries scaled.

    Components that turn together stand side by side in queries and keys: a rotation is then one
    product of complex numbers. Attention does not see the order.
    """
    size, scale = attention.head_dim, attention.scaling
    modules = (attention.q_proj, attention.k_proj, attention.v_proj)
    order, device = paired(torch.arange(size)), attention.q_proj.weight.device
    queries, keys = (
        (torch.arange(module.out_features // size)[:, None] * size + order).flatten().to(device)
        for module in modules[:2]
    )
    parts = _joinable(modules)
    if parts is not None:
        q_part, k_part, v_part = parts
        arranged = [_arranged(q_part, queries, scale), _arranged(k_part, keys, 1.0), v_part]
        return _multiplying(_side_by_side(arranged), num_rows)
    functions = [_function_of(module, num_rows) for module in modules]

    def apart(hidden_BD: Tensor) -> Tensor:
        q, k, v = (function(hidden_BD) for function in functions)
        return torch.cat([q[:, queries] * scale, k[:, keys], v], dim=-1)

    return apart


def gate_and_up(mlp: LlamaMLP, num_rows: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function to both halves of a gated layer."""
    modules = (mlp.gate_proj, mlp.up_proj)
    parts = _joinable(modules)
    if parts is not None:
        joined = _multiplying(_side_by_side(parts), num_rows)
        return lambda hidden_BD: joined(hidden_BD).chunk(2, dim=1)
    functions = [_function_of(module, num_rows) for module in modules]
    return lambda hidden_BD: [function(hidden_BD) for function in functions]


def adding(module: nn.Module, num_rows: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of (hidden, x) that adds the projection of x to hidden."""
    part = projection_of(module)
    if part is None:
        return lambda hidden_BD, x: hidden_BD + module(x)
    added, low_rank = _product(part.weight, num_rows).added, part.low_rank
    if low_rank is None:
        return added
    down, up = low_rank
    return lambda hidden_BD, x: added(hidden_BD, x).addmm_(x @ down, up)


def logits_projection(module: nn.Module, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return the projection to logits: the module itself unless its weight is held."""
    part = projection_of(module)
    return (
        module
        if part is None or not _is_held(part.weight, num_rows)
        else _multiplying(part, num_rows)
    )


def _function_of(module: nn.Module, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return the projection as a function, with fewer kernels than the module where it may be."""
    part = projection_of(module)
    return module if part is None else _multiplying(part, num_rows)


def _multiplying(part: Projection, num_rows: int) -> Callable[[Tensor], Tensor]:
    """Return the projection as a function of x."""
    product, low_rank = _product(part.weight, num_rows).of, part.low_rank
    if low_rank is None:
        return product
    down, up = low_rank
    return lambda x: product(x).addmm_(x @ down, up)


def _product(weight: Tensor, num_rows: int) -> Product:
    return held(weight) if _is_held(weight, num_rows) else in_place(weight)


def _is_held(weight: Tensor, num_rows: int) -> bool:
    """Return whether a call has its own copy of a weight. A GPU gains nothing from one."""
    if weight.device.type != "cpu" or weight.numel() > _max_fused(weight.device):
        return False
    if weight.dtype != torch.float32:
        return True
    return num_rows >= (_SEVERAL_ROWS if is_packed(weight) else _MANY_ROWS)


def _joinable(modules: Sequence[nn.Module]) -> list[Projection] | None:
    """Return the projections as matrices where these are small enough to be copied for a call."""
    parts = [part for part in map(projection_of, modules) if part is not None]
    size = sum(part.weight.numel() for part in parts)
    if len(parts) < len(modules):
        return None
    return parts if size <= _max_fused(parts[0].weight.device) else None


def _max_fused(device: torch.device) -> int:
    """Return how many weights may be copied to be joined; what this process may use decides."""
    if device.type != "cuda":
        return _FUSED_WEIGHTS
    share = torch.cuda.get_per_process_memory_fraction(device)
    room = share * torch.cuda.get_device_properties(device).total_memory
    return _FUSED_WEIGHTS_ON_A_GPU if room >= _ROOMY_BYTES else _FUSED_WEIGHTS


def _arranged(part: Projection, places: Tensor, factor: float) -> Projection:
    """Return a projection whose outputs are those at `places`, times `factor`."""
    weight, low_rank = part.weight[places], part.low_rank
    if low_rank is not None:
        low_rank = low_rank._replace(up=low_rank.up[:, places] * factor)
    return Projection(weight if factor == 1.0 else weight.mul_(factor), low_rank)


def _side_by_side(parts: Sequence[Projection]) -> Projection:
    """Return several projections of the same input as one, their outputs joined."""
    weight = torch.cat([part.weight for part in parts])
    if all(part.low_rank is None for part in parts):
        return Projection(weight, None)
    empty = LowRank(weight.new_empty(weight.shape[1], 0), weight.new_empty(0, 0))
    low_ranks = [
        part.low_rank or empty._replace(up=weight.new_empty(0, len(part.weight))) for part in parts
    ]
    down = torch.cat([low_rank.down for low_rank in low_ranks], dim=1)
    return Projection(weight, LowRank(down, torch.block_diag(*(low.up for low in low_ranks))))
