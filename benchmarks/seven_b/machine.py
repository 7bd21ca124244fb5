"""The machine a stage runs on: its device, clocks, memory and what it can do at best."""

import gc
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import torch

GIGA = 1e9


class Rates(NamedTuple):
    """What the machine does at best, measured in this process."""

    bf16: float
    """FLOP per second of a bfloat16 matrix product."""
    fp32: float
    """The same in float32, without TF32."""
    copy: float
    """Bytes per second of a copy on the device, read and written."""


class Machine:
    """One device. Everything here waits for it, so a stage's own loop need not."""

    def __init__(self) -> None:
        is_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if is_gpu else _CPU
        self.is_gpu = is_gpu
        self._rates: dict[int, Rates] = {}

    @property
    def memory(self) -> float:
        """Gigabytes of the device; 0 on a CPU."""
        if not self.is_gpu:
            return 0.0
        return float(torch.cuda.get_device_properties(self.device).total_memory) / GIGA

    def describe(self) -> dict[str, Any]:
        """Return what every line says of the machine."""
        name = torch.cuda.get_device_name(self.device) if self.is_gpu else "CPU"
        return {"device": name, "memory_gb": round(self.memory, 1), "torch": torch.__version__}

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the wall seconds of `work` and all that it has the device do."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def median_seconds(self, work: Callable[[], Any], repeats: int) -> float:
        """Return the median of `repeats` times `work`, after one time that does not count."""
        work()
        return sorted(self.seconds(work) for _ in range(repeats))[repeats // 2]

    def peak_gigabytes(self) -> float:
        """Return the most memory held since `release`; on a CPU, since the process began."""
        if self.is_gpu:
            return round(torch.cuda.max_memory_allocated() / GIGA, 2)
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGA, 2)

    def release(self) -> None:
        """Let go of everything that nobody holds, and begin a new count of the peak."""
        gc.collect()
        torch.compiler.reset()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def only(self, gibibytes: float) -> Iterator[None]:
        """Let this process have so much of the GPU's memory within the block, as if it had less.

        What asks for more gets `torch.OutOfMemoryError`.
        """
        if not self.is_gpu:
            yield
            return
        torch.cuda.set_per_process_memory_fraction(min(1.0, gibibytes * 2**30 / GIGA / self.memory))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def rates(self, size: int) -> Rates:
        """Return what products of size² matrices and copies reach; measured once."""
        if size not in self._rates:
            self._rates[size] = Rates(
                self._flops(size, torch.bfloat16),
                self._flops(size, torch.float32),
                self._copy(size),
            )
        return self._rates[size]

    def _flops(self, size: int, dtype: torch.dtype) -> float:
        left, right = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        return 2.0 * size**3 / self._each(lambda: left @ right, 10)

    def _copy(self, size: int) -> float:
        source = torch.randn(16, size, size, device=self.device)
        target = torch.empty_like(source)
        return 2.0 * source.numel() * 4 / self._each(lambda: target.copy_(source), 10)

    def _each(self, work: Callable[[], Any], times: int) -> float:
        """Return the seconds of one `work` among several without a wait between them."""

        def several() -> None:
            for _ in range(times):
                work()

        return self.median_seconds(several, 3) / times


_CPU = torch.device("cpu")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError within the block once `seconds` are over; limits may lie within limits."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"took longer than {seconds:.0f} s")

    earlier = signal.signal(signal.SIGALRM, end)
    started = time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, earlier)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.01, left - (time.monotonic() - started)))
