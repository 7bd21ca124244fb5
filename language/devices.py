"""Where models live and in which floating-point type: the names that configs use."""

import os
from typing import Any

import torch
from torch import Tensor

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """Return the device named by a config: `auto` takes a GPU where there is one.

    Raises:
        ValueError: The name is unknown, or there is no such device.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"device: {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch sees no GPU; use auto or cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def own_gpu() -> int:
    """Return the number of this process's GPU on its host, as torchrun counts the processes.

    Raises:
        ValueError: There are more processes than GPUs.
    """
    num_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_gpus = torch.cuda.device_count()
    if num_processes > num_gpus:
        raise ValueError(
            f"num_processes: {num_processes} is above the number of GPUs that this worker sees, "
            f"{num_gpus}; ask for fewer, or set CUDA_VISIBLE_DEVICES"
        )
    return int(os.environ.get("LOCAL_RANK", "0"))


def resolve_dtype(name: str) -> torch.dtype:
    """Return the floating-point type named by a config.

    Raises:
        ValueError: The name is not `float32` or `bfloat16`.
    """
    if name not in _DTYPES:
        raise ValueError(f"dtype: {name!r} is not one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def tensor_on(
    device: torch.device | str,
    values: Any,  # noqa: ANN401 - numbers, nested as torch.tensor takes them
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return a tensor of `values` on `device`, without waiting for what a GPU has yet to do.

    torch's own copy from ordinary memory ends when all work queued before it has ended.
    """
    tensor = torch.tensor(values, dtype=dtype)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
