"""What PostgreSQL and Redis have in common as children of the keeper."""

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from embedded.children import spawn
from embedded.identities import Identity, as_myself
from embedded.paths import open_log, write_private


class Server(Protocol):
    """One server of the pair; `url` is valid from `start` to `stop`."""

    process: subprocess.Popen[bytes]
    url: str

    def start(self) -> None:
        """Start it, or start it again on the same port; return when it answers."""

    def stop(self) -> None:
        """Stop it cleanly."""


def package_folder(name: str) -> Path | None:
    """Return where the package `name` is installed, without importing it."""
    spec = find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def new_password() -> str:
    """Return a random password that needs no quoting anywhere."""
    return secrets.token_hex(24)


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the private text in `path`, made on first use: passwords, and ports that stay."""
    if not path.exists():
        write_private(path, make())
    return path.read_text(encoding="utf-8").strip()


def spawn_server(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals,
    identity: Identity = as_myself,
) -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, with its output in `log`."""
    output = open_log(log)
    try:
        return spawn(
            command,
            death_signal=death_signal,
            identity=identity,
            new_session=True,
            output=output,
            environment=clean_environment(),
            folder=Path("/"),
        )
    finally:
        os.close(output)


def clean_environment() -> Mapping[str, str]:
    """Return the environment without what would reconfigure a PostgreSQL program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
