"""A table of processes: started, started again, and stopped with everything below them."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded.processes import Process, running, web, workers
from embedded.services import ensure_services
from tests.embedded.processes import (
    PROJECT,
    is_alive,
    kill,
    processes_of,
    servers_of,
    wait_for,
)

_FAMILY = """
import os, subprocess, sys, time
from pathlib import Path
kind, folder = sys.argv[1], Path(sys.argv[2])
if kind == "parent":
    child = [sys.executable, "-c", Path(folder, "family.py").read_text(), "child", str(folder)]
    subprocess.Popen(child, start_new_session=True)
with (folder / kind).open("a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(60)
"""
_HOLD = """
import sys
from pathlib import Path
from embedded.processes import Process, running
from embedded.services import ensure_services
home = Path(sys.argv[1])
table = [Process(name="family", command=tuple(sys.argv[2:]))]
with ensure_services(home) as services, running(table, services=services, home=home) as supervisor:
    print(supervisor.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def family(tmp_path: Path) -> Process:
    """A process with a child in a session of its own, which it does not look after."""
    (tmp_path / "family.py").write_text(_FAMILY)
    command = (sys.executable, "-c", _FAMILY, "parent", str(tmp_path))
    return Process(name="family", command=command)


@pytest.fixture
def pids(tmp_path: Path) -> Callable[[str], list[int]]:
    """Return the process ids that a member of the family has had."""

    def read(kind: str) -> list[int]:
        path = tmp_path / kind
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    return read


def test_leaving_stops_every_process_and_what_it_left(
    home: Path, family: Process, pids: Callable[[str], list[int]]
) -> None:
    with ensure_services(home) as services, running([family], services=services, home=home):
        wait_for(lambda: pids("parent") and pids("child"), "the family started")
        assert is_alive(pids("parent")[0])
        assert is_alive(pids("child")[0])
    assert not is_alive(pids("parent")[0])
    assert not is_alive(pids("child")[0])
    assert processes_of(home) == {}


def test_a_process_that_dies_is_started_again_and_its_leftovers_end(
    home: Path, family: Process, pids: Callable[[str], list[int]]
) -> None:
    with ensure_services(home) as services, running([family], services=services, home=home):
        wait_for(lambda: len(pids("child")) == 1, "the family started")
        kill(pids("parent")[0])
        wait_for(lambda: len(pids("parent")) == 2, "the parent was started again")
        wait_for(lambda: not is_alive(pids("child")[0]), "the first child was ended")
    log = (home / "logs" / "supervisor.log").read_text()
    assert "family ended with status -9; it starts again in 1 s" in log


def test_the_pauses_grow_when_a_process_dies_again_and_again(home: Path) -> None:
    broken = Process(name="broken", command=(sys.executable, "-c", "raise SystemExit('broken')"))
    log = home / "logs" / "supervisor.log"
    with ensure_services(home) as services, running([broken], services=services, home=home):
        wait_for(lambda: log.read_text().count("ended") == 2, "it died twice")
    lines = log.read_text().splitlines()
    assert "starts again in 1 s" in lines[0]
    assert "starts again in 2 s" in lines[1]
    assert (home / "logs" / "broken.log").read_text() == "broken\nbroken\n"


def test_killing_the_holder_stops_everything(
    home: Path, family: Process, pids: Callable[[str], list[int]]
) -> None:
    with hold(home, family) as process:
        wait_for(lambda: pids("parent") and pids("child"), "the family started")
        process.kill()
        family_pids = pids("parent") + pids("child")
        wait_for(lambda: not any(map(is_alive, family_pids)), "the family ended")
    wait_for(lambda: not processes_of(home), "the services stopped")


def test_killing_the_supervisor_stops_its_processes(home: Path, tmp_path: Path) -> None:
    code = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))"
    pid_file = tmp_path / "pid"
    command = (sys.executable, "-c", f"{code}; time.sleep(60)", str(pid_file))
    with hold(home, Process(name="sleeper", command=command)) as process:
        assert process.stdout is not None
        supervisor = int(process.stdout.readline())
        wait_for(lambda: pid_file.exists() and pid_file.read_text(), "it started")
        kill(supervisor)
        wait_for(lambda: not is_alive(int(pid_file.read_text())), "it ended")
        process.kill()
    wait_for(lambda: not processes_of(home), "the services stopped")


def test_the_services_come_back_when_their_keeper_is_killed(home: Path, family: Process) -> None:
    with ensure_services(home) as services, running([family], services=services, home=home):
        before = servers_of(home)
        kill(before["keeper"])
        wait_for(
            lambda: (
                servers_of(home).keys() == before.keys()
                and not set(servers_of(home).values()) & set(before.values())
            ),
            "new servers run",
        )
        with ensure_services(home) as again:
            assert again.environment() == services.environment()
    wait_for(lambda: not processes_of(home), "the services stopped")


def test_sigterm_to_the_supervisor_does_not_wait_for_unfinished_work(home: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('working', flush=True); time.sleep(60)"
    )
    table = [Process(name="stubborn", command=(sys.executable, "-c", stubborn))]
    log = home / "logs" / "stubborn.log"
    with (
        ensure_services(home) as services,
        running(table, services=services, home=home) as supervisor,
    ):
        wait_for(lambda: log.exists() and log.read_text(), "it started")
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(5)


def test_the_table_names_each_process_once_and_each_queue_has_its_worker(home: Path) -> None:
    table = (web(8000), *workers(home))
    assert [process.name for process in table] == [
        "web", "worker-cpu", "worker-gpu", "worker-sampling", "beat",
    ]  # fmt: skip
    queues = [p.command[p.command.index("-Q") + 1] for p in table if "-Q" in p.command]
    assert queues == ["cpu", "gpu", "sampling"]


def hold(home: Path, process: Process) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(home), *process.command],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
