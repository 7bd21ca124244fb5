"""`python -m embedded up`: the web, the workers and the schedule of a fresh data folder."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedded.paths import free_port
from tests.embedded.processes import PROJECT, is_alive, processes_of, wait_for

pytestmark = pytest.mark.slow


@contextmanager
def everything(home: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Bring everything up; give the process and the address it prints."""
    port = str(free_port())
    with subprocess.Popen(
        [sys.executable, "-m", "embedded", "up"],
        cwd=PROJECT,
        env={**os.environ, "CONCORD_HOME": str(home), "CONCORD_PORT": port},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "it ended before the web answered"
                found = re.search(r"Concord: (\S+)", line)
            yield process, found[1]
        finally:
            process.kill()


def below(pid: int) -> set[int]:
    """Return every process below `pid`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def test_the_web_answers_the_workers_listen_and_sigterm_ends_it_all(home: Path) -> None:
    with everything(home) as (process, address):
        with urllib.request.urlopen(f"{address}/healthz", timeout=10) as response:  # noqa: S310
            assert json.load(response) == {"database": True, "redis": True}
        logs = [home / "logs" / f"worker-{queue}.log" for queue in ("cpu", "gpu", "sampling")]
        wait_for(
            lambda: all(" ready." in log.read_text() for log in logs),
            "every worker listens",
            seconds=60,
        )
        everybody = below(process.pid)
        assert len(everybody) >= 6  # supervisor, web, three workers, beat; and their own children
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert [pid for pid in everybody if is_alive(pid)] == []
    assert processes_of(home) == {}


def test_killed_it_leaves_nothing_behind(home: Path) -> None:
    with everything(home) as (process, _):
        everybody = below(process.pid)
        process.kill()
        wait_for(lambda: not any(map(is_alive, everybody)), "all ended", seconds=60)
        wait_for(lambda: not processes_of(home), "the services stopped", seconds=60)
