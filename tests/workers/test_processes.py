"""Child processes die with their supervisor and leave a readable log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.processes import descendants, kill_tree, last_lines, start_child

SLEEP = "import time; time.sleep(60)"
PARENT = """
import os, sys, time
from pathlib import Path
from workers.processes import start_child
child = start_child([sys.executable, "-c", "import time; time.sleep(60)"],
                    log_path=Path(sys.argv[1]), environment=os.environ, folder=Path.cwd())
print(child.pid, flush=True)
time.sleep(60)
"""


def wait_until(condition: Callable[[], bool], *, timeout_seconds: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child_pid = int(parent.stdout.readline())
        assert is_running(child_pid)
        parent.kill()
    wait_until(lambda: not is_running(child_pid))


def test_kill_tree_reaches_grandchildren_in_sessions_of_their_own(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}], start_new_session=True)"  # noqa: E501
    child = start_child(
        [sys.executable, "-c", code],
        log_path=tmp_path / "log.txt",
        environment=os.environ,
        folder=tmp_path,
    )
    wait_until(lambda: len(descendants(child.pid)) == 1)
    (grandchild,) = descendants(child.pid)
    kill_tree(child)
    assert child.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(grandchild))


def test_a_child_is_out_of_reach_of_the_terminals_interrupt(tmp_path: Path) -> None:
    child = start_child(
        [sys.executable, "-c", SLEEP],
        log_path=tmp_path / "log.txt",
        environment=os.environ,
        folder=tmp_path,
    )
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    kill_tree(child)


def test_output_of_every_start_is_appended_to_one_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for word in ("first", "second"):
        code = f"import sys; print({word!r}); print('error', file=sys.stderr)"
        child = start_child(
            [sys.executable, "-u", "-c", code],
            log_path=log,
            environment=os.environ,
            folder=tmp_path,
        )
        child.wait()
    assert log.read_text().split() == ["first", "error", "second", "error"]


@pytest.mark.parametrize(
    ("text", "num_bytes", "expected"),
    [
        ("one\ntwo\nthree\n", 100, "one\ntwo\nthree\n"),  # the whole file fits
        ("one\ntwo\nthree\n", 8, "three\n"),  # "o\nthree\n": the cut line is left out
        ("", 8, ""),
    ],
)
def test_last_lines_begin_with_a_whole_line(
    tmp_path: Path, text: str, num_bytes: int, expected: str
) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    assert last_lines(log, num_bytes=num_bytes) == expected


def test_last_lines_leave_out_an_earlier_start(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("earlier\nlater\n")
    assert last_lines(log, start=8) == "later\n"


def test_last_lines_of_no_log_are_empty(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "absent.txt") == ""
