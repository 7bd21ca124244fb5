"""Where a clone keeps its data, and the small private files in it."""

import os
import secrets
import socket
from pathlib import Path

from embedded.errors import ServiceError

PROJECT = Path(__file__).resolve().parent.parent
"""The root of the clone; every child process starts there."""

LOOPBACK = "127.0.0.1"
_LOG_BYTES_KEPT = 8 * 1024 * 1024


def concord_home() -> Path:
    """Return the data folder: `CONCORD_HOME`, or `.concord` in the clone."""
    return Path(os.environ.get("CONCORD_HOME") or PROJECT / ".concord").resolve()


def private_folder(path: Path) -> Path:
    """Return `path` as a folder that only this user can enter, made where it is missing.

    Folders above it that had to be made get ordinary permissions; those that exist keep theirs.

    Raises:
        ServiceError: The folder cannot be made, or belongs to somebody else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
            give_to_owner_of_folder(path)
        owner = path.stat().st_uid
    except OSError as error:
        raise ServiceError(
            f"{path} cannot be used ({error.strerror}). "
            "Set CONCORD_HOME to a folder that you may write to."
        ) from error
    if os.geteuid() not in {0, owner}:
        raise ServiceError(
            f"{path} belongs to user {owner} and you are user {os.geteuid()}. "
            "Set CONCORD_HOME to a folder of your own."
        )
    return path


def give_to_owner_of_folder(path: Path) -> None:
    """Let a new file belong to whom its folder belongs, so that root leaves no trap in it."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid)


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step; only this user may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    give_to_owner_of_folder(temporary)
    temporary.replace(path)


def secret_key(home: Path) -> str:
    """Return `CONCORD_SECRET_KEY`, or the random key kept in `home`, made on first use."""
    if from_environment := os.environ.get("CONCORD_SECRET_KEY"):
        return from_environment
    path = home / "secret_key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        fresh = home / f".secret_key.{os.getpid()}"
        write_private(fresh, secrets.token_urlsafe(48))
        try:
            os.link(fresh, path)  # fails where another process was first: its key is the key
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text(encoding="utf-8").strip()


def free_port(wanted: int | None = None) -> int:
    """Return a loopback port that nobody listens on: `wanted` where it is free, else any."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServiceError(f"no free port on {LOOPBACK}")


def next_free_port(first: int) -> int:
    """Return the lowest free loopback port from `first` on.

    Raises:
        ServiceError: The hundred ports from `first` on are all taken.
    """
    for port in range(first, min(first + 100, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ServiceError(f"no free port from {first} on; set CONCORD_PORT to another one")


def open_log(path: Path) -> int:
    """Return a descriptor that appends to `path`; an old log beyond 8 MiB starts afresh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > _LOG_BYTES_KEPT:
        path.replace(path.with_name(f"{path.name}.1"))
    is_new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if is_new:
        give_to_owner_of_folder(path)
    return descriptor


def tail(path: Path, num_lines: int = 15) -> str:
    """Return the last lines of a log, for an error message."""
    if not path.exists():
        return "(no log)"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-num_lines:])
