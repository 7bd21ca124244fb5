"""Child processes that never outlive whoever supervises them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_IS_LINUX = sys.platform == "linux"
_prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl if _IS_LINUX else int


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel to kill this process the moment its parent is gone, even by `kill -9`.

    Does nothing where the kernel is not Linux. `parent_pid` closes the gap in which the parent died
    before the kernel was asked.
    """
    if not _IS_LINUX:
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def start_child(
    command: Sequence[str], *, log_path: Path, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    """Start `command` in a process group of its own, output appended to `log_path`.

    The group keeps a Ctrl-C meant for the worker away from the child.
    """
    parent_pid = os.getpid()
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent_pid),
        )


def kill_tree(child: subprocess.Popen[bytes]) -> None:
    """Kill `child` and everything below it, and wait for the child to be gone.

    torchrun starts its processes in sessions of their own, so killing one group is not enough.
    """
    pids = [child.pid, *descendants(child.pid)]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    child.wait()


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below `pid`; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def last_lines(path: Path, *, start: int = 0, num_bytes: int = 8192) -> str:
    """Return the end of a log from byte `start` on, from the beginning of a line.

    Empty when there is no log.
    """
    if not path.exists():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        begin = max(start, size - num_bytes)
        file.seek(begin)
        text = file.read().decode("utf-8", errors="replace")
    return text if begin == start else text.partition("\n")[2]
