"""JSON Lines: one object a line."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from records.errors import RecordError


def write_json_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Write one JSON object a line and return how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_json_lines(path: Path) -> Iterator[dict[str, object]]:
    """Yield the object of each line.

    Raises:
        RecordError: A line is not JSON; says which.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise RecordError(path.name, f"line {number} is not JSON: {error}") from error
