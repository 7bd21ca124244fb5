"""Content digests: the name of an artifact is what is in it."""

import hashlib
from pathlib import Path


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_path(path: Path) -> str:
    """Return the digest of a file, or of a folder's names and contents in sorted order."""
    if path.is_file():
        return digest_file(path)
    names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    lines = "".join(f"{name}\0{digest_file(path / name)}\n" for name in names)
    return digest_bytes(lines.encode())
