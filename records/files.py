"""Files that are whole or absent: write beside, flush to disk, rename."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def write_text_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`; a crash leaves the old file or the new one."""
    with file_written_atomically(path) as file:
        file.write(text)


def write_json_atomically(path: Path, value: object) -> None:
    """Replace `path` by `value` as JSON; NaN and infinities are refused."""
    write_text_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def file_written_atomically(path: Path) -> Iterator[TextIO]:
    """Yield a text file that becomes `path` if the block ends well, and vanishes otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block ends well, and vanishes otherwise.

    An existing `path` is replaced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for item in temporary.rglob("*"):
            if item.is_file():
                sync_file(item)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file's bytes to disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
