"""Which rows make a step: shared by every trainer of policies."""

import math
from collections.abc import Iterator, Sequence

import torch


def shuffled_stream(num_rows: int, *, seed: int) -> Iterator[int]:
    """Yield row indices without end: every epoch is a new permutation of all rows.

    The stream depends on `num_rows` and `seed` alone, so a resumed run finds its place by counting.
    """
    assert num_rows > 0, "an endless stream needs rows"
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(num_rows, generator=generator).tolist()


def steps_by_rows(
    num_rows: int, *, num_epochs: float, rows_per_step: int, seed: int
) -> list[list[int]]:
    """Return the row indices of every step: `num_epochs` passes, `rows_per_step` rows a step.

    A part of an epoch is that part of its rows, at least one. Only the last step may be smaller.
    """
    stream = shuffled_stream(num_rows, seed=seed)
    total = max(1, round(num_epochs * num_rows))
    return [
        [next(stream) for _ in range(min(rows_per_step, total - start))]
        for start in range(0, total, rows_per_step)
    ]


def steps_by_tokens(
    lengths: Sequence[int], *, num_epochs: float, tokens_per_step: int, seed: int
) -> list[list[int]]:
    """Return the row indices of every step: as many as fit into `tokens_per_step`, at least one."""
    stream = shuffled_stream(len(lengths), seed=seed)
    steps: list[list[int]] = []
    num_tokens = math.inf
    for _ in range(max(1, round(num_epochs * len(lengths)))):
        index = next(stream)
        if num_tokens + lengths[index] > tokens_per_step:
            steps.append([])
            num_tokens = 0
        steps[-1].append(index)
        num_tokens += lengths[index]
    return steps
