"""The processes of one machine beside the two servers, as one table, and a way to run them.

They are children of a supervisor (`embedded.supervisor`) that starts them again when they die and
stops them when whoever asked for them leaves or is killed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import ServiceError
from embedded.paths import LOOPBACK, PROJECT, open_log, secret_key
from embedded.postgresql import programs
from embedded.services import Services

_STOP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Process:
    """One long-running process; its output goes to `<name>.log`."""

    name: str
    command: tuple[str, ...]


def worker(queue: str, *, pool: tuple[str, ...]) -> Process:
    """Return the Celery worker of one queue."""
    options = ("-Q", queue, *pool, "-n", f"{queue}@%h", "--loglevel", "INFO")
    command = _python("celery", "-A", "workers", "worker", *options)
    return Process(name=f"worker-{queue}", command=command)


def workers(home: Path) -> tuple[Process, ...]:
    """Return the processes behind the web: one worker per queue, and the schedule."""
    schedule = str(home / "beat-schedule")
    return (
        worker("cpu", pool=("-c", "2")),
        worker("gpu", pool=("-c", "2")),
        worker("sampling", pool=("-P", "solo")),  # holds the models; one is enough
        Process(name="beat", command=_python("celery", "-A", "workers", "beat", "-s", schedule)),
    )


def web(port: int) -> Process:
    """Return the web server."""
    options = ("--workers", "2", "--threads", "4", "--bind", f"{LOOPBACK}:{port}")
    return Process(
        name="web",
        # The control socket would be one per user, not per clone.
        command=_python("gunicorn", "webapp.wsgi", *options, "--no-control-socket"),
    )


def environment(services: Services, home: Path) -> dict[str, str]:
    """Return this process's environment with everything that Concord's own processes need.

    With the embedded PostgreSQL come its own `psql`, `pg_dump` and `pg_restore`: older ones of the
    system would refuse to work with it.
    """
    path = os.environ.get("PATH", os.defpath)
    if "postgres" in services.embedded:
        path = f"{programs()}{os.pathsep}{path}"
    return {
        **os.environ,
        **services.environment(),
        "PATH": path,
        "CONCORD_HOME": str(home),
        "CONCORD_SECRET_KEY": secret_key(home),
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
    }


@contextmanager
def running(
    table: Sequence[Process], *, services: Services, home: Path, show_messages: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Keep the processes of `table` running; yield their supervisor.

    Leaving stops them all and waits for it. When this process is killed they stop as well.

    Args:
        table: What to run, started in this order.
        services: What `ensure_services` gave; embedded ones stay up until the processes ended.
        home: The data folder; logs go to its folder `logs`, one a process, and `supervisor.log`.
        show_messages: Say on this terminal what dies and starts again, rather than in the log.

    Raises:
        ServiceError: The processes did not stop.
    """
    connection = services.connection
    specification = {
        "table": [{"name": item.name, "command": item.command} for item in table],
        "home": str(home),
        "connection": None if connection is None else connection.fileno(),
        "embedded": services.embedded,
    }
    log = open_log(home / "logs" / "supervisor.log")
    try:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "embedded.supervisor"],
            cwd=PROJECT,
            env=environment(services, home),
            stdin=subprocess.PIPE,
            stdout=None if show_messages else log,
            stderr=None if show_messages else log,
            pass_fds=[] if connection is None else [connection.fileno()],
            start_new_session=True,  # Ctrl-C is for us; the supervisor hears of it from us
        )
    finally:
        os.close(log)
    assert supervisor.stdin is not None
    try:
        supervisor.stdin.write(json.dumps(specification).encode() + b"\n")
        supervisor.stdin.flush()  # and stays open: its end is the sign to stop
        yield supervisor
    finally:
        _stop(supervisor)


def _stop(supervisor: subprocess.Popen[bytes]) -> None:
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    try:
        supervisor.wait(_STOP_TIMEOUT_SECONDS)
    except KeyboardInterrupt:
        supervisor.send_signal(signal.SIGTERM)  # asked twice: at once
        supervisor.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        supervisor.kill()
        supervisor.wait()
        raise ServiceError("the processes did not stop within a minute") from error


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
