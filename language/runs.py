"""How a run starts and ends: the shared `__main__` of every torch package."""

import argparse
import ctypes
import logging
import math
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import torch.distributed as dist
from tqdm.contrib.logging import logging_redirect_tqdm

from language.devices import own_gpu, resolve_device, resolve_dtype
from language.distributed import all_reduce_max_, is_lost_process
from language.progress import ProgressBar
from records.run_configs import RunConfig
from records.rundirs import RunBusyError, RunDirectory, RunSpec

EXIT_FAILED, EXIT_BUSY, EXIT_LOST, EXIT_STOPPED = 1, 75, 76, 130
_PR_SET_PDEATHSIG = 1


class RunStopped(Exception):  # noqa: N818 - it is an outcome, not an error
    """The run was asked to stop, has saved a checkpoint and ended."""


class RunContext:
    """What a run may use: device, type, its place among the processes, a generator, the log.

    Attributes:
        device: Where the models live.
        dtype: Floating-point type of the weights.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        generator: Seeded by the config, equal on all processes; passed to every random choice.
    """

    def __init__(
        self, run_directory: RunDirectory, config: RunConfig, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.device = resolve_device(config.device)
        self.dtype = resolve_dtype(config.dtype)
        self.rank = rank
        self.world_size = world_size
        self.generator = torch.Generator().manual_seed(config.seed)
        self._run_directory = run_directory
        self._started = time.monotonic()
        self._is_stop_requested = False
        self._bar = ProgressBar()

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    @property
    def loading_device(self) -> torch.device:
        """Where a model that will be trained is loaded: several processes load it once, in one.

        There it waits in the main process's memory to be cut; the others know its shape alone.
        """
        if self.world_size == 1:
            return self.device
        return torch.device("cpu" if self.is_main else "meta")

    @property
    def stop_requested(self) -> bool:
        """Whether any process was asked to stop.

        With several processes this is a collective: all of them read it at the same place of the
        loop, so that all stop at the same step.
        """
        if self.world_size == 1:
            return self._is_stop_requested
        flag = torch.tensor(float(self._is_stop_requested), device=self.device)
        return bool(all_reduce_max_(flag).item())

    def request_stop(self) -> None:
        """Ask the loop to save a checkpoint and raise `RunStopped` at its next step."""
        self._is_stop_requested = True

    def log(self, step: int, **metrics: float | int | str | None) -> None:
        """Append a row of metrics on the main process, with `seconds` since the start.

        Numbers that JSON cannot hold (NaN, infinities) become None. A terminal shows a bar.
        """
        if not self.is_main:
            return
        self._bar.show(step, metrics)
        row = {name: _finite(value) for name, value in metrics.items()}
        row["seconds"] = round(time.monotonic() - self._started, 3)
        self._run_directory.append_metrics(step, row)

    def close(self) -> None:
        """Leave the terminal as it was found, under the bar."""
        self._bar.close()


Command = Callable[[RunDirectory, RunSpec, RunContext], None]


def run_main(
    package_name: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None
) -> int:
    """Execute `<command> RUN_DIR` and return the exit status.

    0: finished; 130: stopped on request after a checkpoint; 75: another process holds the folder,
    which is left alone; 76: another process of the run is gone, which is that one's failure to
    report, or an accident; 1: failed, and `failure.json` says why. Runs alone or under torchrun.
    Dies with torchrun, so no training outlives its launcher.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package_name}")
    parser.add_argument("command", choices=sorted(commands))
    parser.add_argument("run_directory", type=Path)
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    directory = RunDirectory(arguments.run_directory)
    if not (directory.root / "config.json").exists():
        parser.error(
            f"{directory.root} holds no config.json; `python -m records preset` prints one"
        )
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    try:
        with ExitStack() as stack, logging_redirect_tqdm():
            if rank == 0:
                stack.enter_context(directory.locked())
                directory.make_folders()
                directory.clear_failure()
            spec = directory.read_spec()
            context = _prepare(stack, directory, spec, rank, world_size)
            commands[arguments.command](directory, spec, context)
        if rank == 0:
            sys.stderr.write(_outcome(directory))
    except RunStopped:
        sys.stderr.write(f"{package_name} {arguments.command}: stopped on request\n")
        return EXIT_STOPPED
    except RunBusyError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BUSY
    except Exception as error:  # noqa: BLE001 - whatever it was, the run's page must show it
        if world_size > 1 and is_lost_process(error):
            sys.stderr.write(
                f"process {rank} of {world_size} ends, as another one is gone: {error}\n"
                "Started again, the run goes on from its last checkpoint.\n"
            )
            return EXIT_LOST
        directory.write_failure(error)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return EXIT_FAILED
    return 0


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when the one that started it dies."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(error)}")


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _prepare(
    stack: ExitStack, directory: RunDirectory, spec: RunSpec, rank: int, world_size: int
) -> RunContext:
    """Set threads, seeds, process group and signal handlers; undo them when `stack` closes."""
    config = spec.config
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    if torch.cuda.is_available() and config.device != "cpu":
        torch.cuda.set_device(own_gpu())
    seed_everything(config.seed)
    context = RunContext(directory, config, rank=rank, world_size=world_size)
    stack.callback(context.close)
    if world_size > 1:
        is_cuda = context.device.type == "cuda"
        dist.init_process_group(
            "nccl" if is_cuda else "gloo", device_id=context.device if is_cuda else None
        )
        stack.callback(dist.destroy_process_group)

    def request_stop(_signal: int, _frame: FrameType | None) -> None:
        context.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        stack.callback(signal.signal, number, signal.signal(number, request_stop))
    return context


def _outcome(directory: RunDirectory) -> str:
    """Return where the result of a finished run lies, and what it made."""
    result = directory.read_result()
    assert result is not None, "a run that ends well has written its result"
    lines = [f"finished: {directory.root / 'result.json'}"]
    lines += [f"  {name}: {directory.root / path}" for name, path in result["outputs"].items()]
    return "\n".join(lines) + "\n"


def _finite(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value
