"""What `python -m embedded` does: `run` a command with both services, or bring `up` everything."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from embedded.children import spawn
from embedded.errors import ServiceError
from embedded.paths import LOOPBACK, PROJECT, concord_home, next_free_port, tail
from embedded.processes import environment, running, web, workers
from embedded.services import VARIABLES, Services, ensure_services

_FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_FIRST_PORT = 8000
_WEB_TIMEOUT_SECONDS = 120.0


def run(command: Sequence[str]) -> int:
    """Run `command` with both services and a secret key in its environment; return its status.

    A command that died of signal N gives 128 + N, as in a shell. Where both services come from
    the environment, the command takes the place of this process.
    """
    home = concord_home()
    if all(os.environ.get(variable) for variable in VARIABLES.values()):
        with ensure_services(home) as services:
            variables = environment(services, home)
        os.execvpe(command[0], list(command), variables)  # noqa: S606 - the caller's own command
    watched = {*_FORWARDED, signal.SIGCHLD}
    with ensure_services(home) as services:
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        try:
            return _run_child(command, services, home, watched)
        finally:
            # The command is over, and so is what Ctrl-C was meant for.
            while signal.sigtimedwait(_FORWARDED, 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _run_child(
    command: Sequence[str], services: Services, home: Path, watched: set[signal.Signals]
) -> int:
    variables = environment(services, home)
    try:
        process = spawn(command, death_signal=signal.SIGTERM, environment=variables)
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be run: {error.strerror}") from error
    while process.poll() is None:
        received = signal.sigwaitinfo(watched)
        # Ctrl-C reaches the command by itself: the terminal sends it to both of us (and the
        # kernel marks it as its own). A signal that somebody sent to us alone is passed on.
        if received.si_signo in _FORWARDED and received.si_code <= 0:
            process.send_signal(received.si_signo)
    status = process.returncode
    return 128 - status if status < 0 else status


def up() -> int:
    """Bring up everything, say where, and stay until Ctrl-C or SIGTERM; return the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    home = concord_home()
    wanted = os.environ.get("CONCORD_PORT") or str(_FIRST_PORT)
    if not wanted.isdigit():
        raise ServiceError(f"CONCORD_PORT={wanted!r} is not a port")
    port = next_free_port(int(wanted))
    os.environ.setdefault("CONCORD_STATIC_ROOT", str(home / "static"))
    try:
        with ensure_services(home) as services:
            _say(f"PostgreSQL and Redis run; data in {home}")
            _prepare(services, home)
            table = (web(port), *workers(home))
            with running(table, services=services, home=home, show_messages=True) as supervisor:
                _wait_for_web(port, home)
                _say(f"Concord: http://{LOOPBACK}:{port}\nLogs: {home / 'logs'}\nCtrl-C stops it.")
                supervisor.wait()
                raise ServiceError("the supervisor of the processes ended")
    except KeyboardInterrupt:
        _say("Stopped.")
        return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _prepare(services: Services, home: Path) -> None:
    """Bring the database and the static files up to date."""
    steps = {
        "Migrating the database": ("migrate", "--noinput"),
        "Collecting static files": ("collectstatic", "--noinput"),
    }
    for title, arguments in steps.items():
        _say(title)
        finished = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--verbosity", "0"],
            cwd=PROJECT,
            env=environment(services, home),
            check=False,
        )
        if finished.returncode != 0:
            raise ServiceError(f"manage.py {arguments[0]} failed; its message is above")


def _wait_for_web(port: int, home: Path) -> None:
    deadline = time.monotonic() + _WEB_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.1)
    log = home / "logs" / "web.log"
    raise ServiceError(f"the web server does not answer; the end of {log}:\n{tail(log)}")


def _say(message: str) -> None:
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()
