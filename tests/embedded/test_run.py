"""`python -m embedded run`: a command with both services around it."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.embedded.processes import PROJECT, is_alive, processes_of, wait_for

_SHOW_ENVIRONMENT = (
    "import json, os; print(json.dumps({name: os.environ.get(name) for name in "
    "['DATABASE_URL', 'REDIS_URL', 'CONCORD_SECRET_KEY', 'CONCORD_HOME']}))"
)
_WAIT_FOR_SIGNAL = """
import os, signal, sys
expected = {signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, expected)
print(os.getpid(), flush=True)
print("got", signal.Signals(signal.sigwait(expected)).name, flush=True)
sys.exit(7)
"""
_COUNT_INTERRUPTS = """
import signal, sys, time
count = 0
def note(number, frame):
    global count
    count += 1
signal.signal(signal.SIGINT, note)
print("ready", flush=True)
end = time.monotonic() + 2
while time.monotonic() < end:
    time.sleep(0.05)
print("interrupts:", count, flush=True)
"""


@pytest.fixture(autouse=True)
def home_in_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCORD_HOME", str(home))


def embedded_run(*command: str) -> list[str]:
    return [sys.executable, "-m", "embedded", "run", "--", *command]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        embedded_run(*command), cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )


def start(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(embedded_run(*command), cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_the_command_finds_both_services_and_a_secret_key(home: Path) -> None:
    finished = run(sys.executable, "-c", _SHOW_ENVIRONMENT)
    found = json.loads(finished.stdout)
    assert found["DATABASE_URL"].startswith("postgres://concord:")
    assert found["REDIS_URL"].startswith("redis://:")
    assert found["CONCORD_HOME"] == str(home)
    assert len(found["CONCORD_SECRET_KEY"]) >= 50
    assert processes_of(home) == {}


def test_the_command_finds_the_servers_own_client_programs() -> None:
    finished = run("sh", "-c", 'pg_dump --schema-only "$DATABASE_URL" | grep "database version"')
    assert finished.stdout.startswith("-- Dumped from database version 18.")


def test_the_secret_key_is_kept_for_the_next_time_and_private(home: Path) -> None:
    first, second = (json.loads(run(sys.executable, "-c", _SHOW_ENVIRONMENT).stdout)
                     ["CONCORD_SECRET_KEY"] for _ in range(2))  # fmt: skip
    assert first == second == (home / "secret_key").read_text()
    assert stat.S_IMODE((home / "secret_key").stat().st_mode) == 0o600


def test_what_the_environment_sets_is_handed_on_and_nothing_is_started(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://someone@elsewhere/name")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("CONCORD_SECRET_KEY", "given")
    before = (home / "services" / "keeper.log").stat().st_mtime
    found = json.loads(run(sys.executable, "-c", _SHOW_ENVIRONMENT).stdout)
    assert found == {
        "DATABASE_URL": "postgres://someone@elsewhere/name",
        "REDIS_URL": "redis://elsewhere",
        "CONCORD_SECRET_KEY": "given",
        "CONCORD_HOME": str(home),
    }
    assert (home / "services" / "keeper.log").stat().st_mtime == before


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
    ],
)
def test_the_exit_status_is_the_commands(code: str, status: int) -> None:
    assert run(sys.executable, "-c", code).returncode == status


def test_a_command_that_cannot_be_run_is_named(home: Path) -> None:
    finished = run("no-such-program")
    assert finished.returncode == 1
    assert finished.stderr == (
        "embedded: no-such-program cannot be run: No such file or directory\n"
    )
    assert processes_of(home) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_the_services_stop(home: Path, number: signal.Signals) -> None:
    with start(sys.executable, "-c", _WAIT_FOR_SIGNAL) as process:
        first_line(process)
        process.send_signal(number)
        assert first_line(process) == f"got {number.name}\n"
        assert process.wait(30) == 7
    assert processes_of(home) == {}


def test_ctrl_c_in_a_terminal_reaches_the_command_once(home: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        command = embedded_run(sys.executable, "-c", _COUNT_INTERRUPTS)
        os.execv(sys.executable, command)  # noqa: S606 - nothing between terminal and command
    output = b""
    try:
        while b"ready" not in output:
            output += os.read(terminal, 1024)
        os.write(terminal, b"\x03")
        while b"interrupts: " not in output:
            output += os.read(terminal, 1024)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert b"interrupts: 1" in output
    assert os.waitstatus_to_exitcode(status) == 0
    assert processes_of(home) == {}


def test_killed_it_takes_the_command_and_the_services_with_it(home: Path) -> None:
    with start(sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); "
               "time.sleep(60)") as process:  # fmt: skip
        child = int(first_line(process))
        process.kill()
        wait_for(lambda: not is_alive(child), "the command ended")
        wait_for(lambda: not processes_of(home), "the services stopped")


def test_it_ends_with_its_parent_when_asked_to(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c",
         "import subprocess, sys; subprocess.run(sys.argv[1:])",
         sys.executable, "-m", "embedded", "--end-with-parent", "run", "--",
         sys.executable, "-c", _WAIT_FOR_SIGNAL],
        cwd=PROJECT, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        child = int(first_line(parent))
        parent.kill()
        wait_for(lambda: not is_alive(child), "the command ended")
        assert first_line(parent) == "got SIGTERM\n"
        wait_for(lambda: not processes_of(home), "the services stopped")


def test_two_commands_at_once_share_the_services() -> None:
    with start(sys.executable, "-c", f"{_SHOW_ENVIRONMENT}; input()") as first:
        shared = json.loads(first_line(first))
        finished = run(sys.executable, "-c", _SHOW_ENVIRONMENT)
        assert json.loads(finished.stdout) == shared
        first.terminate()


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--"], ["down"]])
def test_a_wrong_command_line_gets_the_usage(arguments: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "embedded", *arguments],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: python -m embedded ")
