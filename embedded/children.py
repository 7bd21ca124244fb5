"""Child processes that cannot outlive their parent, and the leftovers of those that were killed."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from embedded.identities import Identity, as_myself

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def spawn(
    command: Sequence[str | Path],
    *,
    death_signal: signal.Signals,
    identity: Identity = as_myself,
    new_session: bool = False,
    output: int | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` so that the kernel sends it `death_signal` when this process dies.

    Call it from the main thread of a process that has no other: the kernel watches the thread
    that started the child.

    Args:
        command: Program and arguments.
        death_signal: What the child gets when this process dies, even by `kill -9`.
        identity: As whom it runs.
        new_session: Take it out of the terminal's reach, so that Ctrl-C does not meet it.
        output: Descriptor for its output, with no input; None: it shares this process's terminal.
        environment: Its environment; None: this process's.
        folder: Its working folder; None: this process's.
    """
    parent = os.getpid()

    def prepare() -> None:
        identity()
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # A shell that starts us in the background has us ignore SIGQUIT, and children inherit it.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        if os.getppid() != parent:  # the parent died before the kernel was asked
            os._exit(1)

    return subprocess.Popen(
        command,
        preexec_fn=prepare,
        start_new_session=new_session,
        stdin=None if output is None else subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=None if environment is None else dict(environment),
        cwd=folder,
    )


def stop(
    process: subprocess.Popen[bytes], signals: Iterable[tuple[signal.Signals, float]]
) -> int | None:
    """Send each signal in turn, wait its seconds, then kill; return the exit status."""
    for number, seconds in signals:
        if process.poll() is not None:
            return process.returncode
        process.send_signal(number)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    return process.wait()


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when the one that started it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children(*, patience_seconds: float) -> None:
    """End and reap every child of this process, adopted ones included: SIGTERM, then SIGKILL."""
    deadline = time.monotonic() + patience_seconds
    number = signal.SIGTERM
    signalled: set[int] = set()
    while children := set(children_of(os.getpid())):
        if time.monotonic() > deadline and number is signal.SIGTERM:
            number = signal.SIGKILL
            signalled.clear()
        for pid in children - signalled:
            os.kill(pid, number)
        signalled |= children
        while _reap_one():
            pass
        time.sleep(0.02)


def end_orphans(own: Container[int]) -> None:
    """Ask every adopted child to end and reap those that have; `own` are the caller's to reap."""
    for pid in children_of(os.getpid()):
        if pid not in own:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, os.WNOHANG)


def children_of(pid: int) -> list[int]:
    """Return the ids of the direct children of `pid`, dead but unreaped ones included."""
    return [child for child in _process_ids() if _parent_of(child) == pid]


def wait_for_leftovers(folder: Path, program: str, *, patience_seconds: float) -> None:
    """Wait until no process of `program` works in `folder`; kill those that do after a while.

    A server whose parent was killed is told to stop by the kernel, but takes a moment. Servers
    work in their data folder, which is how they are known.
    """
    deadline = time.monotonic() + patience_seconds
    while leftovers := [pid for pid in _process_ids() if is_working_in(folder, program, pid)]:
        if time.monotonic() > deadline:
            for pid in leftovers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def is_working_in(folder: Path, program: str, pid: int) -> bool | None:
    """Return whether process `pid` runs `program` in `folder`; None where that is hidden."""
    process = Path(f"/proc/{pid}")
    try:
        is_program = (process / "comm").read_text().strip() == program
        return is_program and (process / "cwd").samefile(folder)
    except PermissionError:
        return None
    except OSError:
        return False  # it is no more


@contextmanager
def signal_socket() -> Iterator[socket.socket]:
    """Yield a socket that becomes readable when a signal with a handler arrives."""
    readable, writable = socket.socketpair()
    with readable, writable:
        readable.setblocking(False)
        writable.setblocking(False)
        signal.set_wakeup_fd(writable.fileno(), warn_on_full_buffer=False)
        try:
            yield readable
        finally:
            signal.set_wakeup_fd(-1)


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], *, timeout_seconds: float
) -> bool:
    """Return True as soon as `condition` holds, False when the process dies or time runs out."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return False


def _process_ids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _reap_one() -> bool:
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return pid != 0
