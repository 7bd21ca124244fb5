"""Reading other people's data: lines of JSON with checked fields, and the count of what became."""

import gzip
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from records.errors import RecordError


class SkippedRowError(ValueError):
    """A row that holds no comparison; the message is the reason it is counted under."""


@dataclass
class ImportReport:
    """What an import read, kept, mended and skipped."""

    num_read: int = 0
    num_kept: int = 0
    mended: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Row:
    """An object of a file; what is wrong with a field is said with file, line and field."""

    path: Path
    line: int
    values: Mapping[str, Any]

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        """Return a field that is text.

        Raises:
            RecordError: It is missing, no text, or empty.
        """
        value = self.value(name)
        if not isinstance(value, str):
            raise self.error(name, f"{value!r} is not text")
        if not may_be_empty and not value.strip():
            raise self.error(name, "is empty")
        return value

    def choice(self, name: str, allowed: Collection[object]) -> Any:  # noqa: ANN401 - as in the file
        """Return a field that holds one of `allowed`.

        Raises:
            RecordError: It is missing or holds something else.
        """
        value = self.value(name)
        if isinstance(value, bool) or value not in allowed:
            raise self.error(name, f"{value!r} is not one of {', '.join(map(str, allowed))}")
        return value

    def value(self, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
        """Return a field as it is.

        Raises:
            RecordError: It is missing.
        """
        if name not in self.values:
            raise self.error(name, "is missing")
        return self.values[name]

    def part(self, values: object, name: str) -> "Row":
        """Return an object inside this row, found under `name`.

        Raises:
            RecordError: It is no object.
        """
        if not isinstance(values, dict):
            raise self.error(name, f"{str(values)[:40]!r} is not an object")
        return Row(self.path, self.line, values)

    def error(self, name: str, message: str) -> RecordError:
        """Return the error of one field of this row."""
        return RecordError(name, f"{self.path.name} line {self.line}: {message}")


def json_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of a `.jsonl.gz` file, one at a time.

    Raises:
        RecordError: There is no such file, or a line is no JSON object.
    """
    if not path.is_file():
        raise RecordError("data", f"there is no file {path}")
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                yield Row(path, number, parse_object(path.name, number, line))
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise RecordError("data", f"{path.name} is not gzipped UTF-8 text: {error}") from error


def parse_object(file: str, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object that a line holds.

    Raises:
        RecordError: It holds something else; names file and line.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError("data", f"{file} line {number} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise RecordError("data", f"{file} line {number} is no JSON object")
    return values
