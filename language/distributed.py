"""Data parallelism in a few primitives; with one process they change nothing."""

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Item = TypeVar("Item")


def world() -> tuple[int, int]:
    """Return (rank, number of processes) of the default group; (0, 1) when there is none."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def shard(items: Sequence[Item], rank: int, world_size: int) -> list[Item]:
    """Return every `world_size`-th of `items`, from `rank` on: ranks share all, none twice."""
    return list(items[rank::world_size])


def all_reduce_sum_(tensor: Tensor) -> Tensor:
    """Replace `tensor` by its sum over all processes, and return it."""
    if world()[1] > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.SUM)
    return tensor


def all_reduce_max_(tensor: Tensor) -> Tensor:
    """Replace `tensor` by its maximum over all processes, and return it."""
    if world()[1] > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def sum_gradients_(model: nn.Module) -> None:
    """Add up each gradient over all processes: for losses divided by the global count already.

    A parameter without a gradient on this process counts as zero, as it may have one on another.
    """
    if world()[1] == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat, op=dist.ReduceOp.SUM)
    start = 0
    for parameter in parameters:
        assert parameter.grad is not None
        end = start + parameter.grad.numel()
        parameter.grad.copy_(flat[start:end].view_as(parameter.grad))
        start = end


def average_gradients_(model: nn.Module) -> None:
    """Average each gradient over all processes: for losses that are means over equal shards."""
    num_processes = world()[1]
    if num_processes == 1:
        return
    sum_gradients_(model)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(num_processes)


def gather_objects(item: Item) -> list[Item]:
    """Return the `item` of every process, by rank. For small things: it is pickled in memory."""
    num_processes = world()[1]
    if num_processes == 1:
        return [item]
    items: list[Item] = [item] * num_processes
    dist.all_gather_object(items, item)
    return items


def barrier() -> None:
    """Wait until every process is here."""
    if world()[1] > 1:
        dist.barrier()
