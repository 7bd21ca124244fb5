"""What processes that share a run do together, in a few primitives; one alone they leave alone."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")


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


def gather_objects(item: Item) -> list[Item]:
    """Return the `item` of every process, by rank. For small things: it is pickled in memory."""
    num_processes = world()[1]
    if num_processes == 1:
        return [item]
    items: list[Item] = [item] * num_processes
    dist.all_gather_object(items, item)
    return items


def share_out(
    items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]
) -> list[Result]:
    """Return what `work` makes of `items`, one result each; every process works on its share.

    A collective: all give the same items, and all are returned all results, in the order of the
    items. Each works on as many, the first item again where its share is one short: `work` may
    compute with a model that is cut over the processes. Results are pickled in memory.
    """
    rank, num_processes = world()
    if num_processes == 1 or not items:
        return list(work(items))
    own = shard(items, rank, num_processes)
    num_short = math.ceil(len(items) / num_processes) - len(own)
    parts = gather_objects(list(work(own + [items[0]] * num_short)))
    return [parts[i % num_processes][i // num_processes] for i in range(len(items))]


def barrier() -> None:
    """Wait until every process is here."""
    if world()[1] > 1:
        dist.barrier()


def is_lost_process(error: Exception) -> bool:
    """Return whether `error` is how torch says that another process of the group is gone."""
    is_gloo = isinstance(error, RuntimeError) and "gloo/transport" in str(error)
    return is_gloo or isinstance(error, dist.DistError)
