"""What this machine can do right now: matrix multiplication and memory bandwidth, one thread.

Floors are formulas over these two numbers. On a shared machine both move, so they are measured
right before and after each benchmark, and the minimum time of several repeats counts.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

_SIZE = 1024
_NUM_BYTES = 256 * 2**20


def fastest_seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the fewest CPU seconds of `repeats` times `work`: neighbours do not count."""
    timings = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        timings.append(time.process_time() - start)
    return min(timings)


def calibrate() -> dict[str, float]:
    """Return rates of products of 1024² matrices, by type (`gflops` is float32's), and of a sum."""
    torch.set_num_threads(1)
    vector = torch.ones(_NUM_BYTES // 4)
    sum_seconds = fastest_seconds(vector.sum)
    rates = {dtype: _gflops(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "gflops": rates[torch.float32],
        "gflops_float32": rates[torch.float32],
        "gflops_bfloat16": rates[torch.bfloat16],
        "gigabytes_per_second": round(_NUM_BYTES / sum_seconds / 1e9, 1),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _gflops(dtype: torch.dtype) -> float:
    left, right = (torch.randn(_SIZE, _SIZE).to(dtype) for _ in range(2))
    return round(2 * _SIZE**3 / fastest_seconds(lambda: left @ right) / 1e9, 1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(calibrate()) + "\n")
