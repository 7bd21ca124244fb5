"""The supervisor: runs a table of processes, starts again what dies, stops all when told.

`python -m embedded.supervisor` reads one line of JSON (table, folder of the logs, connection to
the keeper of the services) and runs the table until its standard input ends: that happens when
whoever started it closes it, and when they are killed. SIGTERM stops at once. Started by
`embedded.processes`.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded.children import adopt_orphans, end_children, end_orphans, signal_socket, spawn
from embedded.errors import ServiceError
from embedded.paths import PROJECT, open_log
from embedded.services import VARIABLES, join

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 60.0
"""A process that lived so long starts with the first pause again."""
_STOP = ((signal.SIGTERM, 15.0), (signal.SIGQUIT, 5.0))
"""Time to finish what is being done; then time to drop it. Celery and gunicorn read both so."""
_REMAINS_SECONDS = 5.0


@dataclass
class Child:
    """One row of the table and what became of it."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    pause_seconds: float = _FIRST_PAUSE_SECONDS

    def start(self) -> None:
        """Start the process, its output appended to the log."""
        output = open_log(self.log)
        try:
            # Without this supervisor nobody can insist, so the kernel sends the stronger signal.
            self.process = spawn(
                self.command,
                death_signal=signal.SIGQUIT,
                new_session=True,
                output=output,
                folder=PROJECT,
            )
        finally:
            os.close(output)
        self.started_at = time.monotonic()

    def note_death(self, status: int) -> None:
        """Plan the next start: at once it would die of the same cause, so the pauses grow."""
        now = time.monotonic()
        if now - self.started_at > _STEADY_SECONDS:
            self.pause_seconds = _FIRST_PAUSE_SECONDS
        _say(
            f"{self.name} ended with status {status}; it starts again in "
            f"{self.pause_seconds:g} s. Log: {self.log}"
        )
        self.process = None
        self.start_again_at = now + self.pause_seconds
        self.pause_seconds = min(2 * self.pause_seconds, _LONGEST_PAUSE_SECONDS)

    def end_remains(self) -> None:
        """Kill what the dead process left in its group, such as the pool of a worker."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        """Whether there is a live process."""
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """The loop over all children."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self.home = Path(specification["home"])
        logs = self.home / "logs"
        self.children = [
            Child(**row, log=logs / f"{row['name']}.log") for row in specification["table"]
        ]
        self.embedded: list[str] = specification["embedded"]
        descriptor: int | None = specification["connection"]
        self.connection = None if descriptor is None else socket.socket(fileno=descriptor)
        self.must_hurry = False
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._hurry)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _hurry(self, *_: object) -> None:
        self.must_hurry = True

    def run(self) -> None:
        """Keep the children up until standard input ends or SIGTERM comes."""
        with selectors.DefaultSelector() as selector, signal_socket() as signals:
            selector.register(sys.stdin.buffer, selectors.EVENT_READ)
            selector.register(signals, selectors.EVENT_READ)
            if self.connection is not None:
                selector.register(self.connection, selectors.EVENT_READ)
            while not self.must_hurry:
                self._start_what_is_due()
                for key, _ in selector.select(self._seconds_to_next_start()):
                    if key.fileobj is signals:
                        signals.recv(4096)
                        self._notice_deaths()
                    elif key.fileobj is self.connection:
                        self._rejoin(selector)
                    elif not os.read(sys.stdin.fileno(), 4096):
                        return

    def stop(self) -> None:
        """Ask every child to finish, then to drop its work; end what is left of them."""
        for number, seconds in _STOP:
            deadline = time.monotonic() + seconds
            for child in self.children:
                if child.process is not None and child.is_running:
                    child.process.send_signal(number)
            while any(child.is_running for child in self.children):
                if time.monotonic() > deadline or (self.must_hurry and number is signal.SIGTERM):
                    break
                time.sleep(0.05)
        for child in self.children:
            child.end_remains()
        end_children(patience_seconds=_REMAINS_SECONDS)

    def _rejoin(self, selector: selectors.BaseSelector) -> None:
        """Bring the embedded services back after their keeper was killed, at the same addresses."""
        assert self.connection is not None
        _say("the keeper of the services is gone; it is started again")
        selector.unregister(self.connection)
        self.connection.close()
        self.connection, urls = join(self.home, self.embedded)
        selector.register(self.connection, selectors.EVENT_READ)
        moved = [name for name, url in urls.items() if os.environ[VARIABLES[name]] != url]
        if moved:
            raise ServiceError(f"{', '.join(moved)} came back at another address: start again")

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.process is None and child.start_again_at <= now:
                child.start()

    def _seconds_to_next_start(self) -> float | None:
        waiting = [child.start_again_at for child in self.children if child.process is None]
        return max(min(waiting) - time.monotonic(), 0.0) if waiting else None

    def _notice_deaths(self) -> None:
        for child in self.children:
            status = None if child.process is None else child.process.poll()
            if status is not None:
                child.end_remains()
                child.note_death(status)
        end_orphans({child.process.pid for child in self.children if child.process})


def main() -> None:
    """Read the table, run it, stop it."""
    adopt_orphans()  # what a dying worker leaves behind becomes ours, and ends with us
    supervisor = Supervisor(json.loads(sys.stdin.buffer.readline()))
    try:
        supervisor.run()
    finally:
        supervisor.stop()


def _say(message: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
