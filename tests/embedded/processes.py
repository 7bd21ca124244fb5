"""Helpers: a second process that holds the services, and a look at which processes live."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent

_HOLD = """
import sys, time
from pathlib import Path
from embedded.services import ensure_services
with ensure_services(Path(sys.argv[1])) as services:
    print(services.database_url, services.redis_url, flush=True)
    sys.stdin.read()
"""


@dataclass
class Holder:
    """A process that holds the services of a data folder until it is told to leave."""

    process: subprocess.Popen[str]
    database_url: str
    redis_url: str

    @classmethod
    @contextmanager
    def start(cls, home: Path) -> Iterator["Holder"]:
        """Start one and wait until it has the services."""
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(home)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                database_url, redis_url = process.stdout.readline().split()
                yield cls(process, database_url, redis_url)
            finally:
                process.kill()
                wait_for(lambda: not processes_of(home), "the services of a killed holder stopped")

    def leave(self) -> None:
        """Let it leave in good order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        """End it without any chance to clean up."""
        self.process.kill()
        self.process.wait(30)


def processes_of(home: Path) -> dict[int, str]:
    """Return the live processes that work below `home` or name it in their command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            folder = str((entry / "cwd").readlink())
            is_dead = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if not is_dead and (str(home) in command or Path(folder).is_relative_to(home)):
            found[int(entry.name)] = command
    return found


def servers_of(home: Path) -> dict[str, int]:
    """Return the process ids of `keeper`, `postgres` (the first process) and `redis`."""
    names = {"embedded.keeper": "keeper", "postgres -D": "postgres", "redis-server": "redis"}
    return {
        name: pid
        for pid, command in processes_of(home).items()
        for part, name in names.items()
        if part in command
    }


def wait_for(condition: Callable[[], object], what: str, *, seconds: float = 20.0) -> None:
    """Wait until `condition` holds.

    Raises:
        AssertionError: It did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Return whether the process runs (a dead one that nobody reaped does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill(pid: int) -> None:
    """Send SIGKILL, unless the process has just died of another's."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
