"""Real workers for tests: a Celery process of its own, against the test database and Redis."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from records.rundirs import RunDirectory
from workers import redis_keys
from workers.processes import descendants, kill_tree, last_lines

T = TypeVar("T")

QUICK = {
    "CONCORD_RUN_HEARTBEAT_SECONDS": "1",
    "CONCORD_RUN_STALE_SECONDS": "3",
    "CONCORD_RUN_GRACE_SECONDS": "20",
    "CONCORD_MAINTENANCE_SECONDS": "1",
    "CONCORD_SAMPLING_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "CELERY_SKIP_CHECKS": "1",
}
"""A worker that notices deaths within seconds."""


def wait_until(condition: Callable[[], T], *, timeout_seconds: float = 120.0) -> T:
    """Return the first truthy value of `condition`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_seconds} s in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def environment_on_test_database(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Return the environment of a process that works on the test database."""
    url = urlsplit(os.environ["DATABASE_URL"])
    database_url = urlunsplit(url._replace(path="/" + str(connection.settings_dict["NAME"])))
    return {**os.environ, **QUICK, "DATABASE_URL": database_url, **(extra or {})}


def forget_messages() -> None:
    """Empty our queues and hints: messages that other tests left would be taken for ours."""
    client = redis_keys.client()
    for queue in ("cpu", "gpu", "sampling"):
        client.delete(queue, redis_keys.alive_key(queue))
    client.delete(redis_keys.SAMPLER_NUDGED)


@contextmanager
def celery_process(
    arguments: Sequence[str], ready: str, *, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `celery -A workers ...`, wait for `ready` in its log, and stop it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "workers", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment_on_test_database(environment),
                cwd=settings.BASE_DIR,
            )
        try:
            wait_until(lambda: ready in log.read_text() or process.poll() is not None)
            assert process.poll() is None, last_lines(log)
            yield process
        except BaseException:
            sys.stderr.write(last_lines(log, num_bytes=20_000))
            raise
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    kill_tree(process)


@contextmanager
def live_worker(
    queues: str = "cpu,gpu,sampling",
    *,
    num_processes: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of `queues` that is ready to take tasks."""
    name = f"test-{time.monotonic_ns()}@%h"
    arguments = ["worker", "-Q", queues, "-c", str(num_processes), "-n", name]
    arguments += ["--without-gossip", "--without-mingle"]
    with celery_process(arguments, " ready.", environment=environment) as process:
        yield process


@contextmanager
def live_beat() -> Iterator[subprocess.Popen[bytes]]:
    """Run beat, every second."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["beat", "--schedule", f"{folder}/schedule", "--pidfile", ""]
        with celery_process(arguments, "beat: Starting") as process:
            yield process


def training_processes(folder: Path) -> list[int]:
    """Return the processes that work on a run: those with its folder on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(path.parent.name)
        is_ours = str(folder).encode() in words and b"torch.distributed.run" not in words
        if is_ours and is_running(pid):
            found.append(pid)
    return found


def process_past_step(directory: RunDirectory, step: int) -> int | None:
    """Return the training process once the metrics have reached `step`."""
    rows, _ = directory.read_metrics()
    processes = training_processes(directory.root)
    return processes[0] if processes and rows and rows[-1]["step"] >= step else None


def kill_worker(worker: subprocess.Popen[bytes]) -> list[int]:
    """`kill -9` a worker's main process only; return the ids of all that were below it."""
    below = descendants(worker.pid)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    return below
