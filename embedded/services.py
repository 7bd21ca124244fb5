"""The door to PostgreSQL and Redis: those of the environment, or a pair of the clone's own.

The pair is started by a keeper process (`embedded.keeper`) that belongs to the data folder, not to
whoever asked first. Everybody who needs the services holds a connection to the keeper; the kernel
closes it when its holder dies, however it dies. When the last connection goes, the keeper stops
both servers and itself. So `make up` and a shell beside it share one pair, either may end first,
and a `kill -9` leaves nothing behind.
"""

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import ServiceError
from embedded.paths import (
    PROJECT,
    concord_home,
    give_to_owner_of_folder,
    open_log,
    private_folder,
    tail,
)

VARIABLES = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
"""Service and the variable that names it; where the variable is set nothing is started."""

_ANSWER_TIMEOUT_SECONDS = 180.0
_STOP_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Services:
    """Where the two services are; the embedded ones have their passwords in the URL."""

    database_url: str
    redis_url: str
    connection: socket.socket | None = None
    """Held while embedded services are needed; None where both come from the environment."""
    embedded: tuple[str, ...] = ()
    """Which of them are embedded."""

    def environment(self) -> dict[str, str]:
        """Return the variables that a child process needs."""
        return {"DATABASE_URL": self.database_url, "REDIS_URL": self.redis_url}


@contextmanager
def ensure_services(data_dir: Path | None = None, *, durable: bool = True) -> Iterator[Services]:
    """Yield both services; the variables set in the environment are taken as they are.

    What is missing runs from `data_dir` (default: the clone's `.concord`) until the last process
    that asked for it has left. Leaving waits for that stop, so a folder may be deleted afterwards.

    Args:
        data_dir: The data folder; the services live in its folder `services`.
        durable: False leaves out every wait for the disk: for tests and other throw-away data.

    Raises:
        ServiceError: A service could not be started.
    """
    urls = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
    missing = [name for name, url in urls.items() if not url]
    if not missing:
        yield Services(database_url=urls["postgres"], redis_url=urls["redis"])
        return
    connection, started = join(data_dir or concord_home(), missing, durable=durable)
    try:
        urls.update(started)
        yield Services(
            database_url=urls["postgres"],
            redis_url=urls["redis"],
            connection=connection,
            embedded=tuple(missing),
        )
    finally:
        leave(connection)


def join(
    data_dir: Path, names: Sequence[str], *, durable: bool = True
) -> tuple[socket.socket, Mapping[str, str]]:
    """Return a connection that keeps the services `names` alive, and their URLs."""
    if sys.platform != "linux":
        raise ServiceError(
            "the embedded services need Linux. Set DATABASE_URL and REDIS_URL to servers of yours."
        )
    folder = private_folder(data_dir.resolve() / "services")
    request = json.dumps({"services": list(names), "durable": durable}).encode() + b"\n"
    deadline = time.monotonic() + _ANSWER_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        connection = _connect(folder)
        if connection is None:
            if not _start_keeper(folder):
                time.sleep(0.02)  # another process starts one, or an old one is stopping
            continue
        with ExitStack() as unless_kept:
            unless_kept.enter_context(connection)
            answer = _ask(connection, request)
            if answer is None:
                continue
            if "error" in answer:
                raise ServiceError(answer["error"])
            unless_kept.pop_all()
            return connection, answer
    raise ServiceError(f"the services in {folder} did not answer; see {folder / 'keeper.log'}")


def leave(connection: socket.socket) -> None:
    """Give the services back; where nobody else needs them, return when they have stopped."""
    with connection:
        connection.settimeout(_STOP_TIMEOUT_SECONDS)
        try:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1024):
                pass
        except TimeoutError as error:
            raise ServiceError("the embedded services did not stop within a minute") from error
        except OSError:
            return  # the keeper is gone already, and its servers with it


def socket_address(folder_descriptor: int) -> str:
    """Return the keeper's address, short however deep the folder lies.

    The path of a Unix socket may have 107 bytes; through the descriptor it always fits.
    """
    return f"/proc/self/fd/{folder_descriptor}/keeper.sock"


def _connect(folder: Path) -> socket.socket | None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_ANSWER_TIMEOUT_SECONDS)
        connection.connect(socket_address(descriptor))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


def _ask(connection: socket.socket, request: bytes) -> Mapping[str, str] | None:
    """Return the keeper's answer, or None where it was just stopping."""
    line = b""
    try:
        connection.sendall(request)
        while not line.endswith(b"\n"):
            data = connection.recv(65536)
            if not data:
                return None
            line += data
    except ConnectionError:
        return None
    answer: dict[str, str] = json.loads(line)
    return answer


def _start_keeper(folder: Path) -> bool:
    """Start the keeper of `folder` unless one holds the lock; True when it listens.

    The lock is taken here and handed down, so there is no moment in which two could start.
    """
    path = folder / "keeper.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        give_to_owner_of_folder(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        log = folder / "keeper.log"
        output = open_log(log)
        try:
            command = [sys.executable, "-m", "embedded.keeper", str(folder), str(lock)]
            finished = subprocess.run(
                command,
                cwd=PROJECT,
                pass_fds=[lock],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
        finally:
            os.close(output)
        if finished.returncode != 0:
            raise ServiceError(f"the keeper of {folder} did not start:\n{tail(log)}")
        return True
    finally:
        os.close(lock)
